// SPDX-License-Identifier: BSD-3-Clause
// Random numbers that are the same again for the same seed (splitmix64).
#ifndef HARNESS_RANDOM_H
#define HARNESS_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t x = random->state += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline struct random random_seeded(uint64_t seed)
{
    struct random random = {seed};

    random.state = random_next(&random); // near seeds, far sequences
    return random;
}

// 0 to bound - 1; bound >= 1.
static inline uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)(random_next(random) % bound);
}

#endif

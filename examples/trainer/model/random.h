// SPDX-License-Identifier: BSD-3-Clause
// Random numbers that depend on the seed alone (SplitMix64, Steele et al.
// 2014): every rank and every run draws the same. Not for secrets.
#ifndef TRAINER_RANDOM_H
#define TRAINER_RANDOM_H

#include <stdint.h>

// The next 64 bits.
static inline uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// An integer in [0, bound), bound >= 1. The bias is below bound / 2^32.
static inline int32_t random_below(uint64_t *state, int32_t bound)
{
    return (int32_t)(((random_next(state) >> 32) * (uint64_t)bound) >> 32);
}

// A float in [-1, 1), on a grid of 2^-23.
static inline float random_symmetric(uint64_t *state)
{
    int32_t bits = (int32_t)(random_next(state) >> 40); // 24 bits

    return (float)(bits - (1 << 23)) * 0x1p-23f;
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// See health.h.
#include "core/health.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/error.h"

// One word a rank, so that state and time are read together: the time in the
// upper bits, the state in the lowest two. 0 is PRESENT.
#define STATE_BITS 2

struct health {
    atomic_uint version;
    int32_t world_size;
    _Atomic int64_t word[];
};

tally_status_t health_create(int32_t world_size, struct health **out)
{
    struct health *health;

    health = calloc(1, sizeof(*health) + (size_t)world_size * sizeof(int64_t));
    if (health == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)world_size);
    health->world_size = world_size;
    *out = health;
    return TALLY_OK;
}

void health_free(struct health *health)
{
    free(health);
}

static enum health_state state_of(int64_t word)
{
    return (enum health_state)(word & ((1 << STATE_BITS) - 1));
}

void health_report(struct health *health, int32_t rank, enum health_state state)
{
    int64_t word = (clock_now_us() << STATE_BITS) | (int64_t)state;

    if (rank < 0 || rank >= health->world_size)
        return;
    int64_t known = atomic_load(&health->word[rank]);
    while (known == 0 ||
           (state_of(known) == HEALTH_LOST && state != HEALTH_LOST)) {
        if (!atomic_compare_exchange_weak(&health->word[rank], &known, word))
            continue;
        atomic_fetch_add(&health->version, 1);
        return;
    }
}

uint32_t health_version(const struct health *health)
{
    return atomic_load_explicit(&health->version, memory_order_acquire);
}

enum health_state health_rank(const struct health *health, int32_t rank,
                              int64_t *reported_us)
{
    int64_t word = atomic_load(&health->word[rank]);

    if (reported_us != NULL)
        *reported_us = word >> STATE_BITS;
    return state_of(word);
}

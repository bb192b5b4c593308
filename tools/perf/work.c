// SPDX-License-Identifier: BSD-3-Clause
// See work.h.
#include "perf/work.h"

#include <stdlib.h>

// SplitMix64's finalizer.
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void draw_tokens(uint64_t seed, struct work_tokens *tokens)
{
    for (int i = 0; i < WORK_TOKENS; i++) {
        uint64_t bits = mix(seed * WORK_TOKENS + (uint64_t)i + 1);

        tokens->labels[i] =
            bits % 4 == 0 ? WORK_IGNORE : (int32_t)(bits / 4 % WORK_VOCAB);
        // Thirds: weights whose lanes are full of bits.
        tokens->weights[i] = (float)(1 + (bits >> 32) % 4096) / 3;
    }
}

static uint64_t seed_of(int32_t rank, uint32_t variant, uint32_t record)
{
    return (uint64_t)(uint32_t)rank << 32 | variant << 16 | record;
}

bool work_create(struct work *work, int32_t rank, int32_t ranks,
                 uint32_t records)
{
    size_t count = (size_t)WORK_VARIANTS * records;

    *work = (struct work){
        .records = records,
        .tokens = calloc(count, sizeof(*work->tokens)),
        .totals = calloc(count, sizeof(*work->totals)),
    };
    if (work->tokens == NULL || work->totals == NULL) {
        work_free(work);
        return false;
    }
    for (size_t at = 0; at < count; at++) {
        uint32_t variant = (uint32_t)(at / records);
        uint32_t record = (uint32_t)(at % records);

        for (int32_t r = 0; r < ranks; r++) {
            struct work_tokens tokens;
            draw_tokens(seed_of(r, variant, record), &tokens);
            work_count(&tokens, &work->totals[at]);
        }
        draw_tokens(seed_of(rank, variant, record), &work->tokens[at]);
    }
    return true;
}

void work_free(struct work *work)
{
    free(work->tokens);
    free(work->totals);
    *work = (struct work){0};
}

void work_count(const struct work_tokens *tokens, struct numeric_record *record)
{
    for (int i = 0; i < WORK_TOKENS; i++) {
        int64_t q;

        if (tokens->labels[i] == WORK_IGNORE ||
            !numeric_encode((double)tokens->weights[i], &q))
            continue;
        numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
        record->count++;
    }
    numeric_record_fold(record);
}

// SPDX-License-Identifier: BSD-3-Clause
// See holding.h.
#include "conformance/holding.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned mix(unsigned a, unsigned b)
{
    unsigned x = a * 0x9e3779b9u ^ (b + 0x7f4a7c15u);

    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    return x ^ (x >> 13);
}

void holding_fill(struct holding *holding, int32_t rank, int epoch,
                  uint32_t channel)
{
    unsigned seed = mix(mix((unsigned)rank, (unsigned)epoch), channel);

    holding->tokens = rand_r(&seed) % (HOLDING_TOKENS_MAX + 1);
    for (int64_t t = 0; t < holding->tokens; t++) {
        // Ignored, out of range, or one of the vocabulary.
        holding->labels[t] = rand_r(&seed) % 4 == 0 ? -100
                             : rand_r(&seed) % 8 == 0
                                 ? HOLDING_VOCAB
                                 : rand_r(&seed) % HOLDING_VOCAB;
        holding->weights[t] =
            ((float)rand_r(&seed) - 1e8f) / (float)(1 + rand_r(&seed) % 5000);
    }
}

void holding_add(const struct holding *holding, struct numeric_record *record)
{
    for (int64_t t = 0; t < holding->tokens; t++) {
        int64_t q;
        if (holding->labels[t] == -100)
            continue;
        if (holding->labels[t] == HOLDING_VOCAB ||
            !numeric_encode((double)holding->weights[t], &q)) {
            record->bad_labels++;
            continue;
        }
        record->count++;
        numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    }
    numeric_record_fold(record);
}

float holding_offer(int32_t rank, int epoch)
{
    return (float)(mix((unsigned)rank, (unsigned)epoch) % 1000) - 500.0f;
}

struct numeric_record holding_total(int32_t ranks, int epoch, uint32_t channel)
{
    struct numeric_record total = {0};

    for (int32_t rank = 0; rank < ranks; rank++) {
        struct holding holding;

        holding_fill(&holding, rank, epoch, channel);
        holding_add(&holding, &total);
    }
    return total;
}

float holding_most(int32_t ranks, int epoch)
{
    float most = holding_offer(0, epoch);

    for (int32_t rank = 1; rank < ranks; rank++)
        if (holding_offer(rank, epoch) > most)
            most = holding_offer(rank, epoch);
    return most;
}

// FNV-1a.
static void add_bytes(uint64_t *digest, const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < count; i++)
        *digest = (*digest ^ byte[i]) * 1099511628211u;
}

void holding_digest(uint64_t *digest, float most,
                    const struct numeric_record *totals, uint32_t channels)
{
    add_bytes(digest, &most, sizeof(most));
    for (uint32_t k = 0; k < channels; k++) {
        const int64_t lanes[] = {totals[k].weight_hi, totals[k].weight_lo,
                                 totals[k].count, totals[k].bad_labels};

        add_bytes(digest, lanes, sizeof(lanes));
    }
}

void holding_digest_print(int32_t ranks, uint32_t channels, uint64_t digest)
{
    printf("%d ranks, %u channels: %016" PRIx64 "\n", (int)ranks,
           (unsigned)channels, digest);
}

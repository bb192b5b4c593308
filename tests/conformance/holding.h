// SPDX-License-Identifier: BSD-3-Clause
// What each rank of a conformance run holds in each epoch and channel, what all
// of it comes to, and a digest of that.
#ifndef CONFORMANCE_HOLDING_H
#define CONFORMANCE_HOLDING_H

#include <stdint.h>

#include "numeric/record.h"

#define HOLDING_TOKENS_MAX 24
#define HOLDING_VOCAB 11

struct holding {
    int64_t tokens;
    int32_t labels[HOLDING_TOKENS_MAX];
    float weights[HOLDING_TOKENS_MAX];
};

// Ragged, with ignored and bad labels, and weights of both signs.
void holding_fill(struct holding *holding, int32_t rank, int epoch,
                  uint32_t channel);
// Adds it to a record, as a device does.
void holding_add(const struct holding *holding, struct numeric_record *record);
// What the rank offers to the MAX lane.
float holding_offer(int32_t rank, int epoch);

// Of all ranks.
struct numeric_record holding_total(int32_t ranks, int epoch, uint32_t channel);
float holding_most(int32_t ranks, int epoch);

// Of results: begins with HOLDING_DIGEST, takes one epoch after the other.
#define HOLDING_DIGEST 14695981039346656037u
void holding_digest(uint64_t *digest, float most,
                    const struct numeric_record *totals, uint32_t channels);

// Prints the line that is compared.
void holding_digest_print(int32_t ranks, uint32_t channels, uint64_t digest);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What each rank contributes to each all-reduce, and what must come out: known
// beforehand at every rank, and another in every iteration. Shared by Tally's
// measurement and the MPI program, so it needs neither.
#ifndef PERF_WORK_H
#define PERF_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "numeric/record.h"

#define WORK_RECORDS_MAX 64
#define WORK_TOKENS 8
#define WORK_VOCAB 1000
#define WORK_IGNORE (-100)
// Iterations repeat after so many: results differ from one to the next.
#define WORK_VARIANTS 16

// One rank's tokens of one channel in one iteration.
struct work_tokens {
    int32_t labels[WORK_TOKENS];
    float weights[WORK_TOKENS];
};

struct work {
    uint32_t records;
    struct work_tokens *tokens;    // [WORK_VARIANTS][records], of this rank
    struct numeric_record *totals; // [WORK_VARIANTS][records], folded
};

// false if there is no memory.
bool work_create(struct work *work, int32_t rank, int32_t ranks,
                 uint32_t records);
void work_free(struct work *work);

static inline const struct work_tokens *
work_tokens(const struct work *work, uint64_t iteration, uint32_t record)
{
    return &work->tokens[iteration % WORK_VARIANTS * work->records + record];
}

static inline const struct numeric_record *
work_total(const struct work *work, uint64_t iteration, uint32_t record)
{
    return &work->totals[iteration % WORK_VARIANTS * work->records + record];
}

// Adds weight and count of the tokens to the record and folds it.
void work_count(const struct work_tokens *tokens,
                struct numeric_record *record);

#endif

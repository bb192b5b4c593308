// SPDX-License-Identifier: BSD-3-Clause
// All ranks of a test in one thread, over one fake network, each with the same
// reducers.
#ifndef HARNESS_COLLECTIVE_JOB_H
#define HARNESS_COLLECTIVE_JOB_H

#include "harness/collective.h"

#define JOB_RANKS_MAX 20
#define JOB_REDUCERS_MAX 10

struct collective_reducer {
    uint32_t radix;
    struct lanes_shape shape;
    uint64_t reductions; // that a test wants of it
};

struct collective_job {
    int32_t size;
    collective_layout_fn layout;
    const struct collective_reducer *reducers;
    size_t reducer_count;
    struct fake_network *network; // NULL: one node
    struct collective_rank ranks[JOB_RANKS_MAX];
    // [reducer][rank]; NULL where a test gave it away or freed it.
    struct allreduce *allreduces[JOB_REDUCERS_MAX][JOB_RANKS_MAX];
};

// Asserts that it works. Borrows layout and reducers; tag spaces are 1, 2, ...
// options: NULL for no network.
void collective_job_open(struct collective_job *job, int32_t size,
                         const struct fake_options *options,
                         collective_layout_fn layout,
                         const struct collective_reducer *reducers,
                         size_t count);

// Asserts that no send buffer was used too early.
void collective_job_close(struct collective_job *job);

struct fake_counts collective_job_counts(const struct collective_job *job,
                                         int32_t rank);

// Starts reduction `sequence` of the first reducer, with lanes_fill.
void collective_job_start(struct collective_job *job, int32_t rank,
                          uint64_t sequence);

// Moves the first reducer of a rank.
tally_status_t collective_job_move(struct collective_job *job, int32_t rank);

// Whether its result is that of reduction `sequence`.
bool collective_job_right(const struct collective_job *job, int32_t rank,
                          uint64_t sequence);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The sum of gradients over the ranks of one host, in shared memory. It stands
// for what the framework does in real training (the all-reduce of DDP, the
// reduce-scatter of FSDP) and is no part of Tally, which reduces losses and
// counts only.
//
// Sums are made in the order of ranks in float64: every rank gets the same
// bits. A rank that dies or gives up makes the others fail, at once; a rank
// that stands still makes them fail after GRADIENT_SUM_PATIENCE_S.
#ifndef TRAINER_GRADIENT_SUM_H
#define TRAINER_GRADIENT_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRADIENT_SUM_PATIENCE_S 60

struct gradient_sum;

struct gradient_sum_params {
    const char *name; // of the POSIX shared-memory segment, without '/'; may be
                      // NULL if there is one rank
    int32_t rank;
    int32_t ranks;
    size_t values_max;
    uint64_t digest; // must be the same on all ranks
};

// All ranks call it; returns when all have come.
bool gradient_sum_open(const struct gradient_sum_params *params,
                       struct gradient_sum **out);

// Replaces values[count] by their sum over ranks. All ranks call it, with the
// same count <= values_max.
bool gradient_sum_reduce(struct gradient_sum *sum, double *values,
                         size_t count);

// Tells the other ranks that this one goes no further.
void gradient_sum_abandon(struct gradient_sum *sum);

// NULL: nothing.
void gradient_sum_close(struct gradient_sum *sum);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Measures Tally's all-reduce through the public step API, checking every
// result. It prints nothing.
#ifndef PERF_MEASURE_H
#define PERF_MEASURE_H

#include <tally/tally.h>

#include "perf/samples.h"
#include "perf/work.h"

struct measure_params {
    uint32_t records;
    int64_t warmup;     // iterations before those that are measured
    int64_t iterations; // of this round
    int32_t round;
};

struct measure_result {
    int32_t ranks;
    int32_t nodes;
    char transport[64];
    struct samples samples; // one an iteration, all rounds
    int64_t wrong;          // iterations whose result was not the right one
};

// One round: a group and a step of its own, `warmup` + `iterations` steps.
// Collective. Adds samples and wrong results to *result. Errors: Tally's, with
// its sentence.
tally_status_t measure_round(tally_t *tally, const struct work *work,
                             const struct measure_params *params,
                             struct measure_result *result);

// How many results were wrong at any rank, summed by Tally itself, and no less
// than at this one. Collective.
tally_status_t measure_wrong_everywhere(tally_t *tally, int64_t wrong_here,
                                        int64_t *wrong);

#endif

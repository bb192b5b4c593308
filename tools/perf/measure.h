// SPDX-License-Identifier: BSD-3-Clause
// Measures Tally's all-reduce through the public step API, checking every
// result. It prints nothing.
#ifndef PERF_MEASURE_H
#define PERF_MEASURE_H

#include <tally/tally.h>

#include "perf/samples.h"
#include "perf/work.h"

// A step on a group of its own.
struct measure_step {
    tally_group_t *group;
    tally_step_t *step;
};

// Of the first `ranks` ranks, each of which calls it.
tally_status_t measure_step_open(tally_t *tally, const char *key, int32_t ranks,
                                 uint32_t records, struct measure_step *out);
void measure_step_close(struct measure_step *opened);

struct measure_params {
    int32_t ranks; // the first ones
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

// Fills in ranks, nodes and transport, by a group of its own. Collective.
tally_status_t measure_describe(tally_t *tally, int32_t ranks,
                                struct measure_result *result);

// One round: a group and a step of its own, `warmup` + `iterations` steps.
// Collective. Adds samples and wrong results to *result. Errors: Tally's, with
// its sentence.
tally_status_t measure_round(tally_t *tally, const struct work *work,
                             const struct measure_params *params,
                             struct measure_result *result);

// How many results were wrong at any rank, summed by Tally itself, and no less
// than at this one. Collective.
tally_status_t measure_wrong_everywhere(tally_t *tally, int32_t ranks,
                                        int64_t wrong_here, int64_t *wrong);

#endif

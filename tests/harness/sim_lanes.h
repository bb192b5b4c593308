// SPDX-License-Identifier: BSD-3-Clause
// Lanes for the ranks of a simulated job, and a check of what they get.
#ifndef HARNESS_SIM_LANES_H
#define HARNESS_SIM_LANES_H

#include "harness/lanes.h"

struct sim_lanes {
    struct lanes_shape shape;
    int32_t size;
    int64_t *totals[2]; // no rank is more than one reduction ahead of another
    uint64_t total_of[2];
    int32_t checked; // results
};

void sim_lanes_open(struct sim_lanes *lanes, const struct lanes_shape *shape,
                    int32_t size);
void sim_lanes_close(struct sim_lanes *lanes);

// For struct sim_job_run; the context is a struct sim_lanes.
void sim_lanes_fill(void *context, int32_t rank, uint64_t sequence,
                    int64_t *values);
// Aborts the test if a bit is wrong.
void sim_lanes_check(void *context, int32_t rank, uint64_t sequence,
                     const int64_t *total);

#endif

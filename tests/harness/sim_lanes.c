// SPDX-License-Identifier: BSD-3-Clause
// See sim_lanes.h.
#include "harness/sim_lanes.h"

#include <check.h>
#include <stdlib.h>

void sim_lanes_open(struct sim_lanes *lanes, const struct lanes_shape *shape,
                    int32_t size)
{
    *lanes = (struct sim_lanes){.shape = *shape, .size = size};
    for (int i = 0; i < 2; i++) {
        lanes->totals[i] = calloc(lanes_count(shape), sizeof(int64_t));
        if (lanes->totals[i] == NULL)
            abort();
    }
}

void sim_lanes_close(struct sim_lanes *lanes)
{
    free(lanes->totals[1]);
    free(lanes->totals[0]);
}

void sim_lanes_fill(void *context, int32_t rank, uint64_t sequence,
                    int64_t *values)
{
    const struct sim_lanes *lanes = context;

    lanes_fill(&lanes->shape, rank, sequence, values);
}

void sim_lanes_check(void *context, int32_t rank, uint64_t sequence,
                     const int64_t *total)
{
    struct sim_lanes *lanes = context;
    size_t index = sequence % 2;

    if (lanes->total_of[index] != sequence)
        lanes_expect(&lanes->shape, lanes->size, sequence,
                     lanes->totals[index]);
    lanes->total_of[index] = sequence;
    if (!lanes_equal(&lanes->shape, total, lanes->totals[index]))
        ck_abort_msg("rank %d, reduction %d", (int)rank, (int)sequence);
    lanes->checked++;
}

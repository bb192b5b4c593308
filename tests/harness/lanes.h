// SPDX-License-Identifier: BSD-3-Clause
// Made-up lanes of an all-reduce and, by serial addition, what they must come
// to. Every lane depends on the rank and the reduction, so that a lane lost,
// doubled or out of an older reduction shows.
#ifndef HARNESS_LANES_H
#define HARNESS_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lanes_shape {
    uint32_t records;
    uint32_t max_lanes;
};

size_t lanes_count(const struct lanes_shape *shape);

// What `rank` gives to reduction `sequence`: folded records, signed sums, now
// and then a MAX lane with nothing in it.
void lanes_fill(const struct lanes_shape *shape, int32_t rank,
                uint64_t sequence, int64_t *lanes);

// The total over `size` ranks.
void lanes_expect(const struct lanes_shape *shape, int32_t size,
                  uint64_t sequence, int64_t *lanes);

bool lanes_equal(const struct lanes_shape *shape, const int64_t *a,
                 const int64_t *b);

#endif

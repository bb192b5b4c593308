// SPDX-License-Identifier: BSD-3-Clause
// See clocks.h.
#include "doctor/job/clocks.h"

void clocks_judge(const int64_t begun[CLOCKS_ROUNDS],
                  const int64_t left[CLOCKS_ROUNDS], const int64_t *stamps,
                  int32_t count, struct clocks_bound *out)
{
    for (int32_t i = 0; i < count; i++) {
        struct clocks_bound bound = {INT64_MIN, INT64_MAX};

        for (int round = 1; round < CLOCKS_ROUNDS; round++) {
            int64_t stamp = stamps[(int64_t)round * count + i];
            int64_t low = stamp - left[round];
            int64_t high = stamp - begun[round - 1];

            if (low > bound.low_us)
                bound.low_us = low;
            if (high < bound.high_us)
                bound.high_us = high;
        }
        out[i] = bound;
    }
}

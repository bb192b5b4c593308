// SPDX-License-Identifier: BSD-3-Clause
// How far the wall clocks of ranks are apart, bounded by an exchange that is
// done again and again: what a rank stamps in one round it stamped after all
// others had begun the round before, and before anybody left this one.
#ifndef JOB_CLOCKS_H
#define JOB_CLOCKS_H

#include <stdint.h>

#define CLOCKS_ROUNDS 8

// A rank's clock is ahead of the observer's by low_us to high_us.
struct clocks_bound {
    int64_t low_us, high_us;
};

// All by the wall clocks, in us: begun and left by the observer's; stamps by
// those of all ranks, [CLOCKS_ROUNDS][count], as they began each round.
void clocks_judge(const int64_t begun[CLOCKS_ROUNDS],
                  const int64_t left[CLOCKS_ROUNDS], const int64_t *stamps,
                  int32_t count, struct clocks_bound *out);

#endif

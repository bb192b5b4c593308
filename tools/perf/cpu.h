// SPDX-License-Identifier: BSD-3-Clause
// What a process with Tally in it costs its host while nothing happens:
// processor seconds a second.
#ifndef PERF_CPU_H
#define PERF_CPU_H

#include <tally/tally.h>

struct cpu_cost {
    double idle;    // a group is there, and nobody calls
    double waiting; // in tally_step_wait, for a rank that is late; NAN: 1 rank
};

// Of the first `ranks` ranks, each of which calls it; the last is the late one.
// Rank 0 gets the figures. Takes three seconds.
tally_status_t cpu_measure(tally_t *tally, int32_t rank, int32_t ranks,
                           struct cpu_cost *out);

#endif

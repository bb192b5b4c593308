// SPDX-License-Identifier: BSD-3-Clause
// Shows what tally_perf measured, as a table or as a JSON object a line.
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdio.h>

#include "perf/cpu.h"
#include "perf/measure.h"
#include "perf/peer.h"

struct report {
    const struct measure_result *tally; // samples sorted, at least one
    const struct peer *peer;            // NULL: none; samples sorted
    const struct cpu_cost *cpu;         // NULL: not measured
    int64_t wrong;                      // at any rank
    uint32_t records;
};

// What all lines of the table have in common.
struct report_header {
    int64_t warmup;
    int32_t rounds;
    enum peer_kind peer;
    bool cpu;
};

void report_header_write(FILE *out, const struct report_header *header);
void report_text_write(FILE *out, const struct report *report);
void report_json_write(FILE *out, const struct report *report);

#endif

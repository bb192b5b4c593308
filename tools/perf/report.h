// SPDX-License-Identifier: BSD-3-Clause
// Shows what tally_perf measured, as text or as one JSON object.
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdio.h>

#include "perf/measure.h"
#include "perf/peer.h"

struct report {
    const struct measure_result *tally; // samples sorted, at least one
    const struct peer *peer;            // NULL: none; samples sorted
    int64_t wrong;                      // at any rank
    uint32_t records;
    int32_t rounds;
    int64_t warmup;
};

void report_text_write(FILE *out, const struct report *report);
void report_json_write(FILE *out, const struct report *report);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// See report.h.
#include "perf/report.h"

#include <inttypes.h>

#include "json.h"

static const struct {
    const char *key;
    const char *heading;
    int permille;
} columns[] = {
    {"min_us", "min us", 0},    {"p50_us", "p50 us", 500},
    {"p90_us", "p90 us", 900},  {"p99_us", "p99 us", 990},
    {"max_us", "max us", 1000},
};
#define COLUMN_COUNT (sizeof(columns) / sizeof(columns[0]))

static double percentile_us(const struct samples *samples, int permille)
{
    return (double)samples_percentile(samples, permille) / 1000;
}

static size_t record_bytes(const struct report *report)
{
    return report->records * sizeof(struct numeric_record);
}

static double ratio(const struct report *report)
{
    return percentile_us(&report->tally->samples, 500) /
           percentile_us(&report->peer->samples, 500);
}

static void write_line(FILE *out, const char *who, const struct report *report,
                       const struct samples *samples, int64_t wrong)
{
    fprintf(out, "%8s %8zu %9zu", who, record_bytes(report), samples->count);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        fprintf(out, " %10.3f", percentile_us(samples, columns[i].permille));
    fprintf(out, " %7" PRId64 "\n", wrong);
}

void report_text_write(FILE *out, const struct report *report)
{
    const struct measure_result *tally = report->tally;

    fprintf(out, "# tally_perf %s: all-reduce of a step, seen by rank 0\n",
            tally_version());
    fprintf(out,
            "# transport %s, ranks %d, nodes %d, records %u, warm-up %" PRId64
            ", rounds %d\n",
            tally->transport, (int)tally->ranks, (int)tally->nodes,
            (unsigned)report->records, report->warmup, (int)report->rounds);
    fprintf(out, "#%7s %8s %9s", "", "bytes", "iters");
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        fprintf(out, " %10s", columns[i].heading);
    fprintf(out, " %7s\n", "wrong");
    write_line(out, "tally", report, &tally->samples, report->wrong);
    if (report->peer == NULL)
        return;
    write_line(out, "mpi", report, &report->peer->samples, report->peer->wrong);
    fprintf(out, "# mpi: %s, btl %s; ratio of p50, tally to mpi: %.3f\n",
            report->peer->library, report->peer->btl, ratio(report));
}

void report_json_write(FILE *out, const struct report *report)
{
    const struct measure_result *tally = report->tally;
    struct json json = {.out = out};

    json_object_open(&json, NULL);
    json_string(&json, "transport", tally->transport);
    json_integer(&json, "ranks", tally->ranks);
    json_integer(&json, "bytes", (int64_t)record_bytes(report));
    json_integer(&json, "iters", (int64_t)tally->samples.count);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        json_number(&json, columns[i].key,
                    percentile_us(&tally->samples, columns[i].permille), 3);
    json_integer(&json, "wrong", report->wrong);
    if (report->peer != NULL) {
        json_string(&json, "peer", "mpi");
        json_number(&json, "peer_p50_us",
                    percentile_us(&report->peer->samples, 500), 3);
        json_number(&json, "ratio", ratio(report), 4);
    } else {
        json_null(&json, "peer");
        json_null(&json, "peer_p50_us");
        json_null(&json, "ratio");
    }
    json_object_close(&json);
    json_end(&json);
}

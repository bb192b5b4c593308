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

static const char *const peer_texts[PEER_KINDS] = {
    [PEER_MPI] = "MPI_Allreduce of the same bytes",
    [PEER_PINGPONG] = "the transport's library by itself between two processes "
                      "of rank 0's\n# host, one way of a message as long",
    [PEER_EXCHANGE] = "the transport's library by itself between two processes "
                      "of rank 0's\n# host, both sending a message as long",
};

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

void report_header_write(FILE *out, const struct report_header *header)
{
    fprintf(out,
            "# tally_perf %s: all-reduce of a step's counts, from the call of "
            "reduce to the\n"
            "# return of wait, seen by rank 0; warm-up %" PRId64
            ", rounds %d. Every result is checked.\n",
            tally_version(), header->warmup, (int)header->rounds);
    if (header->peer != PEER_NONE)
        fprintf(out, "# peer: %s; ratio: of the medians.\n",
                peer_texts[header->peer]);
    if (header->cpu)
        fprintf(out, "# idle, wait: processor seconds a second of rank 0 while "
                     "nobody calls, and\n"
                     "# while it waits for a late rank, in per cent.\n");
    fprintf(out, "#%9s %5s %5s %7s %6s %8s", "transport", "ranks", "nodes",
            "records", "bytes", "iters");
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        fprintf(out, " %9s", columns[i].heading);
    fprintf(out, " %6s", "wrong");
    if (header->peer != PEER_NONE)
        fprintf(out, " %9s %6s", "peer us", "ratio");
    if (header->cpu)
        fprintf(out, " %6s %6s", "idle %", "wait %");
    fprintf(out, "\n");
}

void report_text_write(FILE *out, const struct report *report)
{
    const struct measure_result *tally = report->tally;

    fprintf(out, "%10s %5d %5d %7u %6zu %8zu", tally->transport,
            (int)tally->ranks, (int)tally->nodes, (unsigned)report->records,
            record_bytes(report), tally->samples.count);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        fprintf(out, " %9.3f",
                percentile_us(&tally->samples, columns[i].permille));
    fprintf(out, " %6" PRId64, report->wrong);
    if (report->peer != NULL)
        fprintf(out, " %9.3f %6.3f", percentile_us(&report->peer->samples, 500),
                ratio(report));
    if (report->cpu != NULL)
        fprintf(out, " %6.2f %6.2f", 100 * report->cpu->idle,
                100 * report->cpu->waiting);
    fprintf(out, "\n");
}

static void write_peer(struct json *json, const struct report *report)
{
    if (report->peer == NULL) {
        json_null(json, "peer");
        json_null(json, "peer_p50_us");
        json_null(json, "ratio");
        json_null(json, "peer_p99_us");
        return;
    }
    json_string(json, "peer", peer_kind_names[report->peer->kind]);
    json_number(json, "peer_p50_us", percentile_us(&report->peer->samples, 500),
                3);
    json_number(json, "ratio", ratio(report), 4);
    json_number(json, "peer_p99_us", percentile_us(&report->peer->samples, 990),
                3);
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
    write_peer(&json, report);
    if (report->cpu != NULL) {
        json_number(&json, "cpu_idle", report->cpu->idle, 5);
        json_number(&json, "cpu_wait", report->cpu->waiting, 5);
    }
    json_object_close(&json);
    json_end(&json);
}

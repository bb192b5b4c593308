// SPDX-License-Identifier: BSD-3-Clause
// What each call of a step costs its caller, on one rank or, under tally_run,
// on several. Nothing is computed: the rank has no tokens. Rank 0 prints.
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <tally/tally.h>

#include "json.h"
#include "perf/samples.h"

#define WARMUP 1000
#define ITERATIONS 20000
#define ITERATIONS_MAX 10000000

static tally_status_t call_nothing(tally_step_t *step)
{
    (void)step;
    return TALLY_OK;
}

static tally_status_t call_begin(tally_step_t *step)
{
    return tally_step_begin(step, 1, NULL);
}

static tally_status_t call_count(tally_step_t *step)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I32;
    return tally_step_count(step, 0, &labels, NULL);
}

static tally_status_t call_reduce(tally_step_t *step)
{
    return tally_step_reduce(step, NULL);
}

static tally_status_t call_wait(tally_step_t *step)
{
    return tally_step_wait(step, NULL);
}

static tally_status_t call_end(tally_step_t *step)
{
    return tally_step_end(step, NULL);
}

static tally_status_t read_result(tally_step_t *step, uint32_t flags)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    result.channels = &channel;
    result.channel_capacity = 1;
    return tally_step_result(step, 0, flags, &result);
}

// Of the epoch that has just ended: often NOT_YET.
static tally_status_t call_result(tally_step_t *step)
{
    return read_result(step, 0);
}

// In the order of a step. The first is what taking the time costs.
static const struct {
    const char *name;
    tally_status_t (*run)(tally_step_t *step);
} calls[] = {
    {"clock", call_nothing}, {"begin", call_begin}, {"count", call_count},
    {"reduce", call_reduce}, {"wait", call_wait},   {"end", call_end},
    {"result", call_result},
};
#define CALL_COUNT (sizeof(calls) / sizeof(calls[0]))

struct bench {
    int64_t iterations;
    bool as_json;
    int32_t rank;
    int32_t ranks;
    char transport[64];
    struct samples samples[CALL_COUNT];
};

static tally_status_t iterate(tally_step_t *step, struct bench *bench,
                              bool measured)
{
    for (size_t c = 0; c < CALL_COUNT; c++) {
        int64_t begin_ns = samples_now_ns();
        tally_status_t status = calls[c].run(step);
        int64_t end_ns = samples_now_ns();

        if (status != TALLY_OK && status != TALLY_NOT_YET)
            return status;
        if (measured)
            samples_add(&bench->samples[c], end_ns - begin_ns);
    }
    return read_result(step, TALLY_RESULT_WAIT);
}

static tally_status_t measure(tally_group_t *group, struct bench *bench)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_step_t *step;

    channel.vocab = 1000;
    params.order = TALLY_COUNT_FIRST;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = &channel;
    params.channel_count = 1;
    tally_status_t status = tally_step_create(group, &params, &step);
    for (int64_t i = -WARMUP; status == TALLY_OK && i < bench->iterations; i++)
        status = iterate(step, bench, i >= 0);
    if (status == TALLY_OK)
        status = tally_step_free(step);
    return status;
}

static tally_status_t run(struct bench *bench)
{
    tally_t *tally;
    tally_group_t *group;
    tally_group_info_t info = TALLY_INIT(tally_group_info_t);
    tally_status_t status = tally_open(NULL, &tally);

    if (status != TALLY_OK)
        return status;
    tally_rank(tally, &bench->rank, &bench->ranks);
    status = tally_group_create(tally, NULL, &group);
    if (status != TALLY_OK)
        goto close_tally;
    status = tally_group_describe(group, &info);
    if (status == TALLY_OK) {
        snprintf(bench->transport, sizeof(bench->transport), "%s",
                 info.transport);
        status = measure(group, bench);
    }
    tally_group_free(group);

close_tally:
    tally_close(tally);
    return status;
}

static void print_text(const struct bench *bench)
{
    printf("# calls of a step: transport %s, ranks %d\n", bench->transport,
           (int)bench->ranks);
    printf("#%9s %8s %8s %8s\n", "call", "p50 ns", "p99 ns", "max ns");
    for (size_t c = 0; c < CALL_COUNT; c++)
        printf("%10s %8lld %8lld %8lld\n", calls[c].name,
               (long long)samples_percentile(&bench->samples[c], 500),
               (long long)samples_percentile(&bench->samples[c], 990),
               (long long)samples_percentile(&bench->samples[c], 1000));
}

static void print_json(const struct bench *bench)
{
    struct json json = {.out = stdout};

    json_object_open(&json, NULL);
    json_string(&json, "transport", bench->transport);
    json_integer(&json, "ranks", bench->ranks);
    json_integer(&json, "iters", bench->iterations);
    json_object_open(&json, "calls");
    for (size_t c = 0; c < CALL_COUNT; c++) {
        json_object_open(&json, calls[c].name);
        json_integer(&json, "p50_ns",
                     samples_percentile(&bench->samples[c], 500));
        json_integer(&json, "p99_ns",
                     samples_percentile(&bench->samples[c], 990));
        json_integer(&json, "max_ns",
                     samples_percentile(&bench->samples[c], 1000));
        json_object_close(&json);
    }
    json_object_close(&json);
    json_object_close(&json);
    json_end(&json);
}

static bool parse(int argc, char **argv, struct bench *bench)
{
    static const struct option options[] = {
        {"iters", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'i')
            bench->iterations = strtoll(optarg, NULL, 10);
        else if (option == 'j')
            bench->as_json = true;
        else
            return false;
    }
    return optind == argc && bench->iterations > 0 &&
           bench->iterations <= ITERATIONS_MAX;
}

int main(int argc, char **argv)
{
    struct bench bench = {.iterations = ITERATIONS};

    if (!parse(argc, argv, &bench)) {
        fprintf(stderr, "usage: step_calls [--iters I] [--json]\n");
        return 2;
    }
    for (size_t c = 0; c < CALL_COUNT; c++)
        if (!samples_create(&bench.samples[c], (size_t)bench.iterations)) {
            fprintf(stderr, "step_calls: no memory\n");
            return EXIT_FAILURE;
        }
    tally_status_t status = run(&bench);
    if (status != TALLY_OK) {
        fprintf(stderr, "step_calls: %s\n", tally_last_error());
        return EXIT_FAILURE;
    }
    for (size_t c = 0; c < CALL_COUNT; c++)
        samples_sort(&bench.samples[c]);
    if (bench.rank == 0 && bench.as_json)
        print_json(&bench);
    else if (bench.rank == 0)
        print_text(&bench);
    for (size_t c = 0; c < CALL_COUNT; c++)
        samples_free(&bench.samples[c]);
    return EXIT_SUCCESS;
}

// SPDX-License-Identifier: BSD-3-Clause
// What the order on a stream costs. With one rank the reduction itself is
// nothing, and what is left is the way to the host and back; with more, on a
// GPU each, TALLY_TRANSPORT reduces (nccl: with ADOPT=1, see gpu/steps.h).
// Prints one line of JSON a figure, in microseconds; bench/gpu.sh --steps makes
// a table of it.
//     gpu_steps [COUNT [RANKS]]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/gpu_work.h"
#include "gpu/steps.h"
#include "numeric/record.h"

#define LABELS 4096
#define STEPS 20 // in a graph, and between two looks at the clock
#define EXPOSED 60
#define WORK_NS 50000000

struct bench {
    struct rank rank;
    tally_step_t *step;
    tally_labels_t labels;
    int64_t *ns;
    size_t count;
    bool silent; // another rank tells
};

struct wanted {
    size_t count;
    int32_t ranks;
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void call_begin(struct bench *bench)
{
    EXPECT(tally_step_begin(bench->step, 1, bench->rank.stream) == TALLY_OK);
}

static void call_count(struct bench *bench)
{
    EXPECT(tally_step_count(bench->step, 0, &bench->labels,
                            bench->rank.stream) == TALLY_OK);
}

static void call_reduce(struct bench *bench)
{
    EXPECT(tally_step_reduce(bench->step, bench->rank.stream) == TALLY_OK);
}

static void call_wait(struct bench *bench)
{
    EXPECT(tally_step_wait(bench->step, bench->rank.stream) == TALLY_OK);
}

static void call_end(struct bench *bench)
{
    EXPECT(tally_step_end(bench->step, bench->rank.stream) == TALLY_OK);
}

#define CALLS 5
static const struct {
    const char *name;
    void (*make)(struct bench *);
} calls[CALLS] = {
    {"begin", call_begin}, {"count", call_count}, {"reduce", call_reduce},
    {"wait", call_wait},   {"end", call_end},
};

static void five_calls(struct bench *bench)
{
    for (int i = 0; i < CALLS; i++)
        calls[i].make(bench);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print(const struct bench *bench, const char *what, int64_t *ns,
                  size_t count)
{
    if (bench->silent)
        return;
    qsort(ns, count, sizeof(*ns), ascending);
    printf("{\"what\": \"%s\", \"p50_us\": %.2f, \"p90_us\": %.2f, "
           "\"p99_us\": %.2f}\n",
           what, (double)ns[count / 2] / 1e3, (double)ns[count * 9 / 10] / 1e3,
           (double)ns[count * 99 / 100] / 1e3);
}

// The host's time in the calls, the stream idle.
static void host_time(struct bench *bench)
{
    int64_t *each[CALLS];

    for (int k = 0; k < CALLS; k++) {
        each[k] = calloc(bench->count, sizeof(*each[k]));
        EXPECT(each[k] != NULL);
    }
    for (size_t i = 0; i < bench->count; i++) {
        int64_t began = now_ns();
        five_calls(bench);
        bench->ns[i] = now_ns() - began;
        gpu_synchronize(bench->rank.stream);
    }
    print(bench, "host, five calls", bench->ns, bench->count);
    for (size_t i = 0; i < bench->count; i++) {
        int64_t before = now_ns();
        for (int k = 0; k < CALLS; k++) {
            calls[k].make(bench);
            int64_t after = now_ns();
            each[k][i] = after - before;
            before = after;
        }
        gpu_synchronize(bench->rank.stream);
    }
    for (int k = 0; k < CALLS; k++) {
        char what[32];
        snprintf(what, sizeof(what), "host, %s", calls[k].name);
        print(bench, what, each[k], bench->count);
        free(each[k]);
    }
}

static void launch_bound(struct bench *bench)
{
    for (size_t i = 0; i < bench->count / STEPS; i++) {
        int64_t began = now_ns();
        for (int k = 0; k < STEPS; k++)
            five_calls(bench);
        gpu_synchronize(bench->rank.stream);
        bench->ns[i] = (now_ns() - began) / STEPS;
    }
    print(bench, "launch-bound", bench->ns, bench->count / STEPS);
}

// Of what is being captured: a replay's time over STEPS.
static void time_graph(struct bench *bench, const char *what)
{
    tally_stream_t stream = bench->rank.stream;
    void *graph = gpu_capture_end(stream);

    for (size_t i = 0; i < bench->count / STEPS; i++) {
        int64_t began = now_ns();
        gpu_replay(graph, stream);
        gpu_synchronize(stream);
        bench->ns[i] = (now_ns() - began) / STEPS;
    }
    gpu_forget(graph); // else NCCL would wait for it in the end
    print(bench, what, bench->ns, bench->count / STEPS);
}

static void in_a_graph(struct bench *bench)
{
    gpu_capture_begin(bench->rank.stream);
    for (int k = 0; k < STEPS; k++)
        five_calls(bench);
    time_graph(bench, "graph, a step");
    // Without tokens nothing is launched for them.
    gpu_capture_begin(bench->rank.stream);
    bench->labels.tokens = 0;
    for (int k = 0; k < STEPS; k++)
        five_calls(bench);
    bench->labels.tokens = LABELS;
    time_graph(bench, "graph, a step without labels");
}

// What counting costs, so many times a step: one step of many micro-batches.
// With what the network takes by itself (NCCL's, if it is the trainer's): what
// a step would take if nothing came between.
static void counts_in_a_graph(struct bench *bench, int32_t times, bool network,
                              const char *what)
{
    tally_stream_t stream = bench->rank.stream;
    void *lanes = gpu_take(NUMERIC_LANES * sizeof(int64_t), NULL);

    network = network && bench->rank.comm != NULL;
    gpu_capture_begin(stream);
    EXPECT(tally_step_begin(bench->step, times * STEPS, stream) == TALLY_OK);
    for (int k = 0; k < times * STEPS; k++) {
        call_count(bench);
        // Of the counts, of the maximum and of the losses.
        for (int i = 0; i < 3 && network; i++)
            work_all_reduce(lanes, i == 1 ? 1 : NUMERIC_LANES, bench->rank.comm,
                            stream);
    }
    call_reduce(bench);
    call_end(bench);
    time_graph(bench, what);
}

// A step of 50 ms, which is a kernel that runs so long, with and without a
// reduction behind it: what is exposed, by the stream's own clock.
static void exposed_behind(struct bench *bench, bool with)
{
    tally_stream_t stream = bench->rank.stream;

    for (size_t i = 0; i < EXPOSED; i++) {
        work_enqueue(stream, WORK_NS);
        work_mark(stream, WORK_BEGIN);
        if (with)
            five_calls(bench);
        work_mark(stream, WORK_END);
        gpu_synchronize(stream);
        bench->ns[i] = work_between_ns();
    }
    print(bench, with ? "behind 50 ms, a step" : "behind 50 ms, nothing",
          bench->ns, EXPOSED);
}

// The same, with a host that waits for the work before it makes the calls.
static void exposed_after(struct bench *bench, bool with)
{
    tally_stream_t stream = bench->rank.stream;

    for (size_t i = 0; i < EXPOSED; i++) {
        work_enqueue(stream, WORK_NS);
        gpu_synchronize(stream);
        int64_t began = now_ns();
        if (with)
            five_calls(bench);
        gpu_synchronize(stream);
        bench->ns[i] = now_ns() - began;
    }
    print(bench, with ? "after 50 ms, a step" : "after 50 ms, nothing",
          bench->ns, EXPOSED);
}

static void run(struct processes_member *member, const void *argument)
{
    static int32_t values[LABELS];
    struct bench bench = {.labels = TALLY_INIT(tally_labels_t)};
    const struct wanted *wanted = argument;
    const char *how = getenv("TALLY_STREAM_WAIT");

    bench.count = wanted->count;
    bench.silent = member->rank != 0;
    bench.ns = calloc(bench.count, sizeof(*bench.ns));
    EXPECT(bench.ns != NULL);
    rank_open(&bench.rank, member);
    bench.step = rank_step(&bench.rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    bench.labels.type = TALLY_I32;
    bench.labels.values = gpu_take(sizeof(values), values);
    bench.labels.tokens = LABELS;
    host_time(&bench);
    launch_bound(&bench);
    if (how == NULL || strcmp(how, "memop") != 0) { // which is not captured
        in_a_graph(&bench);
        counts_in_a_graph(&bench, 1, true, "graph, count and network");
        counts_in_a_graph(&bench, 1, false, "graph, count");
        counts_in_a_graph(&bench, 4, false, "graph, four counts");
    }
    // Ranks do not begin their work at once.
    for (int with = 0; with < 2 && wanted->ranks == 1; with++) {
        exposed_behind(&bench, with != 0);
        exposed_after(&bench, with != 0);
    }
    EXPECT(tally_step_free(bench.step) == TALLY_OK);
    rank_close(&bench.rank);
    free(bench.ns);
}

int main(int argc, char **argv)
{
    const struct wanted wanted = {
        .count = argc > 1 ? (size_t)atoll(argv[1]) : 4000,
        .ranks = argc > 2 ? (int32_t)atoi(argv[2]) : 1,
    };

    if (gpu_count() == 0 || wanted.count < 100 || wanted.ranks < 1) {
        puts("skipped: there is no GPU, or COUNT is below 100");
        return 77;
    }
    must_return(wanted.ranks, run, &wanted);
    return 0;
}

// SPDX-License-Identifier: BSD-3-Clause
// What the order on a stream costs, on this machine's GPU, with one rank: so
// the reduction itself is nothing, and what is left is the way to the host and
// back. Prints one line of JSON a figure, in microseconds; bench/gpu.sh --steps
// makes a table of it.
//     gpu_steps [COUNT]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/steps.h"

#define LABELS 4096
#define STEPS 20 // in a graph, and between two looks at the clock
#define EXPOSED 60
#define WORK_US 50000

struct bench {
    struct rank rank;
    tally_step_t *step;
    tally_labels_t labels;
    int64_t *ns;
    size_t count;
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

static void print(const char *what, int64_t *ns, size_t count)
{
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
    print("host, five calls", bench->ns, bench->count);
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
        print(what, each[k], bench->count);
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
    print("launch-bound", bench->ns, bench->count / STEPS);
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
    print(what, bench->ns, bench->count / STEPS);
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

// What counting alone costs, so many times a step: one step of many
// micro-batches.
static void counts_in_a_graph(struct bench *bench, int32_t times,
                              const char *what)
{
    tally_stream_t stream = bench->rank.stream;

    gpu_capture_begin(stream);
    EXPECT(tally_step_begin(bench->step, times * STEPS, stream) == TALLY_OK);
    for (int k = 0; k < times * STEPS; k++)
        call_count(bench);
    call_reduce(bench);
    call_end(bench);
    time_graph(bench, what);
}

static void sleep_us(int64_t us)
{
    struct timespec time = {0, us * 1000};

    nanosleep(&time, NULL);
}

static void work(void *argument)
{
    int64_t *worked_ns = argument;

    sleep_us(WORK_US);
    *worked_ns = now_ns();
}

static void note_time(void *argument)
{
    int64_t *at_ns = argument;

    *at_ns = now_ns();
}

// A step of 50 ms, which is a host function that sleeps, with and without a
// reduction behind it: what is exposed, seen by the stream.
static void exposed_behind(struct bench *bench, bool with)
{
    static int64_t worked_ns, reached_ns;
    tally_stream_t stream = bench->rank.stream;

    for (size_t i = 0; i < EXPOSED; i++) {
        gpu_call(stream, work, &worked_ns);
        if (with)
            five_calls(bench);
        gpu_call(stream, note_time, &reached_ns);
        gpu_synchronize(stream);
        bench->ns[i] = reached_ns - worked_ns;
    }
    print(with ? "behind 50 ms, a step" : "behind 50 ms, nothing", bench->ns,
          EXPOSED);
}

// The same, with a host that waits for the work before it makes the calls.
static void exposed_after(struct bench *bench, bool with)
{
    static int64_t worked_ns;
    tally_stream_t stream = bench->rank.stream;

    for (size_t i = 0; i < EXPOSED; i++) {
        gpu_call(stream, work, &worked_ns);
        gpu_synchronize(stream);
        int64_t began = now_ns();
        if (with)
            five_calls(bench);
        gpu_synchronize(stream);
        bench->ns[i] = now_ns() - began;
    }
    print(with ? "after 50 ms, a step" : "after 50 ms, nothing", bench->ns,
          EXPOSED);
}

static void run(struct processes_member *member, const void *argument)
{
    static int32_t values[LABELS];
    struct bench bench = {.labels = TALLY_INIT(tally_labels_t)};
    const char *how = getenv("TALLY_STREAM_WAIT");

    bench.count = *(const size_t *)argument;
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
        counts_in_a_graph(&bench, 1, "graph, count");
        counts_in_a_graph(&bench, 4, "graph, four counts");
    }
    for (int with = 0; with < 2; with++) {
        exposed_behind(&bench, with != 0);
        exposed_after(&bench, with != 0);
    }
    EXPECT(tally_step_free(bench.step) == TALLY_OK);
    rank_close(&bench.rank);
    free(bench.ns);
}

int main(int argc, char **argv)
{
    const size_t count = argc > 1 ? (size_t)atoll(argv[1]) : 4000;

    if (!gpu_is_there() || count < 100) {
        puts("skipped: there is no GPU, or COUNT is below 100");
        return 77;
    }
    must_return(1, run, &count);
    return 0;
}

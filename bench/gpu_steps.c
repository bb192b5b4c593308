// SPDX-License-Identifier: BSD-3-Clause
// What the order on a stream costs, on this machine's GPU, with one rank: so
// the reduction itself is nothing, and what is left is the way to the host and
// back. Prints one line of JSON a figure, in microseconds.
//     gpu_steps [COUNT]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/steps.h"

#define LABELS 4096
#define PER_GRAPH 20

struct bench {
    struct rank rank;
    tally_step_t *step;
    tally_labels_t labels;
    int64_t host_ns[5]; // of the last epoch's calls
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// begin, count, reduce, wait, end: the five calls.
static void five_calls(struct bench *bench)
{
    tally_stream_t stream = bench->rank.stream;

    EXPECT(tally_step_begin(bench->step, 1, stream) == TALLY_OK);
    EXPECT(tally_step_count(bench->step, 0, &bench->labels, stream) ==
           TALLY_OK);
    EXPECT(tally_step_reduce(bench->step, stream) == TALLY_OK);
    EXPECT(tally_step_wait(bench->step, stream) == TALLY_OK);
    EXPECT(tally_step_end(bench->step, stream) == TALLY_OK);
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
static void host_time(struct bench *bench, int64_t *ns, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t begin = now_ns();
        five_calls(bench);
        ns[i] = now_ns() - begin;
        gpu_synchronize(bench->rank.stream);
    }
    print("host time of the five calls", ns, count);
}

static void launch_bound(struct bench *bench, int64_t *ns, size_t count)
{
    for (size_t i = 0; i < count / PER_GRAPH; i++) {
        int64_t begin = now_ns();
        for (int k = 0; k < PER_GRAPH; k++)
            five_calls(bench);
        gpu_synchronize(bench->rank.stream);
        ns[i] = (now_ns() - begin) / PER_GRAPH;
    }
    print("a step, launch-bound", ns, count / PER_GRAPH);
}

static void in_a_graph(struct bench *bench, int64_t *ns, size_t count)
{
    gpu_capture_begin(bench->rank.stream);
    for (int k = 0; k < PER_GRAPH; k++)
        five_calls(bench);
    void *graph = gpu_capture_end(bench->rank.stream);
    for (size_t i = 0; i < count / PER_GRAPH; i++) {
        int64_t begin = now_ns();
        gpu_replay(graph, bench->rank.stream);
        gpu_synchronize(bench->rank.stream);
        ns[i] = (now_ns() - begin) / PER_GRAPH;
    }
    print("a step in a graph of 20 (count, publish, wait, publish)", ns,
          count / PER_GRAPH);
}

// Four launches that do nothing but what launches cost: the same count kernel.
static void launches_in_a_graph(struct bench *bench, int64_t *ns, size_t count)
{
    tally_stream_t stream = bench->rank.stream;
    const int32_t micro_batches = 4 * PER_GRAPH;

    gpu_capture_begin(stream);
    EXPECT(tally_step_begin(bench->step, micro_batches, stream) == TALLY_OK);
    for (int k = 0; k < micro_batches; k++)
        EXPECT(tally_step_count(bench->step, 0, &bench->labels, stream) ==
               TALLY_OK);
    EXPECT(tally_step_reduce(bench->step, stream) == TALLY_OK);
    EXPECT(tally_step_end(bench->step, stream) == TALLY_OK);
    void *graph = gpu_capture_end(stream);
    for (size_t i = 0; i < count / PER_GRAPH; i++) {
        int64_t begin = now_ns();
        gpu_replay(graph, stream);
        gpu_synchronize(stream);
        ns[i] = (now_ns() - begin) / PER_GRAPH;
    }
    print("four launches of count in a graph of 80", ns, count / PER_GRAPH);
}

static void sleep_us(void *argument)
{
    const int64_t *us = argument;
    struct timespec time = {0, *us * 1000};

    nanosleep(&time, NULL);
}

// A step of 50 ms, most of it a host function that sleeps, with and without the
// reduction behind it: what is exposed.
static void exposed(struct bench *bench, int64_t *ns, size_t count)
{
    static int64_t us = 50000;
    tally_stream_t stream = bench->rank.stream;

    for (int with = 0; with < 2; with++) {
        for (size_t i = 0; i < count; i++) {
            gpu_call(stream, sleep_us, &us);
            gpu_synchronize(stream);
            int64_t begin = now_ns();
            if (with != 0)
                five_calls(bench);
            gpu_synchronize(stream);
            ns[i] = now_ns() - begin;
        }
        print(with != 0 ? "a reduction after 50 ms, to the stream's end"
                        : "nothing after 50 ms, to the stream's end",
              ns, count);
    }
}

static void run(struct processes_member *member, const void *argument)
{
    const size_t *count = argument;
    static int32_t values[LABELS];
    struct bench bench = {.labels = TALLY_INIT(tally_labels_t)};
    int64_t *ns = calloc(*count, sizeof(*ns));

    EXPECT(ns != NULL);
    rank_open(&bench.rank, member);
    bench.step = rank_step(&bench.rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    bench.labels.type = TALLY_I32;
    bench.labels.values = gpu_take(sizeof(values), values);
    bench.labels.tokens = LABELS;
    host_time(&bench, ns, *count);
    launch_bound(&bench, ns, *count);
    const char *wait = getenv("TALLY_STREAM_WAIT");
    if (wait == NULL || strcmp(wait, "memop") != 0) {
        launches_in_a_graph(&bench, ns, *count);
        in_a_graph(&bench, ns, *count);
    }
    exposed(&bench, ns, 60);
    EXPECT(tally_step_free(bench.step) == TALLY_OK);
    rank_close(&bench.rank);
    free(ns);
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

// SPDX-License-Identifier: BSD-3-Clause
// What the order on a stream costs. With one rank the reduction itself is
// nothing, and what is left is the way to the host and back; with more, on a
// GPU each, TALLY_TRANSPORT reduces (nccl: with a communicator of Tally's own,
// or with ADOPT=1 the trainer's), and beside it NCCL alone, by the trainer's.
// Prints one line of JSON a figure, in microseconds; bench/gpu_steps.sh makes a
// table of it. "gpus": how many there are.
//     gpu_steps [COUNT [RANKS] | gpus]
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
#define AHEAD_NS 2000000 // in which the host enqueues what comes

struct bench {
    struct rank rank;
    tally_step_t *step;
    tally_labels_t labels;
    int64_t *ns;
    size_t count;
    bool silent; // another rank tells
    void *comm;  // of NCCL alone; NULL: NCCL does not reduce
    void *lanes; // what that reduces
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

static void one_all_reduce(struct bench *bench)
{
    work_all_reduce(bench->lanes, NUMERIC_LANES, bench->comm,
                    bench->rank.stream);
}

// As a step has them: of the counts, of the maximum and of the losses.
static void three_all_reduces(struct bench *bench)
{
    one_all_reduce(bench);
    work_all_reduce(bench->lanes, 1, bench->comm, bench->rank.stream);
    one_all_reduce(bench);
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

static void launch_bound(struct bench *bench, void (*enqueue)(struct bench *),
                         const char *what)
{
    for (size_t i = 0; i < bench->count / STEPS; i++) {
        int64_t began = now_ns();
        for (int k = 0; k < STEPS; k++)
            enqueue(bench);
        gpu_synchronize(bench->rank.stream);
        bench->ns[i] = (now_ns() - began) / STEPS;
    }
    print(bench, what, bench->ns, bench->count / STEPS);
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

static void in_a_graph(struct bench *bench, void (*enqueue)(struct bench *),
                       const char *what)
{
    gpu_capture_begin(bench->rank.stream);
    for (int k = 0; k < STEPS; k++)
        enqueue(bench);
    time_graph(bench, what);
}

// What counting costs, so many times a step: one step of many micro-batches.
// With what NCCL takes by itself: what a step would take if nothing came
// between.
static void counts_in_a_graph(struct bench *bench, int32_t times, bool network,
                              const char *what)
{
    tally_stream_t stream = bench->rank.stream;

    gpu_capture_begin(stream);
    EXPECT(tally_step_begin(bench->step, times * STEPS, stream) == TALLY_OK);
    for (int k = 0; k < times * STEPS; k++) {
        call_count(bench);
        if (network && bench->comm != NULL)
            three_all_reduces(bench);
    }
    call_reduce(bench);
    call_end(bench);
    time_graph(bench, what);
}

static size_t exposed_count(const struct bench *bench)
{
    return bench->count < EXPOSED ? bench->count : EXPOSED;
}

// Several ranks begin together, as a step lets them go.
static void enqueue_work(struct bench *bench)
{
    if (bench->rank.member->size > 1) {
        work_enqueue(bench->rank.stream, AHEAD_NS);
        five_calls(bench);
    }
    work_enqueue(bench->rank.stream, WORK_NS);
}

static void nothing(struct bench *bench)
{
    (void)bench;
}

// A step of 50 ms, which is a kernel that runs so long, with something behind
// it or nothing: what is exposed, by the stream's own clock.
static void exposed_behind(struct bench *bench, void (*enqueue)(struct bench *),
                           const char *what)
{
    tally_stream_t stream = bench->rank.stream;
    const size_t count = exposed_count(bench);

    for (size_t i = 0; i < count; i++) {
        enqueue_work(bench);
        work_mark(stream, WORK_BEGIN);
        enqueue(bench);
        work_mark(stream, WORK_END);
        gpu_synchronize(stream);
        bench->ns[i] = work_between_ns();
    }
    print(bench, what, bench->ns, count);
}

// The same, with a host that waits for the work before it makes the calls.
static void exposed_after(struct bench *bench, void (*enqueue)(struct bench *),
                          const char *what)
{
    tally_stream_t stream = bench->rank.stream;
    const size_t count = exposed_count(bench);

    for (size_t i = 0; i < count; i++) {
        enqueue_work(bench);
        gpu_synchronize(stream);
        int64_t began = now_ns();
        enqueue(bench);
        gpu_synchronize(stream);
        bench->ns[i] = now_ns() - began;
    }
    print(bench, what, bench->ns, count);
}

static void graphs(struct bench *bench)
{
    in_a_graph(bench, five_calls, "graph, a step");
    bench->labels.tokens = 0; // nothing is launched for them
    in_a_graph(bench, five_calls, "graph, a step without labels");
    bench->labels.tokens = LABELS;
    counts_in_a_graph(bench, 1, true, "graph, count and network");
    counts_in_a_graph(bench, 1, false, "graph, count");
    counts_in_a_graph(bench, 4, false, "graph, four counts");
}

static void exposed(struct bench *bench)
{
    exposed_behind(bench, nothing, "behind 50 ms, nothing");
    exposed_behind(bench, five_calls, "behind 50 ms, a step");
    exposed_after(bench, nothing, "after 50 ms, nothing");
    exposed_after(bench, five_calls, "after 50 ms, a step");
}

// The floor: NCCL and nothing else.
static void nccl_alone(struct bench *bench)
{
    launch_bound(bench, one_all_reduce, "launch-bound, one all-reduce");
    launch_bound(bench, three_all_reduces, "launch-bound, three all-reduces");
    in_a_graph(bench, one_all_reduce, "graph, one all-reduce");
    in_a_graph(bench, three_all_reduces, "graph, three all-reduces");
    exposed_behind(bench, three_all_reduces, "behind 50 ms, three all-reduces");
    exposed_after(bench, three_all_reduces, "after 50 ms, three all-reduces");
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
    bench.lanes = gpu_take(NUMERIC_LANES * sizeof(int64_t), NULL);
    bench.comm = bench.rank.comm;
    if (nccl_reduces() && bench.comm == NULL)
        bench.comm = nccl_open(member);
    host_time(&bench);
    launch_bound(&bench, five_calls, "launch-bound");
    if (how == NULL || strcmp(how, "memop") != 0) // which is not captured
        graphs(&bench);
    exposed(&bench);
    if (bench.comm != NULL)
        nccl_alone(&bench);
    EXPECT(tally_step_free(bench.step) == TALLY_OK);
    if (bench.comm != bench.rank.comm)
        nccl_close(bench.comm);
    rank_close(&bench.rank);
    free(bench.ns);
}

int main(int argc, char **argv)
{
    const struct wanted wanted = {
        .count = argc > 1 ? (size_t)atoll(argv[1]) : 4000,
        .ranks = argc > 2 ? (int32_t)atoi(argv[2]) : 1,
    };

    if (argc == 2 && strcmp(argv[1], "gpus") == 0) {
        printf("%d\n", gpu_count());
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); // what fails has said what it could
    if (gpu_count() < wanted.ranks || wanted.count < STEPS ||
        wanted.ranks < 1) {
        puts("skipped: there are not so many GPUs, or COUNT is below 20");
        return 77;
    }
    must_return(wanted.ranks, run, &wanted);
    return 0;
}

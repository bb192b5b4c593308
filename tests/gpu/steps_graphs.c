// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: graphs that are replayed.
// REPLAYS: of a captured graph. Where it is not set 10000; ranks that take
// turns on a GPU come to as many as there is patience for, and say how many.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/steps_epoch.h"

#define MANY 10000
#define PART 100      // between two looks at the clock
#define PATIENCE_S 50 // where ranks take turns

static bool waits_by_kernel(void)
{
    const char *text = getenv("TALLY_STREAM_WAIT");

    return text == NULL || strcmp(text, "memop") != 0;
}

bool has_graphs(void)
{
    if (!waits_by_kernel())
        puts("  skipped: not by a stream memory operation");
    return waits_by_kernel();
}

static uint64_t replays_or(uint64_t where_not_set)
{
    const char *text = getenv("REPLAYS");

    return text != NULL ? (uint64_t)atoll(text) : where_not_set;
}

// Of ranks that share so many GPUs, in cases that wait for each replay.
static uint64_t replays_of(int32_t ranks, int gpus)
{
    return replays_or(ranks > gpus ? 500 : MANY);
}

// Replays without a word of the host, in parts where ranks take turns: so many
// as all of them come to. Returns how many.
static uint64_t replay_often(void *graph, tally_stream_t stream,
                             struct processes_member *member, int gpus)
{
    const uint64_t wanted = replays_or(MANY);
    const bool take_turns = member->size > gpus;
    const uint64_t part = take_turns ? PART : wanted;
    const double begin = seconds();
    bool enough[PROCESSES_MAX] = {false};
    uint64_t done = 0;

    while (!enough[0]) {
        for (uint64_t i = 0; i < part && done < wanted; i++, done++)
            gpu_replay(graph, stream);
        gpu_synchronize(stream);
        const bool is_enough = done == wanted || seconds() - begin > PATIENCE_S;
        processes_exchange(member, &is_enough, enough, sizeof(is_enough));
    }
    if (member->rank == 0)
        printf("  %d ranks, %d GPUs: %llu of %llu replays, %.1f us each\n",
               (int)member->size, gpus, (unsigned long long)done,
               (unsigned long long)wanted,
               (seconds() - begin) * 1e6 / (double)done);
    return done;
}

static void *captured(tally_step_t *step, tally_order_t order,
                      const struct arrays *arrays, tally_stream_t stream)
{
    gpu_capture_begin(stream);
    enqueue(step, order, arrays, stream);
    return gpu_capture_end(stream);
}

static void replayed(struct processes_member *member, const void *order)
{
    const tally_order_t *of = order;
    struct rank rank;
    tally_channel_result_t channel, last;
    float max;

    const int gpus = rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, *of, TALLY_DEVICE_CUDA);
    enqueue(step, *of, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    void *graph = captured(step, *of, &arrays, rank.stream);
    const uint64_t replays = replay_often(graph, rank.stream, member, gpus);
    EXPECT(read_result(step, replays + 1, &last, &max) == TALLY_OK);
    EXPECT(last.loss_hi == channel.loss_hi && last.loss_lo == channel.loss_lo);
    EXPECT(last.count == channel.count && max == 1.5f);
    EXPECT(scale_on_gpu(step) == channel.scale);
    gpu_forget(graph);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void a_graph_is_replayed(void)
{
    if (!has_graphs())
        return;
    must_return(1, replayed, &count_first);
    must_return(1, replayed, &scale_late);
    must_return(2, replayed, &count_first);
}

static void expect_refused(tally_status_t status)
{
    EXPECT(status == TALLY_ERR_UNSUPPORTED);
    EXPECT(strstr(tally_last_error(),
                  "TALLY_STREAM_WAIT=memop: not for steps "
                  "that are captured into a graph") != NULL);
}

#define REFUSED_CAPTURED(call, stream)                                         \
    do {                                                                       \
        gpu_capture_begin(stream);                                             \
        expect_refused(call);                                                  \
        gpu_forget(gpu_capture_end(stream));                                   \
    } while (0)

// A call that is refused under capture has done nothing: it is made again.
#define ONCE_CAPTURED(call, stream)                                            \
    do {                                                                       \
        REFUSED_CAPTURED(call, stream);                                        \
        EXPECT((call) == TALLY_OK);                                            \
    } while (0)

static void begin_before_capture(tally_step_t *step, tally_order_t order,
                                 const struct arrays *arrays,
                                 tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(arrays->labels, TOKENS);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    const bool first = order == TALLY_COUNT_FIRST;

    logits.type = TALLY_F32;
    logits.values = arrays->logits;
    EXPECT(tally_step_begin(step, 1, stream) == TALLY_OK);
    if (first) {
        ONCE_CAPTURED(tally_step_count(step, 0, &labels, stream), stream);
        EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
        ONCE_CAPTURED(tally_step_loss(step, 0, &logits, &labels, NULL, stream),
                      stream);
        ONCE_CAPTURED(tally_step_end(step, stream), stream);
        return;
    }
    EXPECT(tally_step_loss(step, 0, &logits, &labels, NULL, stream) ==
           TALLY_OK);
    ONCE_CAPTURED(tally_step_reduce(step, stream), stream);
    ONCE_CAPTURED(tally_step_wait(step, stream), stream);
    EXPECT(tally_step_end(step, stream) == TALLY_OK);
}

static void refused(struct processes_member *member, const void *unused)
{
    const tally_order_t orders[] = {TALLY_COUNT_FIRST, TALLY_SCALE_LATE};
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *steps[2];
    for (uint64_t i = 0; i < 2; i++) {
        steps[i] = rank_step(&rank, orders[i], TALLY_DEVICE_CUDA);
        for (uint64_t epoch = 1; epoch <= 3; epoch++) {
            REFUSED_CAPTURED(tally_step_begin(steps[i], 1, rank.stream),
                             rank.stream);
            begin_before_capture(steps[i], orders[i], &arrays, rank.stream);
            EXPECT(read_result(steps[i], epoch, &channel, &max) == TALLY_OK);
            gpu_synchronize(rank.stream);
            EXPECT(scale_on_gpu(steps[i]) == channel.scale);
        }
        REFUSED_CAPTURED(tally_step_begin(steps[i], 1, rank.stream),
                         rank.stream);
    }
    EXPECT(tally_step_free(steps[0]) == TALLY_OK);
    EXPECT(tally_step_free(steps[1]) == TALLY_OK);
    rank_close(&rank);
}

void a_graph_is_refused_where_the_stream_has_no_epoch(void)
{
    if (waits_by_kernel()) {
        puts("  skipped: by a kernel, or the host");
        return;
    }
    must_return(1, refused, NULL);
}

int64_t new_labels(struct arrays *arrays, int rank, int ranks, uint64_t epoch)
{
    int64_t labels[TOKENS];
    int64_t all = 0;

    for (int i = 0; i < TOKENS; i++)
        labels[i] = (epoch + (uint64_t)rank) % TOKENS >= (uint64_t)i
                        ? i
                        : TALLY_IGNORE_INDEX;
    gpu_put(arrays->labels, labels, sizeof(labels));
    for (int r = 0; r < ranks; r++)
        all += (int64_t)((epoch + (uint64_t)r) % TOKENS) + 1;
    return all;
}

// Every replay counts what is in memory then, and the scale on the device is of
// that replay.
static void refilled(struct processes_member *member, const void *order)
{
    const tally_order_t *of = order;
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    uint64_t replays =
        replays_of(member->size, rank_open(&rank, member)) / 50 + 8;
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, *of, TALLY_DEVICE_CUDA);
    void *graph = captured(step, *of, &arrays, rank.stream);
    for (uint64_t epoch = 1; epoch <= replays; epoch++) {
        int64_t all = new_labels(&arrays, member->rank, member->size, epoch);
        gpu_replay(graph, rank.stream);
        gpu_synchronize(rank.stream);
        EXPECT(read_result(step, epoch, &channel, &max) == TALLY_OK);
        EXPECT(channel.count == all);
        EXPECT(scale_on_gpu(step) ==
               (float)((double)member->size / (double)all));
    }
    gpu_forget(graph);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void a_graph_sees_new_labels(void)
{
    if (!has_graphs())
        return;
    must_return(2, refilled, &count_first);
    must_return(2, refilled, &scale_late);
}

// Two groups, each captured on a stream of its own, replayed in turns on the
// same one, with a step that is enqueued call by call in between.
static void in_turns(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    uint64_t rounds =
        replays_of(member->size, rank_open(&rank, member)) / 10 + 1;
    struct rank second = second_group(&rank);
    struct arrays arrays = arrays_of(member->rank);
    struct arrays others = arrays_of(member->rank);
    tally_step_t *a = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    tally_step_t *b = rank_step(&second, TALLY_SCALE_LATE, TALLY_DEVICE_CUDA);
    void *graph_a = captured(a, TALLY_COUNT_FIRST, &arrays, rank.stream);
    void *graph_b = captured(b, TALLY_SCALE_LATE, &others, second.stream);
    for (uint64_t i = 0; i < rounds; i++) {
        gpu_replay(graph_a, rank.stream);
        gpu_replay(graph_b, rank.stream);
        enqueue(a, TALLY_COUNT_FIRST, &arrays, rank.stream);
    }
    EXPECT(read_result(a, 2 * rounds, &channel, &max) == TALLY_OK);
    int64_t counted = channel.count;
    EXPECT(read_result(b, rounds, &channel, &max) == TALLY_OK);
    EXPECT(channel.count == counted);
    gpu_synchronize(rank.stream);
    EXPECT(scale_on_gpu(a) == channel.scale);
    EXPECT(scale_on_gpu(b) == channel.scale);
    gpu_forget(graph_a);
    gpu_forget(graph_b);
    EXPECT(tally_step_free(a) == TALLY_OK);
    EXPECT(tally_step_free(b) == TALLY_OK);
    EXPECT(tally_group_free(second.group) == TALLY_OK);
    rank_close(&rank);
}

void two_graphs_take_turns(void)
{
    if (!has_graphs())
        return;
    must_return(2, in_turns, NULL);
}

// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: what the order of a stream is and does. Several streams,
// graphs that are replayed, ranks that do not agree on an order.
// REPLAYS: of a captured graph; where it is not set, 10000, and 500 for ranks
// that take turns on a GPU.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/steps_epoch.h"

static bool waits_by_kernel(void)
{
    const char *text = getenv("TALLY_STREAM_WAIT");

    return text == NULL || strcmp(text, "memop") != 0;
}

bool launches_block(void)
{
    return getenv("CUDA_LAUNCH_BLOCKING") != NULL;
}

// A second group of all ranks: a rank of its own, but for its process.
static struct rank second_group(const struct rank *rank)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    struct rank second = *rank;

    params.key = "second";
    second.comm = NULL; // one of Tally's own, over NCCL
    second.stream = gpu_stream();
    EXPECT(tally_group_create(rank->tally, &params, &second.group) == TALLY_OK);
    return second;
}

// ----------------------------------------------------------------- two streams

static void on_two_streams(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    struct arrays others = arrays_of(member->rank);
    tally_stream_t second = gpu_stream();
    tally_step_t *a = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    tally_step_t *b = rank_step(&rank, TALLY_SCALE_LATE, TALLY_DEVICE_CUDA);
    for (uint64_t i = 1; i <= 20; i++) {
        enqueue(a, TALLY_COUNT_FIRST, &arrays, rank.stream);
        enqueue(b, TALLY_SCALE_LATE, &others, second);
        EXPECT(read_result(a, i, &channel, &max) == TALLY_OK);
        EXPECT(read_result(b, i, &channel, &max) == TALLY_OK);
    }
    EXPECT(tally_step_free(a) == TALLY_OK);
    EXPECT(tally_step_free(b) == TALLY_OK);
    rank_close(&rank);
}

void two_steps_on_two_streams(void)
{
    must_return(2, on_two_streams, NULL);
}

// Two channels of two micro-batches. Where the streams are not one and the same
// they are joined by whoever enqueues; here by waiting for them.
static void count_twice(tally_step_t *step, const struct arrays *arrays,
                        const tally_stream_t streams[4])
{
    const tally_labels_t labels = labels_at(arrays->labels, TOKENS);

    for (int i = 0; i < 4; i++)
        EXPECT(tally_step_count(step, (uint32_t)i % 2, &labels, streams[i]) ==
               TALLY_OK);
    for (int i = 0; i < 4; i++)
        if (streams[i] != streams[3])
            gpu_synchronize(streams[i]);
}

static void of_two_channels(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_t channels[2] = {TALLY_INIT(tally_channel_t),
                                   TALLY_INIT(tally_channel_t)};
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_step_t *step;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    const tally_stream_t one = rank.stream, two = gpu_stream();
    const tally_stream_t streams[][4] = {{one, one, one, one},
                                         {one, two, one, one},
                                         {one, one, one, two},
                                         {two, two, two, two}};
    channels[0].vocab = VOCAB;
    channels[1].vocab = VOCAB;
    channels[1].coefficient = 0.5;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = channels;
    params.channel_count = 2;
    params.device = TALLY_DEVICE_CUDA;
    EXPECT(tally_step_create(rank.group, &params, &step) == TALLY_OK);
    for (uint64_t epoch = 1; epoch <= 16; epoch++) {
        tally_channel_result_t found[2] = {TALLY_INIT(tally_channel_result_t),
                                           TALLY_INIT(tally_channel_result_t)};
        tally_result_t result = TALLY_INIT(tally_result_t);
        const int64_t all =
            2 * new_labels(&arrays, member->rank, member->size, epoch);
        const tally_stream_t *at = streams[epoch % 4];
        EXPECT(tally_step_begin(step, 2, at[0]) == TALLY_OK);
        count_twice(step, &arrays, at);
        EXPECT(tally_step_reduce(step, at[3]) == TALLY_OK);
        EXPECT(tally_step_end(step, at[3]) == TALLY_OK);
        result.channels = found;
        result.channel_capacity = 2;
        EXPECT(tally_step_result(step, epoch, TALLY_RESULT_WAIT, &result) ==
               TALLY_OK);
        EXPECT(found[0].count == all && found[1].count == all);
        gpu_synchronize(at[3]);
        EXPECT(scale_on_gpu(step) ==
               (float)((double)member->size / (double)all));
    }
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void channels_are_counted_on_one_stream_or_two(void)
{
    must_return(2, of_two_channels, NULL);
}

// Several epochs lie ahead of the host, and the two groups hold different
// tokens, so that an answer of one that reached the other is seen.
static void of_two_groups(struct processes_member *member, const void *unused)
{
    struct rank rank;
    struct arrays arrays[2];
    tally_step_t *steps[2];
    tally_channel_result_t first[2], channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct rank second = second_group(&rank);
    struct rank *ranks[] = {&rank, &second};
    for (int g = 0; g < 2; g++) {
        arrays[g] = arrays_of(member->rank + 10 * g);
        steps[g] = rank_step(ranks[g], TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    }
    for (uint64_t epoch = 1; epoch <= 20; epoch++) {
        for (int g = 0; g < 2; g++)
            enqueue(steps[g], TALLY_COUNT_FIRST, &arrays[g], ranks[g]->stream);
        if (epoch % 4 != 1)
            continue;
        for (int g = 0; g < 2; g++) {
            EXPECT(read_result(steps[g], epoch, &channel, &max) == TALLY_OK);
            if (epoch == 1)
                first[g] = channel;
            EXPECT(channel.count == first[g].count);
            EXPECT(channel.loss_hi == first[g].loss_hi);
            EXPECT(channel.loss_lo == first[g].loss_lo);
        }
    }
    EXPECT(first[0].loss_lo != first[1].loss_lo);
    for (int g = 0; g < 2; g++) {
        gpu_synchronize(ranks[g]->stream);
        EXPECT(scale_on_gpu(steps[g]) == first[g].scale);
        EXPECT(tally_step_free(steps[g]) == TALLY_OK);
    }
    EXPECT(tally_group_free(second.group) == TALLY_OK);
    rank_close(&rank);
}

void two_groups_on_two_streams(void)
{
    must_return(2, of_two_groups, NULL);
}

// --------------------------------------------------------------------- graphs

// Of ranks that share so many GPUs.
static uint64_t replays_of(int32_t ranks, int gpus)
{
    const char *text = getenv("REPLAYS");

    if (text != NULL)
        return (uint64_t)atoll(text);
    return ranks > gpus ? 500 : 10000;
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

    uint64_t replays = replays_of(member->size, rank_open(&rank, member));
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, *of, TALLY_DEVICE_CUDA);
    enqueue(step, *of, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    void *graph = captured(step, *of, &arrays, rank.stream);
    const double begin = seconds();
    for (uint64_t i = 0; i < replays; i++)
        gpu_replay(graph, rank.stream);
    gpu_synchronize(rank.stream);
    if (member->rank == 0)
        printf("  %d ranks, order %d: %.1f us a replay\n", (int)member->size,
               (int)*of, (seconds() - begin) * 1e6 / (double)replays);
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
    if (!waits_by_kernel()) {
        puts("  skipped: not by a stream memory operation");
        return;
    }
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

// A call that is refused under capture has done nothing: it is made again.
#define ONCE_CAPTURED(call, stream)                                            \
    do {                                                                       \
        gpu_capture_begin(stream);                                             \
        expect_refused(call);                                                  \
        gpu_forget(gpu_capture_end(stream));                                   \
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
            gpu_capture_begin(rank.stream);
            expect_refused(tally_step_begin(steps[i], 1, rank.stream));
            gpu_forget(gpu_capture_end(rank.stream));
            begin_before_capture(steps[i], orders[i], &arrays, rank.stream);
            EXPECT(read_result(steps[i], epoch, &channel, &max) == TALLY_OK);
            gpu_synchronize(rank.stream);
            EXPECT(scale_on_gpu(steps[i]) == channel.scale);
        }
        gpu_capture_begin(rank.stream);
        expect_refused(tally_step_begin(steps[i], 1, rank.stream));
        gpu_forget(gpu_capture_end(rank.stream));
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
    if (!waits_by_kernel()) {
        puts("  skipped: not by a stream memory operation");
        return;
    }
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
    if (!waits_by_kernel()) {
        puts("  skipped: not by a stream memory operation");
        return;
    }
    must_return(2, in_turns, NULL);
}

// ------------------------------------------------------------- opposite orders

// Of two groups, the rank whose deadline is the first goes on to the step that
// the other one waits in: that one may still have its scale, or end well, and
// the next does not.
static void expect_one_failed(struct rank *rank, tally_step_t *const steps[2])
{
    tally_channel_result_t channel;
    float max;
    int failed = 0;

    for (int i = 0; i < 2; i++)
        failed += read_result(steps[i], 1, &channel, &max) != TALLY_OK;
    EXPECT(failed > 0);
    gpu_synchronize(rank->stream);
}

// The stream comes to the second step when the first has failed. A host whose
// launches block comes to it then, too.
static void crossed(struct processes_member *member, const void *groups)
{
    const int *two_groups = groups;
    struct rank rank, second;
    tally_step_t *steps[2];

    rank_open(&rank, member);
    second = *two_groups ? second_group(&rank) : rank;
    struct arrays arrays = arrays_of(member->rank);
    steps[0] = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    steps[1] = rank_step(&second, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    tally_step_t *before = steps[member->rank];
    tally_step_t *behind = steps[1 - member->rank];
    enqueue(before, TALLY_COUNT_FIRST, &arrays, rank.stream);
    if (!launches_block())
        enqueue(behind, TALLY_COUNT_FIRST, &arrays, rank.stream);
    if (*two_groups && !launches_block()) {
        expect_one_failed(&rank, steps);
    } else {
        // Over NCCL steps of a group do not wait for each other: the sums are
        // no one's.
        expect_failed(&rank, before, 1,
                      nccl_reduces() ? TALLY_ERR_TRANSPORT : TALLY_ERR_TIMEOUT);
        if (!launches_block())
            EXPECT(isnan(scale_on_gpu(behind)));
    }
    processes_barrier(member);
    for (int i = 0; i < 2; i++)
        EXPECT(tally_step_free(steps[i]) == TALLY_OK);
    if (*two_groups)
        EXPECT(tally_group_free(second.group) == TALLY_OK);
    rank_close(&rank);
}

static void cross(int groups)
{
    setenv("TALLY_TIMEOUT", "2", 1);
    must_return(2, crossed, &groups);
    unsetenv("TALLY_TIMEOUT");
}

void opposite_orders_end_by_the_deadline(void)
{
    cross(false);
}

void opposite_orders_of_groups_end_by_the_deadline(void)
{
    if (nccl_reduces()) {
        puts("  skipped: NCCL's communicators are ended at different times");
        return;
    }
    cross(true);
}

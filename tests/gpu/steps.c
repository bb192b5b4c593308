// SPDX-License-Identifier: BSD-3-Clause
// Steps on a CUDA device: ranks are processes, on a GPU each where there are
// enough, else they share them. The driver is this machine's; without a GPU all
// is skipped.
//     gpu_steps [CASE ...]
// RANKS: of cases that compare with the host; 2 where it is not set. REPLAYS:
// see steps_graphs.c.
#include "gpu/steps_epoch.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct batch {
    int64_t labels[TOKENS];
    float logits[TOKENS * VOCAB];
};

static void batch_fill(struct batch *batch, int rank)
{
    uint64_t state = (uint64_t)rank * 977 + 1;

    for (int i = 0; i < TOKENS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        batch->labels[i] = (state >> 40) % 3 == 0
                               ? TALLY_IGNORE_INDEX
                               : (int64_t)((state >> 33) % VOCAB);
    }
    for (int i = 0; i < TOKENS * VOCAB; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        batch->logits[i] = (float)(state >> 40) * 0x1p-21f - 4;
    }
}

static struct arrays arrays_on_gpu(const struct batch *batch)
{
    struct arrays arrays = {
        .labels = gpu_take(sizeof(batch->labels), batch->labels),
        .logits = gpu_take(sizeof(batch->logits), batch->logits),
        .gradient = gpu_take(sizeof(batch->logits), NULL),
    };
    const float one = 1.5f;

    arrays.value = gpu_take(sizeof(one), &one);
    return arrays;
}

struct arrays arrays_of(int rank)
{
    static struct batch batch;

    batch_fill(&batch, rank);
    return arrays_on_gpu(&batch);
}

void rank_1_is_killed(struct processes_member *member)
{
    processes_barrier(member);
    if (member->rank != 1)
        return;
    usleep(300000);
    kill(getpid(), SIGKILL);
}

void enqueue_begin(tally_step_t *step, tally_order_t order,
                   const struct arrays *arrays, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(arrays->labels, TOKENS);

    EXPECT(tally_step_begin(step, 1, stream) == TALLY_OK);
    if (order == TALLY_COUNT_FIRST) {
        EXPECT(tally_step_count(step, 0, &labels, stream) == TALLY_OK);
        EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
    }
}

void enqueue_end(tally_step_t *step, tally_order_t order,
                 const struct arrays *arrays, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(arrays->labels, TOKENS);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);

    logits.type = TALLY_F32;
    logits.values = arrays->logits;
    outputs.gradient = arrays->gradient;
    EXPECT(tally_step_max(step, 0, arrays->value, stream) == TALLY_OK);
    EXPECT(tally_step_loss(step, 0, &logits, &labels, &outputs, stream) ==
           TALLY_OK);
    if (order == TALLY_SCALE_LATE)
        EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
    EXPECT(tally_step_end(step, stream) == TALLY_OK);
}

void enqueue(tally_step_t *step, tally_order_t order,
             const struct arrays *arrays, tally_stream_t stream)
{
    enqueue_begin(step, order, arrays, stream);
    enqueue_end(step, order, arrays, stream);
}

tally_status_t read_result(tally_step_t *step, uint64_t epoch,
                           tally_channel_result_t *channel, float *max)
{
    tally_result_t result = TALLY_INIT(tally_result_t);

    *channel = (tally_channel_result_t)TALLY_INIT(tally_channel_result_t);
    result.channels = channel;
    result.channel_capacity = 1;
    tally_status_t status =
        tally_step_result(step, epoch, TALLY_RESULT_WAIT, &result);
    EXPECT(status != TALLY_OK || result.epoch == epoch);
    *max = result.max[0];
    return status;
}

float scale_on_gpu(tally_step_t *step)
{
    const float *at;
    float scale;

    EXPECT(tally_step_scale(step, &at) == TALLY_OK);
    gpu_get(&scale, at, sizeof(scale));
    return scale;
}

// The same epoch on the host: integers of weights and counts are equal, losses
// within the accuracy that doc/numbers.md states.
static void as_on_the_host(struct processes_member *member, const void *order)
{
    const tally_order_t *of = order;
    struct rank rank;
    static struct batch batch;
    tally_channel_result_t host, device;
    float host_max, max;

    rank_open(&rank, member);
    batch_fill(&batch, member->rank);
    struct arrays arrays = arrays_on_gpu(&batch);
    static float gradient[TOKENS * VOCAB];
    static float own[TOKENS * VOCAB];
    float value = 1.5f;
    struct arrays plain = {batch.labels, batch.logits, own, &value};
    tally_step_t *on_host = rank_step(&rank, *of, TALLY_DEVICE_HOST);
    tally_step_t *step = rank_step(&rank, *of, TALLY_DEVICE_CUDA);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        enqueue(on_host, *of, &plain, NULL);
        enqueue(step, *of, &arrays, rank.stream);
        EXPECT(read_result(on_host, epoch, &host, &host_max) == TALLY_OK);
        EXPECT(read_result(step, epoch, &device, &max) == TALLY_OK);
        gpu_synchronize(rank.stream);
        EXPECT(host.count == device.count && host.count > 0);
        EXPECT(host.weight_hi == device.weight_hi);
        EXPECT(host.weight_lo == device.weight_lo);
        EXPECT(host.scale == device.scale);
        EXPECT(scale_on_gpu(step) == host.scale);
        EXPECT(max == 1.5f && host_max == 1.5f);
        EXPECT(fabs(host.loss_sum - device.loss_sum) <=
               (double)host.count * 2e-6 + host.loss_sum * 0x1p-22);
        EXPECT(device.loss_sum > 0);
    }
    gpu_get(gradient, arrays.gradient, sizeof(gradient));
    for (int i = 0; i < TOKENS * VOCAB; i++)
        EXPECT(fabsf(gradient[i] - own[i]) <= 1e-6f + fabsf(own[i]) * 1e-4f);
    EXPECT(tally_step_free(step) == TALLY_OK);
    EXPECT(tally_step_free(on_host) == TALLY_OK);
    rank_close(&rank);
}

const tally_order_t count_first = TALLY_COUNT_FIRST;
const tally_order_t scale_late = TALLY_SCALE_LATE;

static void spread(struct processes_member *member, const void *unused)
{
    struct rank rank;
    int numbers[PROCESSES_MAX];

    (void)unused;
    const int gpus = rank_open(&rank, member);
    const int own = gpu_number();
    processes_exchange(member, &own, numbers, sizeof(own));
    for (int i = 0; i < member->size; i++)
        EXPECT(numbers[i] == i % gpus);
    EXPECT((getenv("NCCL_HOSTID") != NULL) == (gpus < member->size));
    if (member->rank == 0)
        printf("  %d ranks, %d GPUs\n", (int)member->size,
               gpus < member->size ? gpus : (int)member->size);
    rank_close(&rank);
}

static void ranks_have_a_gpu_each_where_there_are_enough(void)
{
    must_return(2, spread, NULL);
    must_return(3, spread, NULL);
}

static int32_t ranks_wanted(void)
{
    const char *text = getenv("RANKS");

    return text != NULL ? (int32_t)atoi(text) : 2;
}

static void count_first_is_as_on_the_host(void)
{
    must_return(ranks_wanted(), as_on_the_host, &count_first);
}

static void scale_late_is_as_on_the_host(void)
{
    must_return(ranks_wanted(), as_on_the_host, &scale_late);
}

static void hold(void *argument)
{
    atomic_int *held = argument;

    while (atomic_load(held) != 0)
        usleep(100);
}

// The stream stands still while all of an epoch is enqueued behind it: a call
// that waited for it would wait for ever.
static void enqueued_whole(struct processes_member *member, const void *unused)
{
    static atomic_int held = 1;
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    gpu_call(rank.stream, hold, &held);
    alarm(60);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    tally_result_t result = TALLY_INIT(tally_result_t);
    EXPECT(tally_step_result(step, 2, 0, &result) == TALLY_NOT_YET);
    atomic_store(&held, 0);
    alarm(0);
    EXPECT(read_result(step, 2, &channel, &max) == TALLY_OK);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void nothing_waits_for_the_stream(void)
{
    if (getenv("CUDA_LAUNCH_BLOCKING") != NULL) {
        puts("  skipped: launches block");
        return;
    }
    must_return(2, enqueued_whole, NULL);
}

static void on_streams(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    // NCCL may enqueue by a thread of its own, so the thread's is refused then.
    const tally_stream_t of_thread = (tally_stream_t)2;
    const tally_stream_t streams[] = {NULL, (tally_stream_t)1,
                                      nccl_reduces() ? rank.stream : of_thread,
                                      rank.stream};
    for (int i = 0; i < 8; i++) {
        enqueue(step, TALLY_COUNT_FIRST, &arrays, streams[i % 4]);
        gpu_synchronize(streams[i % 4]); // they are not joined by events
        EXPECT(read_result(step, (uint64_t)i + 1, &channel, &max) == TALLY_OK);
        EXPECT(scale_on_gpu(step) == channel.scale);
    }
    if (nccl_reduces()) {
        const tally_labels_t labels = labels_at(arrays.labels, TOKENS);
        EXPECT(tally_step_begin(step, 1, rank.stream) == TALLY_OK);
        EXPECT(tally_step_count(step, 0, &labels, rank.stream) == TALLY_OK);
        EXPECT(tally_step_reduce(step, of_thread) == TALLY_ERR_UNSUPPORTED);
        EXPECT(tally_step_reduce(step, rank.stream) == TALLY_OK);
        EXPECT(tally_step_end(step, rank.stream) == TALLY_OK);
        EXPECT(read_result(step, 9, &channel, &max) == TALLY_OK);
    }
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void every_kind_of_stream(void)
{
    must_return(2, on_streams, NULL);
}

void expect_failed(struct rank *rank, tally_step_t *step, uint64_t epoch,
                   tally_status_t expected)
{
    tally_channel_result_t channel;
    float max;

    tally_status_t status = read_result(step, epoch, &channel, &max);
    if (status != expected)
        fprintf(stderr, "status %d: %s\n", (int)status, tally_last_error());
    EXPECT(status == expected);
    if (rank->comm != NULL && expected == TALLY_ERR_PEER)
        EXPECT(tally_step_free(step) == TALLY_ERR_BUSY);
    expect_dead(rank, step);
}

void expect_dead(struct rank *rank, tally_step_t *step)
{
    rank_abort(rank);
    gpu_synchronize(rank->stream);
    float scale = scale_on_gpu(step);
    EXPECT(isnan(scale));
    EXPECT(tally_step_begin(step, 1, rank->stream) == TALLY_ERR_DEAD);
}

static void killed(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    rank_1_is_killed(member);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    expect_failed(&rank, step, 2, TALLY_ERR_PEER);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void a_peer_is_killed_while_the_stream_waits(void)
{
    const enum processes_end ends[] = {PROCESSES_RETURNS, PROCESSES_IS_KILLED};

    must_end(2, killed, NULL, ends);
}

double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name)                                                             \
    {                                                                          \
        #name, name                                                            \
    }
    CASE(ranks_have_a_gpu_each_where_there_are_enough),
    CASE(count_first_is_as_on_the_host),
    CASE(scale_late_is_as_on_the_host),
    CASE(shaped_losses_are_as_on_the_host),
    CASE(shaped_losses_of_two_streams_are_apart),
    CASE(columns_of_shards_are_those_of_whole_rows),
    CASE(nothing_waits_for_the_stream),
    CASE(only_the_application_calls_the_driver),
    CASE(every_kind_of_stream),
    CASE(channels_are_counted_on_one_stream_or_two),
    CASE(two_steps_on_two_streams),
    CASE(two_groups_on_two_streams),
    CASE(a_graph_is_replayed),
    CASE(a_graph_sees_new_labels),
    CASE(a_graph_is_refused_where_the_stream_has_no_epoch),
    CASE(two_graphs_take_turns),
    CASE(an_abandoned_epoch_ends_at_all_ranks),
    CASE(a_peer_is_killed_while_the_stream_waits),
    CASE(of_three_ranks_one_is_killed),
    CASE(what_a_late_host_has_missed_is_overwritten),
    CASE(steps_that_differ_are_refused_at_all_ranks),
    CASE(without_nccl_at_one_rank_the_host_reduces),
    CASE(opposite_orders_end_by_the_deadline),
    CASE(opposite_orders_of_groups_end_by_the_deadline),
#undef CASE
};

int main(int argc, char **argv)
{
    const int gpus = gpu_count();

    if (gpus == 0) {
        puts("skipped: there is no GPU");
        return 77;
    }
    printf("%d GPUs\n", gpus);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++)
            wanted = wanted || strstr(cases[i].name, argv[k]) != NULL;
        if (!wanted)
            continue;
        const double begin = seconds();
        printf("%s\n", cases[i].name);
        fflush(stdout);
        cases[i].run();
        printf("  %.1f s\n", seconds() - begin);
    }
    return 0;
}

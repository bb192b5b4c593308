// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: what the order of a stream is and does. Several streams,
// ranks that do not agree on an order.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/objects.h"
#include "gpu/steps_epoch.h"

#define DEADLINE_S "2"
#define NCCL_DEADLINE_S "4" // it may connect at the first use
#define SLACK_S 20          // of a machine that has other work
#define PATIENCE_S 120      // then a case hangs

bool launches_block(void)
{
    return getenv("CUDA_LAUNCH_BLOCKING") != NULL;
}

struct rank second_group(const struct rank *rank)
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

static void cross(void (*run)(struct processes_member *, const void *),
                  int groups, const char *deadline_s)
{
    setenv("TALLY_TIMEOUT", deadline_s, 1);
    must_return(2, run, &groups);
    unsetenv("TALLY_TIMEOUT");
}

void opposite_orders_end_by_the_deadline(void)
{
    cross(crossed, false, DEADLINE_S);
}

// One of two groups over NCCL.
struct side {
    struct rank rank;
    tally_step_t *step;
    tally_channel_result_t good; // of an epoch in the order of all
    tally_status_t status;       // of the next
};

// A wait for a result may end before the stream has come to it.
static tally_status_t read_end(tally_step_t *step, uint64_t epoch,
                               tally_channel_result_t *channel, double until)
{
    struct progress *progress = step->group->tally->progress;
    tally_status_t status, fate;
    float max;

    do {
        status = read_result(step, epoch, channel, &max);
        progress_lock(progress);
        fate = step->group->fate.status;
        progress_unlock(progress);
    } while (status == TALLY_ERR_TIMEOUT && fate == TALLY_OK &&
             seconds() < until);
    return status;
}

static void expect_end(struct side *side, double until)
{
    tally_channel_result_t channel;

    side->status = read_end(side->step, 2, &channel, until);
    EXPECT(seconds() < until);
    if (side->status != TALLY_OK) {
        EXPECT(side->status == TALLY_ERR_TIMEOUT ||
               side->status == TALLY_ERR_PEER ||
               side->status == TALLY_ERR_TRANSPORT);
        rank_abort(&side->rank);
        return;
    }
    EXPECT(channel.count == side->good.count);
    EXPECT(channel.loss_hi == side->good.loss_hi);
    EXPECT(channel.loss_lo == side->good.loss_lo);
}

// The stream has the right scale, or none; who failed is dead.
static void expect_ended(const struct side *side)
{
    const float scale = scale_on_gpu(side->step);

    EXPECT(scale == side->good.scale ||
           (isnan(scale) && side->status != TALLY_OK));
    if (side->status != TALLY_OK)
        EXPECT(tally_step_begin(side->step, 1, side->rank.stream) ==
               TALLY_ERR_DEAD);
}

// Whoever's deadline is the first goes on to what the other one waits in: that
// may end well. What the other one goes on to has lost its peer, and has a
// deadline of its own.
static void cross_sides(struct processes_member *member, struct side *sides[2],
                        const struct arrays *arrays)
{
    tally_status_t first[PROCESSES_MAX];
    const double until = seconds() + 2 * atof(NCCL_DEADLINE_S) + SLACK_S;

    for (int i = 0; i < 2; i++)
        enqueue(sides[i]->step, TALLY_COUNT_FIRST, arrays,
                sides[i]->rank.stream);
    for (int i = 0; i < 2; i++)
        expect_end(sides[i], until);
    EXPECT(sides[0]->status != TALLY_OK || sides[1]->status != TALLY_OK);
    processes_exchange(member, &sides[0]->status, first, sizeof(first[0]));
    EXPECT(first[0] == TALLY_ERR_TIMEOUT || first[1] == TALLY_ERR_TIMEOUT);
    for (int i = 0; i < 2; i++)
        rank_abort(&sides[i]->rank);
    gpu_synchronize(sides[0]->rank.stream);
    for (int i = 0; i < 2; i++)
        expect_ended(sides[i]);
}

// Both groups on one stream. Once in the same order: what NCCL and the driver
// load at the first use may wait for the device, which stands still later.
static void crossed_over_nccl(struct processes_member *member,
                              const void *unused)
{
    struct side sides[2];
    float max;

    (void)unused;
    rank_open(&sides[0].rank, member);
    sides[1].rank = second_group(&sides[0].rank);
    sides[1].rank.stream = sides[0].rank.stream;
    struct arrays arrays = arrays_of(member->rank);
    alarm(PATIENCE_S);
    for (int i = 0; i < 2; i++)
        sides[i].step =
            rank_step(&sides[i].rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    for (int i = 0; i < 2; i++) {
        enqueue(sides[i].step, TALLY_COUNT_FIRST, &arrays,
                sides[i].rank.stream);
        EXPECT(read_result(sides[i].step, 1, &sides[i].good, &max) == TALLY_OK);
    }
    processes_barrier(member);
    struct side *in_order[] = {&sides[member->rank], &sides[1 - member->rank]};
    cross_sides(member, in_order, &arrays);
    processes_barrier(member);
    for (int i = 0; i < 2; i++)
        EXPECT(tally_step_free(sides[i].step) == TALLY_OK);
    EXPECT(tally_group_free(sides[1].rank.group) == TALLY_OK);
    rank_close(&sides[0].rank);
}

void opposite_orders_of_groups_end_by_the_deadline(void)
{
    if (!nccl_reduces())
        cross(crossed, true, DEADLINE_S);
    else if (launches_block())
        puts("  skipped: the host does not come to the second group");
    else
        cross(crossed_over_nccl, true, NCCL_DEADLINE_S);
}

// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: ranks that end, that are late, or that do not agree on a
// step or on who reduces it.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/objects.h"
#include "core/step_device.h"
#include "device/cuda/cuda.h"
#include "gpu/steps_epoch.h"
#include "kernels/slot.h"

#define PATIENCE_S 120 // then a case hangs

// ------------------------------------------------- an epoch is abandoned

// By rank 1 before its losses, then before it has counted all.
static void abandoned(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t first, channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    alarm(PATIENCE_S);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &first, &max) == TALLY_OK);
    EXPECT(first.flags == 0);
    for (uint64_t epoch = 2; epoch <= 3; epoch++) {
        if (member->rank == 0) {
            enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
            continue;
        }
        if (epoch == 2)
            enqueue_begin(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
        else
            EXPECT(tally_step_begin(step, 1, rank.stream) == TALLY_OK);
        EXPECT(tally_step_free(step) == TALLY_ERR_BUSY);
        EXPECT(tally_step_abandon(step, rank.stream) == TALLY_OK);
    }
    EXPECT(read_result(step, 2, &channel, &max) == TALLY_OK);
    EXPECT(channel.count == first.count);
    EXPECT(channel.flags == TALLY_STEP_OTHER_TOKENS);
    EXPECT(read_result(step, 3, &channel, &max) == TALLY_OK);
    EXPECT(channel.count < first.count && channel.flags == 0);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 4, &channel, &max) == TALLY_OK);
    EXPECT(channel.count == first.count && channel.flags == 0);
    alarm(0);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void an_abandoned_epoch_ends_at_all_ranks(void)
{
    must_return(2, abandoned, NULL);
}

// ----------------------------------------------------- one of three ends

// Until the stream has gone on behind a reduction; not for ever, as NCCL may
// not hand on anything.
static void await_slot(const tally_step_t *step, uint64_t sequence)
{
    int64_t lanes[STEP_LANES_MAX];
    struct kernel_slot head;

    for (int i = 0; i < 5000 && step_device_read(step, sequence, &head,
                                                 lanes) == SLOT_NOT_YET;
         i++)
        usleep(1000);
}

// Over NCCL the survivor that is the first to abort hands on what it has. The
// other one, who does not look until then, must not take it for a sum.
static void one_of_three(struct processes_member *member, const void *unused)
{
    struct rank rank;
    tally_channel_result_t first, channel;
    uint64_t last = 2;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &first, &max) == TALLY_OK);
    rank_1_is_killed(member);
    alarm(PATIENCE_S);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    if (!launches_block()) { // one more behind it
        enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
        last++;
    }
    if (nccl_reduces() && member->rank == 2) {
        progress_lock(step->group->tally->progress);
        await_slot(step, 3);
        progress_unlock(step->group->tally->progress);
    }
    for (uint64_t epoch = 2; epoch <= last; epoch++)
        EXPECT(read_result(step, epoch, &channel, &max) == TALLY_ERR_PEER);
    expect_dead(&rank, step);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    EXPECT(memcmp(&channel, &first, sizeof(first)) == 0);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void of_three_ranks_one_is_killed(void)
{
    const enum processes_end ends[] = {PROCESSES_RETURNS, PROCESSES_IS_KILLED,
                                       PROCESSES_RETURNS};

    must_end(3, one_of_three, NULL, ends);
}

// ----------------------------------------------------------- a late host

// An epoch in two graphs, as the stream may stand between its two reductions.
struct halves {
    void *weights, *losses;
};

static struct halves captured(tally_step_t *step, const struct arrays *arrays,
                              tally_stream_t stream)
{
    struct halves halves;

    gpu_capture_begin(stream);
    enqueue_begin(step, TALLY_COUNT_FIRST, arrays, stream);
    halves.weights = gpu_capture_end(stream);
    gpu_capture_begin(stream);
    enqueue_end(step, TALLY_COUNT_FIRST, arrays, stream);
    halves.losses = gpu_capture_end(stream);
    return halves;
}

static void expect_overwritten(tally_step_t *step, uint64_t epoch)
{
    tally_channel_result_t channel;
    char sentence[64];
    float max;

    EXPECT(read_result(step, epoch, &channel, &max) == TALLY_ERR_OVERWRITTEN);
    snprintf(sentence, sizeof(sentence), "epoch %d has left the ring",
             (int)epoch);
    EXPECT(strstr(tally_last_error(), sentence) != NULL);
}

static void expect_counted(tally_step_t *step, uint64_t epoch, int64_t all)
{
    tally_channel_result_t channel;
    float max;

    EXPECT(read_result(step, epoch, &channel, &max) == TALLY_OK);
    if (channel.count != all || max != 1.5f)
        fprintf(stderr, "epoch %d: %lld of %lld tokens, maximum %g\n",
                (int)epoch, (long long)channel.count, (long long)all,
                (double)max);
    EXPECT(channel.count == all && max == 1.5f);
}

// The host sees five epochs and nothing of those up to the twentieth. While it
// looks, one rank has begun to reduce the next, so that of its 16 slots the
// first is half an epoch, and the last has no totals yet.
static void late_host(struct processes_member *member, const void *unused)
{
    const uint64_t seen = 5, last = 20;
    struct rank rank;
    int64_t all[22];

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    struct progress *progress = step->group->tally->progress;
    struct halves graph = captured(step, &arrays, rank.stream);
    for (uint64_t epoch = 1; epoch <= last; epoch++) {
        if (epoch == seen + 1)
            progress_lock(progress);
        all[epoch] = new_labels(&arrays, member->rank, member->size, epoch);
        gpu_replay(graph.weights, rank.stream);
        gpu_replay(graph.losses, rank.stream);
        gpu_synchronize(rank.stream);
        if (epoch <= seen)
            expect_counted(step, epoch, all[epoch]);
    }
    all[last + 1] = new_labels(&arrays, member->rank, member->size, last + 1);
    alarm(PATIENCE_S);
    if (member->rank == 0) {
        gpu_replay(graph.weights, rank.stream);
        while (__atomic_load_n(&step->device->mirror->started,
                               __ATOMIC_ACQUIRE) <= 2 * last)
            usleep(1000);
    }
    progress_unlock(progress);
    const uint64_t kept = last - KERNEL_SLOTS / 2 + (member->rank == 0 ? 2 : 1);
    for (uint64_t epoch = 1; epoch < kept; epoch++)
        expect_overwritten(step, epoch);
    for (uint64_t epoch = kept; epoch <= last; epoch++)
        expect_counted(step, epoch, all[epoch]);
    processes_barrier(member);
    if (member->rank != 0)
        gpu_replay(graph.weights, rank.stream);
    gpu_replay(graph.losses, rank.stream);
    gpu_synchronize(rank.stream);
    expect_counted(step, last + 1, all[last + 1]);
    EXPECT(scale_on_gpu(step) ==
           (float)((double)member->size / (double)all[last + 1]));
    gpu_forget(graph.weights);
    gpu_forget(graph.losses);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void what_a_late_host_has_missed_is_overwritten(void)
{
    if (!nccl_reduces()) {
        puts("  skipped: the stream waits for its host");
        return;
    }
    must_return(2, late_host, NULL);
}

// ---------------------------------------------------- ranks do not agree

static void expect_mismatch(const struct rank *rank, uint32_t max_lanes,
                            tally_device_t device, const char *sentence)
{
    tally_step_t *step = NULL;

    EXPECT(rank_try_step(rank, TALLY_COUNT_FIRST, max_lanes, device, &step) ==
           TALLY_ERR_MISMATCH);
    EXPECT(step == NULL);
    if (strstr(tally_last_error(), sentence) == NULL)
        fprintf(stderr, "%s\n", tally_last_error());
    EXPECT(strstr(tally_last_error(), sentence) != NULL);
}

// Before the group has a communicator, and with one.
static void differing(struct processes_member *member, const void *unused)
{
    const bool differs = member->rank == 1;
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    alarm(PATIENCE_S);
    for (int i = 0; i < 2; i++) {
        expect_mismatch(&rank, differs ? 2 : 1, TALLY_DEVICE_CUDA,
                        "max_lanes is 2 at rank 1 and 1 at rank 0");
        if (nccl_reduces())
            expect_mismatch(&rank, 1,
                            differs ? TALLY_DEVICE_HOST : TALLY_DEVICE_CUDA,
                            "the stream's own reduction (params.device, "
                            "nccl_comm) is 0 at rank 1 and 1 at rank 0");
        tally_step_t *step =
            rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
        enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
        EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
        EXPECT(tally_step_free(step) == TALLY_OK);
    }
    rank_close(&rank);
}

void steps_that_differ_are_refused_at_all_ranks(void)
{
    must_return(2, differing, NULL);
}

// --------------------------------------------------------------- no NCCL

static void lacking(struct processes_member *member, const void *all)
{
    const bool *all_lack = all;
    struct rank rank;

    setenv("TALLY_TRANSPORT", "nccl,shm", 1);
    if (*all_lack || member->rank == 1)
        setenv("TALLY_NCCL_LIBRARY", "/nonexistent/libnccl.so.2", 1);
    rank_open(&rank, member);
    struct arrays arrays = arrays_of(member->rank);
    alarm(PATIENCE_S);
    // Looks at what the group says of its transport.
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        int64_t counted =
            new_labels(&arrays, member->rank, member->size, epoch);
        enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
        expect_counted(step, epoch, counted);
        gpu_synchronize(rank.stream);
        EXPECT(scale_on_gpu(step) ==
               (float)((double)member->size / (double)counted));
    }
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

void without_nccl_at_one_rank_the_host_reduces(void)
{
    const bool one = false, all = true;

    if (!nccl_reduces()) {
        puts("  skipped: TALLY_TRANSPORT is not nccl");
        return;
    }
    must_return(3, lacking, &one);
    must_return(2, lacking, &all);
}

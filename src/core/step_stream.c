// SPDX-License-Identifier: BSD-3-Clause
// See step_stream.h.
#include "core/step_stream.h"

#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/step_device.h"
#include "core/stream.h"

#define SETTLE_US ((int64_t)2000000)
#define NAP_US 1000

static const struct step_reduction by_stream;

static bool is_on_stream(const tally_step_t *step)
{
    return step->device != NULL && step->reduction == &by_stream;
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

// ------------------------------------------------------------- what it
// enqueues

// Without maxima their lanes are those of nobody, at all ranks. Nothing is
// taken from lanes that were not reduced: the stream goes on with a NaN, and
// the group is dead, or will be.
static void reduce(tally_step_t *step, bool maxima, tally_stream_t stream)
{
    tally_status_t status =
        stream_reduce(step->group, step->device->lanes,
                      NUMERIC_LANES * (size_t)step->channel_count,
                      maxima ? step->max_lanes : 0, stream);

    if (status != TALLY_OK)
        __atomic_store_n(&step->device->mirror->dead, 1, __ATOMIC_SEQ_CST);
}

// A failure is in the scale and the result.
static tally_status_t publish(tally_step_t *step, uint32_t carries,
                              tally_stream_t stream)
{
    double coefficients[TALLY_CHANNELS_MAX];
    const struct cuda_reduction reduction = {
        .number = step->number,
        .carries = carries,
        .micro_batches = step->micro_batches,
        .maxima = (carries & KERNEL_SLOT_LOSSES) != 0,
        .divisor = step_divisor(step, step->micro_batches, 1),
        .coefficients = coefficients,
    };
    struct device *device = step->device->device;
    bool entered;

    for (uint32_t k = 0; k < step->channel_count; k++)
        coefficients[k] = step->channels[k].coefficient;
    tally_status_t status = cuda_step_check_stream(stream);
    if (status == TALLY_OK)
        status = cuda_enter(device, &entered);
    if (status != TALLY_OK)
        return status;
    status = cuda_step_contribute(step->device, &reduction, stream);
    if (status == TALLY_OK) {
        reduce(step, reduction.maxima, stream);
        status = cuda_step_settle(step->device, &reduction, stream);
    }
    cuda_leave(device, entered);
    return status;
}

// The scales are there when the stream is.
static tally_status_t wait_for_nothing(tally_step_t *step,
                                       tally_stream_t stream)
{
    (void)step;
    (void)stream;
    return TALLY_OK;
}

// ------------------------------------------------------- what came of it

// The host was late: what it has not seen is gone, and what it has seen is
// a ring behind, or more. False: that a reduction has started may be seen after
// what has come of it, for nothing orders the two.
static bool skip(tally_step_t *step, uint64_t next)
{
    const uint64_t started = load(&step->device->mirror->started);

    if (started < next + KERNEL_SLOTS)
        return false;
    memset(step->ring, 0, sizeof(step->ring));
    queue_skip(step->queue, started - KERNEL_SLOTS);
    return true;
}

static void doubt(const tally_step_t *step, const struct kernel_slot *head)
{
    tally_status_t status =
        core_fail(TALLY_ERR_TRANSPORT,
                  "epoch %llu: a sum is not one of all ranks: one was aborted "
                  "amid it, or they enqueue their steps in different orders",
                  (unsigned long long)head->epoch);

    stream_doubt(step->group, status);
}

// The group's end is awaited where the stream has none of its totals: it says
// why.
static void feed(void *context)
{
    tally_step_t *step = context;
    struct queue *queue = step->queue;
    struct kernel_slot head;

    for (;;) {
        const uint64_t next = queue->posted + 1;
        const enum slot_state state =
            step_device_read(step, next, &head, step->lanes);

        if (state == SLOT_PASSED && skip(step, next))
            continue;
        if (state != SLOT_WHOLE)
            return;
        const bool poisoned = (head.carries & KERNEL_SLOT_POISONED) != 0;
        if (poisoned && step->group->fate.status == TALLY_OK) {
            doubt(step, &head);
            return;
        }
        step_device_note_epoch(step, next, &head);
        queue_take(queue, poisoned ? step->group->fate.status : TALLY_OK,
                   step->lanes, head.epoch);
    }
}

static const struct step_reduction by_stream = {
    .publish = publish,
    .wait = wait_for_nothing,
    .feed = feed,
};

// ---------------------------------------------------------- beginning and end

bool step_stream_wanted(const tally_step_t *step)
{
    const tally_group_t *group = step->group;

    return step->device != NULL &&
           (group->nccl_comm != NULL || group->tally->transports->stream_first);
}

tally_status_t step_stream_join(tally_step_t *step, uint64_t number,
                                bool *joined)
{
    tally_group_t *group = step->group;
    tally_t *tally = group->tally;
    bool entered;

    *joined = false;
    tally_status_t status = cuda_enter(tally->cuda, &entered);
    if (status != TALLY_OK)
        return status;
    status = stream_join(group);
    cuda_leave(tally->cuda, entered);
    if (status == TALLY_ERR_TRANSPORT && group->nccl_comm == NULL &&
        !tally->transports->stream_only) {
        core_log(&tally->log, TALLY_LOG_INFO,
                 "group \"%s\": the host reduces its steps: %s", group->key,
                 core_error_text());
        return TALLY_OK;
    }
    if (status != TALLY_OK)
        return status;
    step->number = number;
    step->watched.mirror = step->device->mirror;
    step_device_attach(step, &by_stream);
    stream_add(group, &step->watched);
    *joined = true;
    return TALLY_OK;
}

bool step_stream_failed(const tally_step_t *step)
{
    return is_on_stream(step) && step->group->fate.status != TALLY_OK;
}

static bool is_settled(const tally_step_t *step)
{
    const uint64_t started = load(&step->device->mirror->started);
    int64_t lanes[STEP_LANES_MAX];
    struct kernel_slot head;

    return started == 0 ||
           step_device_read(step, started, &head, lanes) != SLOT_NOT_YET;
}

tally_status_t step_stream_settle(tally_step_t *step)
{
    const struct timespec nap = {0, NAP_US * 1000};

    if (!step_stream_failed(step) || step->group->nccl_comm == NULL)
        return TALLY_OK;
    for (int64_t us = 0; us < SETTLE_US; us += NAP_US) {
        if (is_settled(step))
            return TALLY_OK;
        nanosleep(&nap, NULL);
    }
    return core_fail(TALLY_ERR_BUSY,
                     "the trainer's communicator still holds its stream: "
                     "ncclCommAbort comes first");
}

void step_stream_leave(tally_step_t *step)
{
    if (is_on_stream(step))
        stream_remove(step->group, &step->watched);
}

// SPDX-License-Identifier: BSD-3-Clause
// See step_device.h.
#include "core/step_device.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/step_stream.h"
#include "numeric/scale.h"

// The lanes of one launch's record hold so many tokens between folds.
#define TOKENS_MAX ((int64_t)1 << 31)

static const char *const wait_names[] = {
    [CUDA_WAIT_KERNEL] = "kernel",
    [CUDA_WAIT_MEMOP] = "memop",
    [CUDA_WAIT_HOSTFUNC] = "hostfunc",
};

static enum cuda_wait wait_of(const struct config *config)
{
    const char *text = config_text(config, CONFIG_STREAM_WAIT);
    enum cuda_wait wait = CUDA_WAIT_KERNEL;

    while (wait < CUDA_WAIT_HOSTFUNC && strcmp(wait_names[wait], text) != 0)
        wait++;
    return wait;
}

enum slot_state step_device_read(const tally_step_t *step, uint64_t sequence,
                                 struct kernel_slot *head, int64_t *lanes)
{
    return slot_read(cuda_step_slot(step->device, sequence), sequence, head,
                     step->lane_count, lanes);
}

// The epoch that a slot begins or ends, for who reads results.
void step_device_note_epoch(tally_step_t *step, uint64_t sequence,
                            const struct kernel_slot *head)
{
    struct step_epoch *epoch = &step->ring[head->epoch % TALLY_EPOCH_RING];

    if ((head->carries & KERNEL_SLOT_WEIGHTS) != 0) {
        *epoch = (struct step_epoch){
            .epoch = head->epoch,
            .micro_batches = head->micro_batches,
            .count_ticket = sequence,
        };
        step->latest = head->epoch;
    }
    if ((head->carries & KERNEL_SLOT_LOSSES) != 0 &&
        epoch->epoch == head->epoch)
        epoch->loss_ticket = sequence;
}

// What the stream has published goes to the queue: sequences are its tickets.
static void take_slots(tally_step_t *step)
{
    struct queue *queue = step->queue;

    while (queue->posted - queue->completed < KERNEL_SLOTS) {
        const uint64_t next = queue->posted + 1;
        struct kernel_slot head;
        const enum slot_state state =
            step_device_read(step, next, &head, step->lanes);

        if (state == SLOT_PASSED)
            queue_abandon(queue, next,
                          "the stream went on without an answer: the progress "
                          "thread did not run");
        if (state != SLOT_WHOLE)
            return;
        step_device_note_epoch(step, next, &head);
        queue_post(queue, step->lanes, head.epoch);
    }
}

static float scale_of(const tally_step_t *step, const int64_t *lanes,
                      uint32_t k, int32_t micro_batches)
{
    const struct numeric_record *total =
        &((const struct numeric_record *)lanes)[k];

    return numeric_scale(total->weight_hi, total->weight_lo,
                         step->channels[k].coefficient,
                         step_divisor(step, micro_batches, 1));
}

// The word of channel 0 is the last: who looks at one alone looks at that.
static void answer(tally_step_t *step, uint64_t ticket)
{
    const struct cuda_step *device = step->device;
    tally_status_t status = queue_result(step->queue, ticket, step->lanes);
    int32_t micro_batches = 1;

    for (int i = 0; i < TALLY_EPOCH_RING; i++)
        if (step->ring[i].count_ticket == ticket)
            micro_batches = step->ring[i].micro_batches;
    // An overflow of one channel poisons the scales of all.
    bool poison = status != TALLY_OK || step_overflowed(step, step->lanes);
    for (uint32_t k = step->channel_count; k-- > 0;) {
        float scale =
            poison ? nanf("") : scale_of(step, step->lanes, k, micro_batches);
        uint32_t bits;
        memcpy(&bits, &scale, sizeof(bits));
        uint64_t *word =
            device->answers + ticket % KERNEL_SLOTS * step->channel_count + k;
        __atomic_store_n(word, ticket << 32 | bits, __ATOMIC_RELEASE);
    }
}

static void feed(void *context)
{
    tally_step_t *step = context;
    struct queue *queue = step->queue;

    take_slots(step);
    while (step->answered < queue->completed)
        answer(step, ++step->answered);
    uint64_t expired = __atomic_load_n(step->device->expired, __ATOMIC_ACQUIRE);
    if (expired != 0 && expired != step->expired) {
        step->expired = expired;
        queue_abandon(queue, expired,
                      "the stream's wait ended by its deadline");
    }
}

tally_status_t step_device_create(tally_step_t *step)
{
    tally_t *tally = step->group->tally;
    int64_t timeout_us = config_microseconds(tally->config, CONFIG_TIMEOUT);
    struct cuda_step_params params = {
        .channels = step->channel_count,
        .max_lanes = step->max_lanes,
        .rank = step->group->members.index,
        .ranks = step->group->members.count,
        // Only where the host itself does not come to its own deadline.
        .deadline_us = timeout_us + timeout_us / 4 + 1000000,
        .wait = wait_of(tally->config),
    };
    tally_status_t status = TALLY_OK;

    if (tally->cuda == NULL)
        status = device_cuda_ops.open(NULL, &tally->cuda);
    if (status == TALLY_OK)
        status = cuda_step_create(tally->cuda, &params, &step->device);
    if (status != TALLY_OK)
        return status;
    step->counts = step->device->counts;
    step->losses = step->device->losses;
    step->scales = step->device->scales;
    step->device_ops = &device_cuda_ops;
    step->device_memory = tally->cuda;
    return TALLY_OK;
}

static tally_status_t publish(tally_step_t *step, uint32_t carries,
                              tally_stream_t stream)
{
    return cuda_step_publish(step->device, carries,
                             (carries & KERNEL_SLOT_LOSSES) != 0,
                             step->micro_batches, stream);
}

static tally_status_t wait_for_answer(tally_step_t *step, tally_stream_t stream)
{
    return cuda_step_wait(step->device, stream);
}

const struct step_reduction step_reduction_by_host = {
    .publish = publish,
    .wait = wait_for_answer,
    .feed = feed,
    .counts_publish = true,
    .awaited = true,
};

void step_device_attach(tally_step_t *step,
                        const struct step_reduction *reduction)
{
    step->reduction = reduction;
    step->queue->feed = reduction->feed;
    step->queue->feed_context = step;
    step->queue->awaited = reduction->awaited;
}

void step_device_drain(tally_step_t *step)
{
    cuda_step_synchronize(step->device);
    progress_poll(step->group->tally->progress);
}

void step_device_free(tally_step_t *step)
{
    cuda_step_free(step->device);
    step->device = NULL;
    step->counts = NULL;
    step->losses = NULL;
    step->scales = NULL;
}

// Whether all channels have been counted as often as there are micro-batches,
// once this one is.
static bool is_last_count(const tally_step_t *step, uint32_t index)
{
    for (uint32_t k = 0; k < step->channel_count; k++)
        if (step->channels[k].counted + (k == index) != step->micro_batches)
            return false;
    return true;
}

tally_status_t step_device_check_capture(const tally_step_t *step,
                                         tally_stream_t stream)
{
    return step->reduction->awaited
               ? cuda_step_check_capture(step->device, stream)
               : TALLY_OK;
}

tally_status_t step_device_count(tally_step_t *step, uint32_t index,
                                 const struct device_labels *labels,
                                 tally_stream_t stream)
{
    const bool last =
        step->reduction->counts_publish && is_last_count(step, index);
    tally_status_t status = step_device_check_capture(step, stream);

    if (status == TALLY_OK)
        status =
            step_device_check_tokens(&step->channels[index], labels->tokens);
    return status != TALLY_OK
               ? status
               : cuda_step_count(step->device, index, labels, last,
                                 step->micro_batches, stream,
                                 &step->weights_published);
}

tally_status_t step_device_publish(tally_step_t *step, bool weights,
                                   bool losses, tally_stream_t stream)
{
    if (weights && step->weights_published)
        return TALLY_OK;
    uint32_t carries =
        (weights ? KERNEL_SLOT_WEIGHTS : 0) | (losses ? KERNEL_SLOT_LOSSES : 0);
    tally_status_t status = step_device_check_capture(step, stream);

    return status == TALLY_OK ? step->reduction->publish(step, carries, stream)
                              : status;
}

tally_status_t step_device_wait(tally_step_t *step, tally_stream_t stream)
{
    tally_status_t status = step_device_check_capture(step, stream);

    return status == TALLY_OK ? step->reduction->wait(step, stream) : status;
}

tally_status_t step_device_check_tokens(struct step_channel *channel,
                                        int64_t tokens)
{
    if (tokens > TOKENS_MAX - channel->tokens)
        return core_fail(TALLY_ERR_OVERFLOW,
                         "channel \"%s\": more than 2^31 tokens of one rank in "
                         "an epoch",
                         channel->name);
    channel->tokens += tokens;
    return TALLY_OK;
}

void step_device_await(tally_step_t *step, uint64_t epoch)
{
    struct progress *progress = step->group->tally->progress;
    const struct timespec nap = {0, 50000};
    int64_t end_us = clock_now_us() + step->device->params.deadline_us;

    while (clock_now_us() < end_us) {
        progress_lock(progress);
        const struct step_epoch *found = &step->ring[epoch % TALLY_EPOCH_RING];
        bool there = step->latest > epoch || step_stream_failed(step) ||
                     (step->latest == epoch && found->loss_ticket != 0);
        progress_unlock(progress);
        if (there)
            return;
        nanosleep(&nap, NULL);
        progress_poll(progress);
    }
}

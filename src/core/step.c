// SPDX-License-Identifier: BSD-3-Clause
// The step state machine: which call may follow which, what is published, and
// the scale. How steps are made is step_create.c, the losses are step_loss.c
// and results step_result.c.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"
#include "core/step_device.h"
#include "core/step_replica.h"
#include "core/struct_check.h"
#include "device/cuda/cuda.h"
#include "numeric/maximum.h"
#include "numeric/scale.h"

static const char *const state_names[] = {
    [STEP_IDLE] = "no epoch has begun",
    [STEP_BEGUN] = "the epoch is not reduced yet",
    [STEP_REDUCED] = "the epoch is reduced already",
    [STEP_SETTLED] = "the epoch is reduced already",
};

const char *step_state_name(const tally_step_t *step)
{
    return state_names[step->state];
}

tally_status_t step_fail(const tally_step_t *step, const char *function,
                         tally_status_t status)
{
    return api_fail(step == NULL ? NULL : &step->group->tally->log, function,
                    status);
}

tally_status_t step_fail_null(const char *function)
{
    return step_fail(NULL, function,
                     core_fail(TALLY_ERR_INVALID, "step is NULL"));
}

static tally_status_t fail_order(const tally_step_t *step, const char *function)
{
    return step_fail(step, function,
                     core_fail(TALLY_ERR_ORDER, "%s", step_state_name(step)));
}

double step_divisor(const tally_step_t *step, int32_t micro_batches,
                    int32_t replicas)
{
    double ranks = (double)step->group->average_ranks * (double)replicas;

    switch (step->convention) {
    case TALLY_GRADIENT_SUM:
        return 1;
    case TALLY_GRADIENT_AVERAGE:
        return ranks;
    case TALLY_GRADIENT_AVERAGE_ALL:
        return ranks * (double)micro_batches;
    case TALLY_GRADIENT_SCHEDULE:
        return ranks * step->schedule_divisor;
    }
    return 1;
}

// The error of the group, if it is dead. Begin does not meet a stream's thread,
// which has the lock most of the time: the sentence alone is under it.
static tally_status_t check_alive(tally_step_t *step)
{
    struct progress *progress = step->group->tally->progress;

    if (step->group->fate.status == TALLY_OK)
        return TALLY_OK;
    progress_lock(progress);
    core_fail(TALLY_ERR_DEAD, "group \"%s\" is dead: %s", step->group->key,
              step->group->fate.sentence);
    progress_unlock(progress);
    return TALLY_ERR_DEAD;
}

tally_status_t tally_step_begin(tally_step_t *step, int32_t micro_batches,
                                tally_stream_t stream)
{
    static const char function[] = "tally_step_begin";

    if (step == NULL)
        return step_fail_null(function);
    if (micro_batches < 1)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_INVALID, "micro_batches is %d",
                                   (int)micro_batches));
    if (step->state != STEP_IDLE)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_ORDER, "epoch %llu has not ended",
                                   (unsigned long long)step->epoch));
    tally_status_t status = check_alive(step);
    if (status == TALLY_OK)
        status = step_replica_check_begin(step);
    if (status == TALLY_OK && step->device != NULL)
        status = step_device_check_capture(step, stream);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    step->epoch++;
    step->state = STEP_BEGUN;
    step->micro_batches = micro_batches;
    step->weights_published = false;
    if (step->device == NULL) { // else who publishes clears
        memset(step->counts, 0, step->channel_count * sizeof(*step->counts));
        memset(step->losses, 0, step->channel_count * sizeof(*step->losses));
    }
    for (uint32_t i = 0; i < step->max_lanes; i++)
        step->maxima[i] = NUMERIC_MAXIMUM_NONE;
    for (uint32_t k = 0; k < step->channel_count; k++) {
        step->channels[k].counted = 0;
        step->channels[k].lost = 0;
        step->channels[k].tokens = 0;
    }
    return TALLY_OK;
}

tally_status_t step_check_channel(const tally_step_t *step, uint32_t channel)
{
    if (channel >= step->channel_count)
        return core_fail(TALLY_ERR_INVALID, "channel %u of %u",
                         (unsigned)channel, (unsigned)step->channel_count);
    return TALLY_OK;
}

tally_status_t tally_step_count(tally_step_t *step, uint32_t index,
                                const tally_labels_t *given,
                                tally_stream_t stream)
{
    static const char function[] = "tally_step_count";
    struct device_labels labels;

    if (step == NULL)
        return step_fail_null(function);
    tally_status_t status = step_check_channel(step, index);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    struct step_channel *channel = &step->channels[index];
    if (step->order != TALLY_COUNT_FIRST)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_ORDER,
                                   "with TALLY_SCALE_LATE the loss counts"));
    if (step->state != STEP_BEGUN)
        return fail_order(step, function);
    if (channel->counted == step->micro_batches)
        return step_fail(
            step, function,
            core_fail(TALLY_ERR_ORDER,
                      "channel \"%s\" was counted %d times already, "
                      "as often as there are micro-batches",
                      channel->name, (int)channel->counted));
    status = step_take_labels(channel, given, &labels);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    status = step->device != NULL
                 ? step_device_count(step, index, &labels, stream)
                 : step->device_ops->count(step->device_memory, &labels,
                                           &step->counts[index], stream);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    if (step->device == NULL)
        numeric_record_fold(&step->counts[index]);
    channel->counted++;
    return TALLY_OK;
}

// Folds and publishes records and MAX lanes; returns the ticket.
static uint64_t publish(tally_step_t *step, struct numeric_record *records,
                        const int64_t *maxima)
{
    for (uint32_t k = 0; k < step->channel_count; k++) {
        numeric_record_fold(&records[k]);
        if (!numeric_record_fits(&records[k], step->ranks_in_total))
            numeric_record_mark(&records[k]);
    }
    memcpy(step->lanes, records, step->channel_count * sizeof(*records));
    for (uint32_t i = 0; i < step->max_lanes; i++)
        step->lanes[step->channel_count * NUMERIC_LANES + i] =
            maxima != NULL ? maxima[i] : NUMERIC_MAXIMUM_NONE;
    return progress_post(step->group->tally->progress, step->queue, step->lanes,
                         step->epoch);
}

static tally_status_t check_complete(const tally_step_t *step)
{
    bool late = step->order == TALLY_SCALE_LATE;

    for (uint32_t k = 0; k < step->channel_count; k++) {
        const struct step_channel *channel = &step->channels[k];
        int32_t done = late ? channel->lost : channel->counted;
        if (done != step->micro_batches)
            return core_fail(TALLY_ERR_ORDER,
                             "channel \"%s\" was %s for %d of %d micro-batches",
                             channel->name,
                             late ? "given to the loss" : "counted", (int)done,
                             (int)step->micro_batches);
    }
    return TALLY_OK;
}

// Posts what was counted so far.
static tally_status_t reduce(tally_step_t *step, const char *function,
                             tally_stream_t stream)
{
    bool late = step->order == TALLY_SCALE_LATE;

    if (step->device != NULL) {
        tally_status_t status = step_device_publish(step, true, late, stream);
        if (status != TALLY_OK)
            return step_fail(step, function, status);
        step->state = STEP_REDUCED;
        return TALLY_OK;
    }
    step_replica_before_post(step);
    uint64_t ticket = publish(step, late ? step->losses : step->counts,
                              late ? step->maxima : NULL);
    step_replica_after_post(step);
    step->count_ticket = ticket;
    step->state = STEP_REDUCED;

    struct progress *progress = step->group->tally->progress;
    progress_lock(progress);
    step->ring[step->epoch % TALLY_EPOCH_RING] = (struct step_epoch){
        .epoch = step->epoch,
        .micro_batches = step->micro_batches,
        .count_ticket = ticket,
        .loss_ticket = late ? ticket : 0,
    };
    step->latest = step->epoch;
    progress_unlock(progress);
    return TALLY_OK;
}

tally_status_t tally_step_reduce(tally_step_t *step, tally_stream_t stream)
{
    static const char function[] = "tally_step_reduce";

    if (step == NULL)
        return step_fail_null(function);
    if (step->state != STEP_BEGUN)
        return fail_order(step, function);
    tally_status_t status = check_complete(step);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    return reduce(step, function, stream);
}

static void poison_scales(tally_step_t *step)
{
    for (uint32_t k = 0; k < step->channel_count; k++)
        step->scales[k] = nanf("");
}

tally_status_t step_compute_scales(tally_step_t *step)
{
    const struct numeric_record *totals =
        (const struct numeric_record *)step->lanes;
    double divisor =
        step_divisor(step, step->micro_batches, step->counted_replicas);

    for (uint32_t k = 0; k < step->channel_count; k++) {
        if (numeric_record_overflowed(&totals[k]))
            return core_fail(TALLY_ERR_OVERFLOW,
                             "channel \"%s\": a sum reaches 2^55",
                             step->channels[k].name);
        step->scales[k] =
            numeric_scale(totals[k].weight_hi, totals[k].weight_lo,
                          step->channels[k].coefficient, divisor);
    }
    return TALLY_OK;
}

static const char *why_failed(const tally_step_t *step, tally_status_t status)
{
    switch (status) {
    case TALLY_ERR_OVERFLOW:
        return "a sum reaches 2^55";
    case TALLY_ERR_REPLICA:
        return "this replica group is not counted (replica_status)";
    default:
        return step->group->fate.status != TALLY_OK ? step->group->fate.sentence
                                                    : "the process exits";
    }
}

// A failure was logged by who saw it.
tally_status_t step_settle(tally_step_t *step, tally_stream_t stream)
{
    if (step->state == STEP_SETTLED) {
        if (step->settled != TALLY_OK)
            core_fail(step->settled, "epoch %llu failed: %s",
                      (unsigned long long)step->epoch,
                      why_failed(step, step->settled));
        return step->settled;
    }
    if (step->device != NULL) { // a failure is in the scale and the result
        tally_status_t enqueued = step_device_wait(step, stream);
        if (enqueued != TALLY_OK)
            return step_fail(step, "tally_step_wait", enqueued);
        step->settled = TALLY_OK;
        step->state = STEP_SETTLED;
        return TALLY_OK;
    }
    tally_status_t status =
        progress_wait(step->group->tally->progress, step->queue,
                      step->count_ticket, step->lanes);
    if (status == TALLY_OK)
        status = step_replica_settle(step);
    if (status == TALLY_OK)
        status = step_compute_scales(step);
    else
        core_fail(status, "%s", why_failed(step, status));
    if (status != TALLY_OK)
        poison_scales(step);
    step->settled = status;
    step->state = STEP_SETTLED;
    return status;
}

tally_status_t tally_step_wait(tally_step_t *step, tally_stream_t stream)
{
    if (step == NULL)
        return step_fail_null("tally_step_wait");
    if (step->state < STEP_REDUCED)
        return fail_order(step, "tally_step_wait");
    return step_settle(step, stream);
}

tally_status_t tally_step_max(tally_step_t *step, uint32_t lane,
                              const float *value, tally_stream_t stream)
{
    static const char function[] = "tally_step_max";

    if (step == NULL)
        return step_fail_null(function);
    if (lane >= step->max_lanes)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_INVALID, "MAX lane %u of %u",
                                   (unsigned)lane, (unsigned)step->max_lanes));
    if (value == NULL)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_INVALID, "value is NULL"));
    if (step->state == STEP_IDLE ||
        (step->order == TALLY_SCALE_LATE && step->state != STEP_BEGUN))
        return fail_order(step, function);
    if (step->device != NULL) {
        tally_status_t status =
            cuda_step_maximum(step->device, lane, value, stream);
        return status == TALLY_OK ? status : step_fail(step, function, status);
    }
    int64_t code = numeric_maximum_encode(*value);
    if (code > step->maxima[lane])
        step->maxima[lane] = code;
    return TALLY_OK;
}

// Losses are of all micro-batches of a channel, or of none.
static tally_status_t check_losses(const tally_step_t *step)
{
    for (uint32_t k = 0; k < step->channel_count; k++) {
        const struct step_channel *channel = &step->channels[k];
        if (channel->lost != 0 && channel->lost != step->micro_batches)
            return core_fail(TALLY_ERR_ORDER,
                             "channel \"%s\" was given to the loss for %d of "
                             "%d micro-batches",
                             channel->name, (int)channel->lost,
                             (int)step->micro_batches);
    }
    return TALLY_OK;
}

// Ends an epoch that is reduced, with the losses that there are.
static tally_status_t end(tally_step_t *step, const char *function,
                          tally_stream_t stream)
{
    tally_status_t settled = step_settle(step, stream);

    if (step->device != NULL) {
        if (settled == TALLY_OK && step->order == TALLY_COUNT_FIRST)
            settled = step_device_publish(step, false, true, stream);
        if (settled != TALLY_OK)
            return step_fail(step, function, settled);
        step->state = STEP_IDLE;
        return TALLY_OK;
    }
    uint64_t loss_ticket = step->count_ticket;
    if (step->order == TALLY_COUNT_FIRST)
        loss_ticket = publish(step, step->losses, step->maxima);

    struct progress *progress = step->group->tally->progress;
    progress_lock(progress);
    step->ring[step->epoch % TALLY_EPOCH_RING].loss_ticket = loss_ticket;
    progress_unlock(progress);
    step->state = STEP_IDLE;
    return settled;
}

tally_status_t tally_step_end(tally_step_t *step, tally_stream_t stream)
{
    static const char function[] = "tally_step_end";

    if (step == NULL)
        return step_fail_null(function);
    if (step->state < STEP_REDUCED)
        return fail_order(step, function);
    tally_status_t status = check_losses(step);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    return end(step, function, stream);
}

tally_status_t tally_step_abandon(tally_step_t *step, tally_stream_t stream)
{
    static const char function[] = "tally_step_abandon";
    tally_status_t status = TALLY_OK;

    if (step == NULL)
        return step_fail_null(function);
    if (step->state == STEP_IDLE)
        return TALLY_OK;
    if (step->state == STEP_BEGUN)
        status = reduce(step, function, stream);
    return status == TALLY_OK ? end(step, function, stream) : status;
}

tally_status_t tally_step_scale(tally_step_t *step, const float **scale)
{
    static const char function[] = "tally_step_scale";

    if (step == NULL)
        return step_fail_null(function);
    if (scale == NULL)
        return step_fail(step, function,
                         core_fail(TALLY_ERR_INVALID, "scale is NULL"));
    *scale = step->scales;
    return TALLY_OK;
}

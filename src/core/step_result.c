// SPDX-License-Identifier: BSD-3-Clause
// Results: what the reductions of an epoch say, for whoever logs. Reads only,
// by any thread.
#include <string.h>

#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"
#include "core/step_device.h"
#include "core/step_replica.h"
#include "core/step_stream.h"
#include "core/struct_check.h"
#include "numeric/maximum.h"
#include "numeric/scale.h"

// One epoch's reductions, copied out of the ring.
struct outcome {
    struct step_epoch epoch;
    tally_status_t status;
    int32_t failed_rank;
    char sentence[sizeof(((struct queue_fate *)0)->sentence)];
    // The reduction that carries the weights, and the same of all replicas that
    // are counted.
    int64_t counts[STEP_LANES_MAX];
    int64_t totals[STEP_LANES_MAX];
    tally_result_t replica; // what is known of these
    // The one that carries losses and maxima.
    int64_t losses[STEP_LANES_MAX];
};

static tally_status_t find_epoch(const tally_step_t *step, uint64_t epoch,
                                 struct step_epoch *out)
{
    const struct step_epoch *found = &step->ring[epoch % TALLY_EPOCH_RING];

    // A stream may not have come so far.
    if (step->device != NULL && epoch > step->latest && epoch <= step->epoch)
        return TALLY_NOT_YET;
    if (step->latest == 0 || epoch > step->latest)
        return core_fail(TALLY_ERR_ORDER, "epoch %llu has not been reduced yet",
                         (unsigned long long)epoch);
    if (found->epoch != epoch)
        return core_fail(TALLY_ERR_OVERWRITTEN,
                         "epoch %llu has left the ring, the latest is %llu",
                         (unsigned long long)epoch,
                         (unsigned long long)step->latest);
    *out = *found;
    return TALLY_OK;
}

// Looks once. Returns whether the look itself worked; the epoch's own status is
// in the outcome.
static tally_status_t look(tally_step_t *step, uint64_t epoch,
                           struct outcome *outcome)
{
    struct progress *progress = step->group->tally->progress;
    const struct queue_fate *fate = &step->group->fate;

    progress_lock(progress);
    if (epoch == 0)
        epoch = step->latest;
    tally_status_t status = find_epoch(step, epoch, &outcome->epoch);
    // The stream may never come to it.
    const tally_status_t missing =
        step_stream_failed(step) ? fate->status : TALLY_NOT_YET;
    if (status == TALLY_NOT_YET && missing != TALLY_NOT_YET) {
        outcome->epoch = (struct step_epoch){.epoch = epoch};
        status = TALLY_OK;
    }
    if (status == TALLY_OK) {
        outcome->status =
            outcome->epoch.count_ticket == 0
                ? missing
                : queue_result(step->queue, outcome->epoch.count_ticket,
                               outcome->counts);
        if (outcome->status == TALLY_OK)
            outcome->status =
                outcome->epoch.loss_ticket == 0
                    ? missing
                    : queue_result(step->queue, outcome->epoch.loss_ticket,
                                   outcome->losses);
        memcpy(outcome->totals, outcome->counts, sizeof(outcome->totals));
        memset(&outcome->replica, 0, sizeof(outcome->replica));
        if (outcome->status == TALLY_OK)
            outcome->status = step_replica_result(
                step, epoch, &outcome->replica, outcome->totals);
        outcome->failed_rank = fate->failed_rank;
        memcpy(outcome->sentence, fate->sentence, sizeof(outcome->sentence));
    }
    progress_unlock(progress);
    return status;
}

static int32_t replicas_counted(const struct outcome *outcome)
{
    return outcome->replica.replica_index == 0
               ? 1
               : __builtin_popcountll(outcome->replica.replica_members);
}

// Losses that were reduced with the weights are of all replicas, too; others
// are of the ranks of this one, as `own` is.
static void fill_channel(const tally_step_t *step, uint32_t k,
                         const struct outcome *outcome,
                         tally_channel_result_t *out)
{
    bool late = step->order == TALLY_SCALE_LATE;
    const int64_t *lost = late ? outcome->totals : outcome->losses;
    const int64_t *counted = late ? outcome->totals : outcome->counts;
    const struct numeric_record *count =
        &((const struct numeric_record *)outcome->totals)[k];
    const struct numeric_record *own =
        &((const struct numeric_record *)counted)[k];
    const struct numeric_record *loss =
        &((const struct numeric_record *)lost)[k];
    const struct step_channel *channel = &step->channels[k];

    out->loss_hi = loss->loss_hi;
    out->loss_lo = loss->loss_lo;
    out->weight_hi = count->weight_hi;
    out->weight_lo = count->weight_lo;
    out->count = count->count;
    out->nonfinite = loss->nonfinite;
    out->bad_labels = count->bad_labels;
    out->loss_sum = numeric_sum(loss->loss_hi, loss->loss_lo);
    out->weight_sum = numeric_sum(count->weight_hi, count->weight_lo);
    out->mean = numeric_mean(out->loss_sum,
                             numeric_sum(own->weight_hi, own->weight_lo));
    out->scale =
        numeric_scale(count->weight_hi, count->weight_lo, channel->coefficient,
                      step_divisor(step, outcome->epoch.micro_batches,
                                   replicas_counted(outcome)));
    if (out->weight_sum <= 0)
        out->flags |= TALLY_STEP_EMPTY;
    if (out->nonfinite != 0)
        out->flags |= TALLY_STEP_NONFINITE;
    if (out->bad_labels != 0)
        out->flags |= TALLY_STEP_BAD_LABELS;
    if (loss->count == 0 && loss->bad_labels == 0 &&
        (own->count != 0 || own->bad_labels != 0))
        out->flags |= TALLY_STEP_NO_LOSS;
    else if (loss->count != own->count || loss->weight_hi != own->weight_hi ||
             loss->weight_lo != own->weight_lo)
        out->flags |= TALLY_STEP_OTHER_TOKENS;
}

// An array of none is not looked at.
static bool wants_channels(const tally_result_t *result)
{
    return result->channels != NULL && result->channel_capacity > 0;
}

bool step_overflowed(const tally_step_t *step, const int64_t *lanes)
{
    for (uint32_t k = 0; k < step->channel_count; k++)
        if (numeric_record_overflowed(
                &((const struct numeric_record *)lanes)[k]))
            return true;
    return false;
}

// Fills the totals of a complete epoch; `given` are the caller's channels.
static void fill_totals(const tally_step_t *step, const struct outcome *outcome,
                        tally_result_t *result)
{
    uint32_t all_empty = TALLY_STEP_EMPTY;
    const size_t stride = wants_channels(result) ? result->channels[0].size : 0;

    for (uint32_t k = 0; k < step->channel_count; k++) {
        tally_channel_result_t filled = TALLY_INIT(tally_channel_result_t);
        fill_channel(step, k, outcome, &filled);
        all_empty &= filled.flags;
        result->flags |= filled.flags;
        if (wants_channels(result) && k < result->channel_capacity) {
            char *at = (char *)result->channels + k * stride;
            memcpy(at, result->channels,
                   offsetof(tally_channel_result_t, flags));
            struct_give(at, &filled, sizeof(filled));
        }
    }
    if (all_empty == 0)
        result->flags &= ~TALLY_STEP_EMPTY;
    for (uint32_t i = 0; i < step->max_lanes; i++)
        result->max[i] = numeric_maximum_decode(
            outcome->losses[step->channel_count * NUMERIC_LANES + i]);
}

static tally_status_t take_result(const tally_result_t *given,
                                  tally_result_t *result)
{
    tally_status_t status =
        struct_take("tally_result", given, result, sizeof(*result),
                    STRUCT_THROUGH(tally_result_t, channels));

    if (status != TALLY_OK || !wants_channels(result))
        return status;
    return struct_check("tally_channel_result", result->channels,
                        STRUCT_THROUGH(tally_channel_result_t, count));
}

static tally_status_t wait_for(tally_step_t *step, struct outcome *outcome,
                               uint64_t epoch)
{
    struct progress *progress = step->group->tally->progress;
    int64_t lanes[STEP_LANES_MAX];
    if (step->device != NULL)
        step_device_await(step, epoch != 0 ? epoch : step->epoch);
    tally_status_t status = look(step, epoch, outcome);

    if (status == TALLY_NOT_YET && step->device != NULL)
        return core_fail(TALLY_ERR_TIMEOUT,
                         "epoch %llu: by its deadline the stream had not come "
                         "to it; it stands still, or its context is broken",
                         (unsigned long long)epoch);
    if (status != TALLY_OK || outcome->status != TALLY_NOT_YET)
        return status;
    if (outcome->epoch.loss_ticket == 0)
        return core_fail(TALLY_ERR_ORDER,
                         "epoch %llu has not ended: its losses are not there",
                         (unsigned long long)outcome->epoch.epoch);
    progress_wait(progress, step->queue, outcome->epoch.loss_ticket, lanes);
    return look(step, outcome->epoch.epoch, outcome);
}

tally_status_t tally_step_result(tally_step_t *step, uint64_t epoch,
                                 uint32_t flags, tally_result_t *given)
{
    static const char function[] = "tally_step_result";
    tally_result_t result = {0};
    struct outcome outcome;
    tally_status_t status;

    if (step == NULL)
        return api_fail(NULL, function,
                        core_fail(TALLY_ERR_INVALID, "step is NULL"));
    const struct core_log *log = &step->group->tally->log;
    status = take_result(given, &result);
    if (status != TALLY_OK)
        return api_fail(log, function, status);
    if ((flags & ~TALLY_RESULT_WAIT) != 0)
        return api_fail(log, function,
                        core_fail(TALLY_ERR_INVALID, "unknown flags 0x%x",
                                  (unsigned)flags));
    progress_poll(step->group->tally->progress);
    status = (flags & TALLY_RESULT_WAIT) != 0 ? wait_for(step, &outcome, epoch)
                                              : look(step, epoch, &outcome);
    if (status == TALLY_NOT_YET)
        return status;
    if (status == TALLY_ERR_OVERWRITTEN)
        return core_fail_within(status, "%s: ", function);
    if (status != TALLY_OK)
        return api_fail(log, function, status);
    if (outcome.status == TALLY_NOT_YET)
        return TALLY_NOT_YET;
    result.flags = 0;
    result.epoch = outcome.epoch.epoch;
    result.status = outcome.status;
    result.failed_rank = -1;
    result.members = 0;
    if (outcome.status == TALLY_OK && (step_overflowed(step, outcome.totals) ||
                                       step_overflowed(step, outcome.losses)))
        result.status =
            core_fail(TALLY_ERR_OVERFLOW, "%s: a sum reaches 2^55", function);
    result.replica_status = outcome.replica.replica_status;
    result.replica_lineage = outcome.replica.replica_lineage;
    result.replica_epoch = outcome.replica.replica_epoch;
    result.replica_attempt = outcome.replica.replica_attempt;
    result.replica_index = outcome.replica.replica_index;
    result.replica_members = outcome.replica.replica_members;
    result.replica_digest = outcome.replica.replica_digest;
    if (outcome.status == TALLY_ERR_REPLICA) {
        core_fail(outcome.status, "%s: this replica group is not counted: %s",
                  function, tally_replica_status_string(result.replica_status));
    } else if (outcome.status != TALLY_OK) {
        result.failed_rank = outcome.failed_rank;
        core_fail(outcome.status, "%s: %s", function, outcome.sentence);
    }
    if (result.status == TALLY_OK) {
        result.members =
            step->group->members.count * replicas_counted(&outcome);
        fill_totals(step, &outcome, &result);
    }
    struct_give(given, &result, sizeof(result));
    return result.status;
}

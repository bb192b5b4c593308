// SPDX-License-Identifier: BSD-3-Clause
// How a step object is made and freed: its parameters, its memory, its
// reduction.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"
#include "core/park.h"
#include "core/step_device.h"
#include "core/step_layout.h"
#include "core/step_replica.h"
#include "core/step_stream.h"
#include "core/struct_check.h"

#define ALIGNMENT_BYTES 64

// Of soft_cap and temperature: further out logits times one of them, or divided
// by it, would not be numbers.
#define SHAPING_LEAST 0x1p-64
#define SHAPING_MOST 0x1p64

static tally_status_t refuse(const struct step_channel *channel,
                             const char *what, double value, const char *wanted)
{
    return core_fail(TALLY_ERR_INVALID, "channel \"%s\": %s is %.17g, not %s",
                     channel->name, what, value, wanted);
}

static bool is_scale(double value)
{
    return value == 0 || (value >= SHAPING_LEAST && value <= SHAPING_MOST);
}

// In float32, as devices compute with it, rounded before it is looked at. A
// negative 0 becomes 0: layouts are compared by their bits.
static tally_status_t take_shaping(const tally_channel_t *taken,
                                   struct step_channel *channel)
{
    struct kernel_shaping *shaping = &channel->shaping;

    if (!(taken->label_smoothing >= 0 && taken->label_smoothing < 1) ||
        (float)taken->label_smoothing >= 1)
        return refuse(channel, "label_smoothing", taken->label_smoothing,
                      "in [0, 1) as a float32");
    if (!(taken->z_loss >= 0 && taken->z_loss <= (double)FLT_MAX))
        return refuse(channel, "z_loss", taken->z_loss,
                      ">= 0 and finite as a float32");
    if (!is_scale(taken->soft_cap))
        return refuse(channel, "soft_cap", taken->soft_cap,
                      "0 or from 2^-64 to 2^64");
    if (!is_scale(taken->temperature))
        return refuse(channel, "temperature", taken->temperature,
                      "0 or from 2^-64 to 2^64");
    channel->temperature =
        taken->temperature == 0 ? 1 : (float)taken->temperature;
    shaping->smoothing = (float)taken->label_smoothing + 0.0f;
    shaping->z_loss = (float)taken->z_loss + 0.0f;
    shaping->cap = (float)taken->soft_cap + 0.0f;
    shaping->temperature_inverse = 1 / channel->temperature;
    channel->shaped = shaping->smoothing > 0 || shaping->z_loss > 0 ||
                      shaping->cap > 0 || channel->temperature != 1;
    return TALLY_OK;
}

static tally_status_t take_channel(const tally_step_params_t *params,
                                   uint32_t index, struct step_channel *channel)
{
    const char *base = (const char *)params->channels;
    const void *given = base + (size_t)index * params->channels[0].size;
    tally_channel_t taken = {0};
    tally_status_t status =
        struct_take("tally_channel", given, &taken, sizeof(taken),
                    STRUCT_THROUGH(tally_channel_t, vocab));

    if (status != TALLY_OK)
        return core_fail_within(status, "channel %u: ", (unsigned)index);
    if (taken.name == NULL)
        snprintf(channel->name, sizeof(channel->name), "%u", (unsigned)index);
    else if (strlen(taken.name) < sizeof(channel->name))
        snprintf(channel->name, sizeof(channel->name), "%s", taken.name);
    else
        return core_fail(TALLY_ERR_INVALID,
                         "channel %u: its name has more than %zu bytes",
                         (unsigned)index, sizeof(channel->name) - 1);
    channel->vocab = taken.vocab;
    channel->ignore_index =
        taken.ignore_index == 0 ? TALLY_IGNORE_INDEX : taken.ignore_index;
    channel->coefficient = taken.coefficient == 0 ? 1 : taken.coefficient;
    if (channel->vocab < 1)
        return core_fail(TALLY_ERR_INVALID,
                         "channel \"%s\": vocab is %lld, at least 1 is needed",
                         channel->name, (long long)channel->vocab);
    if (channel->ignore_index >= 0 && channel->ignore_index < channel->vocab)
        return core_fail(TALLY_ERR_INVALID,
                         "channel \"%s\": ignore_index %lld is a label of a "
                         "vocabulary of %lld",
                         channel->name, (long long)channel->ignore_index,
                         (long long)channel->vocab);
    if (!isfinite(channel->coefficient))
        return core_fail(TALLY_ERR_INVALID,
                         "channel \"%s\": its coefficient is not finite",
                         channel->name);
    return take_shaping(&taken, channel);
}

static tally_status_t check_params(const tally_step_params_t *params)
{
    if (params->order != TALLY_COUNT_FIRST && params->order != TALLY_SCALE_LATE)
        return core_fail(TALLY_ERR_INVALID, "there is no order %d",
                         (int)params->order);
    if (params->device != TALLY_DEVICE_HOST &&
        params->device != TALLY_DEVICE_CUDA)
        return core_fail(TALLY_ERR_INVALID, "there is no device %d",
                         (int)params->device);
    if (params->convention < TALLY_GRADIENT_SUM ||
        params->convention > TALLY_GRADIENT_SCHEDULE)
        return core_fail(TALLY_ERR_INVALID, "there is no convention %d",
                         (int)params->convention);
    if (params->channel_count < 1 || params->channel_count > TALLY_CHANNELS_MAX)
        return core_fail(TALLY_ERR_INVALID,
                         "channel_count is %u: 1 to %d are possible",
                         (unsigned)params->channel_count, TALLY_CHANNELS_MAX);
    if (params->channels == NULL)
        return core_fail(TALLY_ERR_INVALID, "channels is NULL");
    if (params->max_lanes > TALLY_MAX_LANES_MAX)
        return core_fail(TALLY_ERR_INVALID,
                         "max_lanes is %u: at most %d are possible",
                         (unsigned)params->max_lanes, TALLY_MAX_LANES_MAX);
    if (!(params->schedule_divisor >= 0) || isinf(params->schedule_divisor))
        return core_fail(TALLY_ERR_INVALID, "schedule_divisor is %g",
                         params->schedule_divisor);
    return TALLY_OK;
}

static void *allocate(size_t count, size_t bytes)
{
    size_t rounded = (count * bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES *
                     ALIGNMENT_BYTES;
    void *memory = aligned_alloc(ALIGNMENT_BYTES, rounded);

    if (memory != NULL)
        memset(memory, 0, rounded);
    return memory;
}

static tally_status_t allocate_all(tally_step_t *step, tally_device_t device)
{
    size_t count = step->channel_count;

    step->lane_count = NUMERIC_LANES * count + step->max_lanes;
    step->channels = calloc(count, sizeof(*step->channels));
    step->lanes = allocate(step->lane_count, sizeof(*step->lanes));
    if (step->channels == NULL || step->lanes == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu channels", count);
    if (device == TALLY_DEVICE_CUDA)
        return step_device_create(step);
    step->device_ops = step->group->tally->device_ops;
    step->device_memory = step->group->tally->device;
    step->counts = allocate(count, sizeof(*step->counts));
    step->losses = allocate(count, sizeof(*step->losses));
    step->scales = allocate(count, sizeof(*step->scales));
    if (step->counts == NULL || step->losses == NULL || step->scales == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu channels", count);
    return TALLY_OK;
}

tally_status_t step_create_queue(tally_group_t *group, size_t lane_count,
                                 int64_t timeout_us, struct queue **out)
{
    struct queue_params params = {
        .watch = group->watch,
        .health = group->tally->health,
        .fate = &group->fate,
        .log = &group->tally->log,
        .group_key = group->key,
        .ranks = group->ranks,
        .rank_count = group->members.count,
        .lane_count = lane_count,
        .timeout_us = timeout_us,
    };

    return queue_create(&params, out);
}

static tally_status_t create_reduction(tally_step_t *step, uint16_t tag_space)
{
    tally_group_t *group = step->group;
    tally_t *tally = group->tally;
    bool lent = group->nccl_comm != NULL;
    if (group->topology->node_count > 1 && group->links == NULL)
        return core_fail(
            TALLY_ERR_TRANSPORT,
            "%s%s reduces on the stream of a device, the %d nodes of group "
            "\"%s\" are not joined for steps in the memory of the host",
            lent ? "nccl_comm" : "TALLY_TRANSPORT=",
            lent ? "" : config_text(tally->config, CONFIG_TRANSPORT),
            (int)group->topology->node_count, group->key);
    struct allreduce_params params = {
        .topology = group->topology,
        .links = group->links,
        .exchange = group->exchange,
        .group = &group->members,
        .records = step->channel_count,
        .max_lanes = step->max_lanes,
        .radix = (uint32_t)config_integer(tally->config, CONFIG_RADIX),
        .crowded = group->crowded,
        .tag_space = tag_space,
    };

    return allreduce_create(&params, &step->queue->allreduce);
}

static void release(tally_step_t *step)
{
    step_replica_free(step);
    if (step->queue != NULL) {
        progress_detach(step->group->tally->progress, step->queue);
        // Its buffers may be the transport's: no move may come between.
        progress_lock(step->group->tally->progress);
        queue_free(step->queue);
        progress_unlock(step->group->tally->progress);
    }
    if (step->device != NULL) {
        step_stream_leave(step);
        step_device_free(step);
    }
    free(step->lanes);
    free(step->scales);
    free(step->losses);
    free(step->counts);
    free(step->channels);
    free(step);
}

// What one rank alone can fail at.
static tally_status_t prepare(tally_step_t *step,
                              const tally_step_params_t *params)
{
    const struct group_replica *replica = &step->group->replica;
    tally_status_t status = check_params(params);

    if (status != TALLY_OK)
        return status;
    step->counted_replicas = 1;
    step->ranks_in_total = step->group->members.count *
                           (replica->replicas > 0 ? replica->replicas : 1);
    step->order = params->order;
    step->convention = params->convention;
    step->schedule_divisor =
        params->schedule_divisor == 0 ? 1 : params->schedule_divisor;
    step->channel_count = params->channel_count;
    step->max_lanes = params->max_lanes;
    status = allocate_all(step, params->device);
    for (uint32_t k = 0; status == TALLY_OK && k < step->channel_count; k++)
        status = take_channel(params, k, &step->channels[k]);
    if (status == TALLY_OK)
        status = step_create_queue(
            step->group, step->lane_count,
            config_microseconds(step->group->tally->config, CONFIG_TIMEOUT),
            &step->queue);
    if (status == TALLY_OK)
        status = progress_start(step->group->tally->progress);
    if (status == TALLY_OK)
        status = step_replica_prepare(step, step_layout_digest(step));
    return status;
}

// The stream's own, or the host's.
static tally_status_t choose_reduction(tally_step_t *step, uint16_t tag_space)
{
    tally_status_t status = TALLY_OK;
    bool joined = false;

    if (step_stream_wanted(step))
        status = step_stream_join(step, tag_space, &joined);
    if (status != TALLY_OK || joined)
        return status;
    if (step->device != NULL)
        step_device_attach(step, &step_reduction_by_host);
    return create_reduction(step, tag_space);
}

// Once all ranks know that all are ready, a step is made at all of them or at
// none: what comes then is agreed too, or cannot fail.
static tally_status_t build(tally_step_t *step,
                            const tally_step_params_t *params)
{
    tally_status_t status = prepare(step, params);
    uint16_t tag_space;

    status = step_layout_agree(step, status, &tag_space);
    if (status == TALLY_OK)
        status = choose_reduction(step, tag_space);
    if (status == TALLY_OK)
        status = step_replica_build(step, (uint16_t)(tag_space + 1));
    if (status == TALLY_OK)
        progress_attach(step->group->tally->progress, step->queue);
    park_at_exit(); // libraries were loaded for the group, or for the step
    return status;
}

tally_status_t tally_step_create(tally_group_t *group,
                                 const tally_step_params_t *given,
                                 tally_step_t **out)
{
    static const char function[] = "tally_step_create";
    tally_step_params_t params = {0};
    tally_status_t status;
    tally_step_t *step;

    if (group == NULL || out == NULL)
        return api_fail(group == NULL ? NULL : &group->tally->log, function,
                        core_fail(TALLY_ERR_INVALID, "%s is NULL",
                                  group == NULL ? "group" : "out"));
    status = struct_take("tally_step_params", given, &params, sizeof(params),
                         STRUCT_THROUGH(tally_step_params_t, channel_count));
    if (status != TALLY_OK)
        return api_fail(&group->tally->log, function, status);
    progress_lock(group->tally->progress);
    status = group->fate.status;
    progress_unlock(group->tally->progress);
    if (status != TALLY_OK)
        return api_fail(&group->tally->log, function,
                        core_fail(TALLY_ERR_DEAD, "group \"%s\" is dead: %s",
                                  group->key, group->fate.sentence));
    step = calloc(1, sizeof(*step));
    if (step == NULL)
        return api_fail(&group->tally->log, function,
                        core_fail(TALLY_ERR_MEMORY, "no memory"));
    step->group = group;
    status = build(step, &params);
    if (status != TALLY_OK) {
        status = api_fail(&group->tally->log, function, status);
        release(step);
        return status;
    }
    group->step_count++;
    *out = step;
    return TALLY_OK;
}

// What is under way ends by its own deadline.
static void drain(tally_step_t *step)
{
    struct queue *queue = step->queue;

    if (step->device != NULL)
        step_device_drain(step);
    progress_lock(step->group->tally->progress);
    uint64_t last = queue->posted;
    progress_unlock(step->group->tally->progress);
    if (last > 0)
        progress_wait(step->group->tally->progress, queue, last, step->lanes);
}

// Whether no epoch of the group can end any more. Then the group is dead, also
// where nothing was posted that could have found out.
static bool is_dead(tally_group_t *group)
{
    const struct exchange_group *members = &group->members;

    for (int32_t i = 0; group->fate.status == TALLY_OK && i < members->count;
         i++) {
        enum health_state state =
            health_rank(group->tally->health, members->ranks[i], NULL);

        if (state != HEALTH_DIED && state != HEALTH_LEFT)
            continue;
        group->fate.status = TALLY_ERR_PEER;
        group->fate.failed_rank = members->ranks[i];
        snprintf(group->fate.sentence, sizeof(group->fate.sentence),
                 "rank %d %s", (int)members->ranks[i],
                 state == HEALTH_LEFT ? "left (tally_close)" : "died");
    }
    return group->fate.status != TALLY_OK;
}

tally_status_t tally_step_free(tally_step_t *step)
{
    if (step == NULL)
        return TALLY_OK;
    bool busy = step->state != STEP_IDLE;
    if (busy) {
        progress_lock(step->group->tally->progress);
        busy = !is_dead(step->group);
        progress_unlock(step->group->tally->progress);
    }
    if (busy)
        return api_fail(&step->group->tally->log, "tally_step_free",
                        core_fail(TALLY_ERR_BUSY, "epoch %llu has not ended",
                                  (unsigned long long)step->epoch));
    tally_status_t status = step_stream_settle(step);
    if (status != TALLY_OK)
        return api_fail(&step->group->tally->log, "tally_step_free", status);
    drain(step);
    step->group->step_count--;
    release(step);
    return TALLY_OK;
}

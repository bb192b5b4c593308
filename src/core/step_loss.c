// SPDX-License-Identifier: BSD-3-Clause
// The losses of a step, of whole rows and of some columns of them.
#include "core/error.h"
#include "core/objects.h"
#include "core/step_device.h"

_Static_assert(sizeof(tally_row_part_t) == sizeof(struct kernel_parts) &&
                   offsetof(tally_row_part_t, logit_sum) ==
                       offsetof(struct kernel_parts, logit_sum) &&
                   offsetof(tally_row_part_t, sum) ==
                       offsetof(struct kernel_parts, sum) &&
                   offsetof(tally_row_part_t, target) ==
                       offsetof(struct kernel_parts, target),
               "the kernels' parts");

static tally_status_t check_loss_order(const tally_step_t *step,
                                       const struct step_channel *channel)
{
    bool late = step->order == TALLY_SCALE_LATE;

    if (late ? step->state != STEP_BEGUN : step->state < STEP_REDUCED)
        return core_fail(TALLY_ERR_ORDER, "%s", step_state_name(step));
    if (channel->lost == step->micro_batches)
        return core_fail(TALLY_ERR_ORDER,
                         "channel \"%s\" was given to the loss %d times "
                         "already, as often as there are micro-batches",
                         channel->name, (int)channel->lost);
    return TALLY_OK;
}

static tally_status_t take_rows(const struct step_channel *channel,
                                const tally_logits_t *logits,
                                const tally_labels_t *labels,
                                struct device_loss *job)
{
    tally_status_t status = step_take_labels(channel, labels, &job->labels);

    if (status != TALLY_OK)
        return status;
    step_take_all_columns(job);
    return step_take_logits(channel, logits, job);
}

static tally_status_t
take_columns(const struct step_channel *channel, const tally_logits_t *logits,
             const tally_labels_t *labels, const tally_columns_t *columns,
             tally_row_part_t *parts, struct device_loss *job)
{
    tally_status_t status = step_take_labels(channel, labels, &job->labels);

    if (status == TALLY_OK)
        status = step_take_columns(columns, job);
    if (status == TALLY_OK)
        status = step_take_logits(channel, logits, job);
    if (status == TALLY_OK && parts == NULL && job->labels.tokens > 0)
        return core_fail(TALLY_ERR_INVALID, "parts is NULL with %lld tokens",
                         (long long)job->labels.tokens);
    job->columns.parts = (struct kernel_parts *)parts;
    return status;
}

// What was taken, to the device.
static tally_status_t lose(tally_step_t *step, const char *function,
                           uint32_t index, struct device_loss *job,
                           tally_stream_t stream)
{
    struct step_channel *channel = &step->channels[index];
    tally_status_t settled = TALLY_OK;
    tally_status_t status = TALLY_OK;

    if (step->order == TALLY_COUNT_FIRST) {
        // After an error the gradients are written all the same, with the NaN
        // scale, so that a caller who looks away does not train on logits.
        settled = step_settle(step, stream);
        if (step->state != STEP_SETTLED) // then there is no wait
            return settled;
        job->scale = &step->scales[index];
    }
    if (step->device != NULL)
        job->parts = &step->device->parts;
    if (step->device != NULL && step->order == TALLY_SCALE_LATE)
        status = step_device_check_tokens(channel, job->labels.tokens);
    if (status == TALLY_OK)
        status = step->device_ops->loss(step->device_memory, job,
                                        &step->losses[index], stream);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    if (step->device == NULL)
        numeric_record_fold(&step->losses[index]);
    channel->lost++;
    return settled;
}

tally_status_t tally_step_loss(tally_step_t *step, uint32_t index,
                               const tally_logits_t *logits,
                               const tally_labels_t *labels,
                               const tally_loss_outputs_t *outputs,
                               tally_stream_t stream)
{
    static const char function[] = "tally_step_loss";
    struct device_loss job = {0};

    if (step == NULL)
        return step_fail_null(function);
    tally_status_t status = step_check_channel(step, index);
    if (status == TALLY_OK)
        status = check_loss_order(step, &step->channels[index]);
    if (status == TALLY_OK)
        status = take_rows(&step->channels[index], logits, labels, &job);
    if (status == TALLY_OK)
        status = step_take_outputs(outputs, &job);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    return lose(step, function, index, &job, stream);
}

tally_status_t tally_step_loss_part(tally_step_t *step, uint32_t index,
                                    const tally_logits_t *logits,
                                    const tally_labels_t *labels,
                                    const tally_columns_t *columns,
                                    tally_row_part_t *parts,
                                    tally_stream_t stream)
{
    static const char function[] = "tally_step_loss_part";
    struct device_loss job = {0};

    if (step == NULL)
        return step_fail_null(function);
    tally_status_t status = step_check_channel(step, index);
    if (status == TALLY_OK)
        status = take_columns(&step->channels[index], logits, labels, columns,
                              parts, &job);
    if (status == TALLY_OK)
        status = step->device_ops->part(step->device_memory, &job, stream);
    return status == TALLY_OK ? TALLY_OK : step_fail(step, function, status);
}

tally_status_t tally_step_loss_columns(tally_step_t *step, uint32_t index,
                                       const tally_logits_t *logits,
                                       const tally_labels_t *labels,
                                       const tally_columns_t *columns,
                                       tally_row_part_t *parts,
                                       const tally_loss_outputs_t *outputs,
                                       tally_stream_t stream)
{
    static const char function[] = "tally_step_loss_columns";
    struct device_loss job = {0};

    if (step == NULL)
        return step_fail_null(function);
    tally_status_t status = step_check_channel(step, index);
    if (status == TALLY_OK)
        status = check_loss_order(step, &step->channels[index]);
    if (status == TALLY_OK)
        status = take_columns(&step->channels[index], logits, labels, columns,
                              parts, &job);
    if (status == TALLY_OK)
        status = step_take_outputs(outputs, &job);
    if (status != TALLY_OK)
        return step_fail(step, function, status);
    return lose(step, function, index, &job, stream);
}

// SPDX-License-Identifier: BSD-3-Clause
// What a trainer asks of Tally in one optimizer step, in either order. This is
// the part to copy. On the host device the stream is NULL and nothing is
// copied.
//
// The framework averages gradients over ranks (TALLY_GRADIENT_AVERAGE), so
// Tally's scale is ranks / tokens of all ranks, and the average of the scaled
// sums is the mean over all tokens.
#include "train.h"

#include <string.h>

// Its values are NULL if they could not be brought to the device.
static tally_labels_t labels_of(struct trainer *trainer,
                                const struct micro_batch *micro)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I32;
    labels.values = trainer->options->device->give(
        &trainer->memory, DEVICE_LABELS, micro->labels,
        (size_t)micro->tokens * sizeof(*micro->labels));
    labels.tokens = micro->tokens;
    return labels;
}

bool train_scale(struct trainer *trainer, double *scale)
{
    float value;

    if (!trainer->options->device->take(&trainer->memory, &value,
                                        trainer->scale, sizeof(value)))
        return false;
    *scale = (double)value;
    return true;
}

// Forward, Tally's loss, backward. The loss turns the logits into their
// gradient, in place.
static tally_status_t forward_backward(struct trainer *trainer,
                                       const struct micro_batch *micro)
{
    const struct device *device = trainer->options->device;
    struct activations *activations = &trainer->activations;
    const size_t bytes = (size_t)micro->tokens * sizeof(*activations->logits);
    tally_labels_t labels = labels_of(trainer, micro);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    float *micro_gradient = (float *)&trainer->micro_gradient;

    model_forward(&trainer->parameters, micro, activations);

    void *values = device->give(&trainer->memory, DEVICE_LOGITS,
                                activations->logits, bytes);
    if (labels.values == NULL || values == NULL)
        return TRAIN_SAID;
    logits.type = TALLY_F32;
    logits.values = values;
    outputs.gradient = values;
    tally_status_t status = trainer->tally->step_loss(
        trainer->step, 0, &logits, &labels, &outputs, trainer->memory.stream);
    if (status != TALLY_OK)
        return status;
    if (!device->take(&trainer->memory, activations->logits, values, bytes))
        return TRAIN_SAID;

    memset(micro_gradient, 0, sizeof(trainer->micro_gradient));
    model_backward(&trainer->parameters, micro, activations,
                   &trainer->micro_gradient);
    for (size_t i = 0; i < MODEL_PARAMETERS; i++)
        trainer->gradient[i] += (double)micro_gradient[i];
    return TALLY_OK;
}

// The labels are known before the forward: Tally counts them and reduces the
// counts while the first micro-batch is on its way through the model, and the
// gradient of the loss comes out scaled.
static tally_status_t count_first(struct trainer *trainer)
{
    const tally_plugin_t *tally = trainer->tally;
    const struct batch *batch = &trainer->batch;
    tally_step_t *step = trainer->step;
    tally_stream_t stream = trainer->memory.stream;
    tally_status_t status;

    status = tally->step_begin(step, batch->count, stream);
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        tally_labels_t labels = labels_of(trainer, &batch->micro[i]);
        if (labels.values == NULL)
            return TRAIN_SAID;
        status = tally->step_count(step, 0, &labels, stream);
        if (status != TALLY_OK)
            return status;
    }
    train_mishap(trainer);
    status = tally->step_reduce(step, stream); // posts it, does not wait
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        status = forward_backward(trainer, &batch->micro[i]);
        if (status != TALLY_OK)
            return status;
    }
    return tally->step_end(step, stream);
}

// Loss and count come out of one kernel and are reduced together, while the
// optimizer's preparations could go on; the gradient is scaled afterwards.
static tally_status_t scale_late(struct trainer *trainer)
{
    const tally_plugin_t *tally = trainer->tally;
    const struct batch *batch = &trainer->batch;
    tally_step_t *step = trainer->step;
    tally_stream_t stream = trainer->memory.stream;
    tally_status_t status;

    status = tally->step_begin(step, batch->count, stream);
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        status = forward_backward(trainer, &batch->micro[i]);
        if (status != TALLY_OK)
            return status;
    }
    if (!trainer->options->mode->replicas) // theirs come later
        train_mishap(trainer);
    status = tally->step_reduce(step, stream);
    if (status != TALLY_OK)
        return status;
    status = tally->step_wait(step, stream);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        return status;
    // Who sums over replicas scales the sum: the set may become smaller yet.
    if (!trainer->options->mode->replicas) {
        double scale;
        if (!train_scale(trainer, &scale))
            return TRAIN_SAID;
        for (size_t i = 0; i < MODEL_PARAMETERS; i++)
            trainer->gradient[i] *= scale;
    }
    return tally->step_end(step, stream);
}

static const struct train_order orders[] = {
    {.name = "first", .order = TALLY_COUNT_FIRST, .gradient = count_first},
    {.name = "late", .order = TALLY_SCALE_LATE, .gradient = scale_late},
};

const struct train_order *train_order_find(const char *name)
{
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
        if (strcmp(orders[i].name, name) == 0)
            return &orders[i];
    return NULL;
}

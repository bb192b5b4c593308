// SPDX-License-Identifier: BSD-3-Clause
// What a trainer asks of Tally in one optimizer step, in either order. This is
// the part to copy. On the host device the stream is NULL.
//
// The framework averages gradients over ranks (TALLY_GRADIENT_AVERAGE), so
// Tally's scale is ranks / tokens of all ranks, and the average of the scaled
// sums is the mean over all tokens.
#include "train.h"

#include <string.h>

static tally_labels_t labels_of(const struct micro_batch *micro)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I32;
    labels.values = micro->labels;
    labels.tokens = micro->tokens;
    return labels;
}

// Forward, Tally's loss, backward. The loss turns the logits into their
// gradient, in place.
static tally_status_t forward_backward(struct trainer *trainer,
                                       const struct micro_batch *micro)
{
    tally_labels_t labels = labels_of(micro);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    float *micro_gradient = (float *)&trainer->micro_gradient;

    model_forward(&trainer->parameters, micro, &trainer->activations);

    logits.type = TALLY_F32;
    logits.values = trainer->activations.logits;
    outputs.gradient = trainer->activations.logits;
    tally_status_t status = trainer->tally->step_loss(trainer->step, 0, &logits,
                                                      &labels, &outputs, NULL);
    if (status != TALLY_OK)
        return status;

    memset(micro_gradient, 0, sizeof(trainer->micro_gradient));
    model_backward(&trainer->parameters, micro, &trainer->activations,
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
    tally_status_t status;

    status = tally->step_begin(step, batch->count, NULL);
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        tally_labels_t labels = labels_of(&batch->micro[i]);
        status = tally->step_count(step, 0, &labels, NULL);
        if (status != TALLY_OK)
            return status;
    }
    train_mishap(trainer);
    status = tally->step_reduce(step, NULL); // posts it, does not wait
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        status = forward_backward(trainer, &batch->micro[i]);
        if (status != TALLY_OK)
            return status;
    }
    return tally->step_end(step, NULL);
}

// Loss and count come out of one kernel and are reduced together, while the
// optimizer's preparations could go on; the gradient is scaled afterwards.
static tally_status_t scale_late(struct trainer *trainer)
{
    const tally_plugin_t *tally = trainer->tally;
    const struct batch *batch = &trainer->batch;
    tally_step_t *step = trainer->step;
    tally_status_t status;

    status = tally->step_begin(step, batch->count, NULL);
    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < batch->count; i++) {
        status = forward_backward(trainer, &batch->micro[i]);
        if (status != TALLY_OK)
            return status;
    }
    if (!trainer->options->mode->replicas) // theirs come later
        train_mishap(trainer);
    status = tally->step_reduce(step, NULL);
    if (status != TALLY_OK)
        return status;
    status = tally->step_wait(step, NULL);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        return status;
    // Who sums over replicas scales the sum: the set may become smaller yet.
    for (size_t i = 0;
         !trainer->options->mode->replicas && i < MODEL_PARAMETERS; i++)
        trainer->gradient[i] *= (double)*trainer->scale;
    return tally->step_end(step, NULL);
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

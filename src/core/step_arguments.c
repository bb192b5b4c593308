// SPDX-License-Identifier: BSD-3-Clause
// The arrays that a caller hands to a step: checked, and put in the form that a
// device takes. It does not look at the step's state.
#include "core/error.h"
#include "core/objects.h"
#include "core/struct_check.h"

tally_status_t step_take_labels(const struct step_channel *channel,
                                const tally_labels_t *given,
                                struct device_labels *out)
{
    tally_labels_t labels = {0};
    tally_status_t status =
        struct_take("tally_labels", given, &labels, sizeof(labels),
                    STRUCT_THROUGH(tally_labels_t, tokens));

    if (status != TALLY_OK)
        return status;
    if (labels.type != TALLY_I32 && labels.type != TALLY_I64)
        return core_fail(TALLY_ERR_INVALID,
                         "labels are TALLY_I32 or TALLY_I64, not type %d",
                         (int)labels.type);
    if (labels.tokens < 0)
        return core_fail(TALLY_ERR_INVALID, "labels.tokens is %lld",
                         (long long)labels.tokens);
    if (labels.values == NULL && labels.tokens > 0)
        return core_fail(TALLY_ERR_INVALID,
                         "labels.values is NULL with %lld tokens",
                         (long long)labels.tokens);
    *out = (struct device_labels){
        .values = labels.values,
        .type = labels.type,
        .tokens = labels.tokens,
        .weights = labels.weights,
        .vocab = channel->vocab,
        .ignore_index = channel->ignore_index,
    };
    return TALLY_OK;
}

void step_take_all_columns(struct device_loss *job)
{
    job->columns = (struct device_columns){.width = job->labels.vocab};
}

tally_status_t step_take_columns(const tally_columns_t *given,
                                 struct device_loss *job)
{
    const int64_t vocab = job->labels.vocab;
    tally_columns_t columns = {0};
    tally_status_t status =
        struct_take("tally_columns", given, &columns, sizeof(columns),
                    STRUCT_THROUGH(tally_columns_t, width));

    if (status != TALLY_OK)
        return status;
    if (columns.begin < 0 || columns.begin >= vocab)
        return core_fail(TALLY_ERR_INVALID,
                         "columns.begin is %lld, the vocabulary has %lld",
                         (long long)columns.begin, (long long)vocab);
    if (columns.width < 1 || columns.width > vocab - columns.begin)
        return core_fail(TALLY_ERR_INVALID,
                         "columns.width is %lld, not 1 to %lld from column "
                         "%lld of %lld",
                         (long long)columns.width,
                         (long long)(vocab - columns.begin),
                         (long long)columns.begin, (long long)vocab);
    if (columns.shards < 1)
        return core_fail(TALLY_ERR_INVALID, "columns.shards is %d",
                         (int)columns.shards);
    job->columns = (struct device_columns){
        .begin = columns.begin,
        .width = columns.width,
        .shards = columns.shards,
    };
    return TALLY_OK;
}

tally_status_t step_take_logits(const struct step_channel *channel,
                                const tally_logits_t *given,
                                struct device_loss *job)
{
    tally_logits_t logits = {0};
    tally_status_t status =
        struct_take("tally_logits", given, &logits, sizeof(logits),
                    STRUCT_THROUGH(tally_logits_t, values));

    if (status != TALLY_OK)
        return status;
    if (logits.type != TALLY_F32 && logits.type != TALLY_BF16 &&
        logits.type != TALLY_F16)
        return core_fail(TALLY_ERR_INVALID,
                         "logits are TALLY_F32, TALLY_BF16 or TALLY_F16, not "
                         "type %d",
                         (int)logits.type);
    if (logits.values == NULL && job->labels.tokens > 0)
        return core_fail(TALLY_ERR_INVALID, "logits.values is NULL");
    if (logits.row_stride == 0)
        logits.row_stride = job->columns.width;
    if (logits.row_stride < job->columns.width)
        return core_fail(TALLY_ERR_INVALID,
                         "logits.row_stride is %lld, a row has %lld columns",
                         (long long)logits.row_stride,
                         (long long)job->columns.width);
    job->logits = logits.values;
    job->type = logits.type;
    job->logits_stride = logits.row_stride;
    job->shaping = channel->shaped ? &channel->shaping : NULL;
    return TALLY_OK;
}

tally_status_t step_take_outputs(const tally_loss_outputs_t *given,
                                 struct device_loss *job)
{
    tally_loss_outputs_t outputs = {0};
    tally_status_t status;

    if (given == NULL)
        return TALLY_OK;
    status = struct_take("tally_loss_outputs", given, &outputs, sizeof(outputs),
                         STRUCT_THROUGH(tally_loss_outputs_t, gradient));
    if (status != TALLY_OK)
        return status;
    if (outputs.gradient_stride == 0)
        outputs.gradient_stride = job->columns.width;
    if (outputs.gradient != NULL &&
        outputs.gradient_stride < job->columns.width)
        return core_fail(TALLY_ERR_INVALID,
                         "outputs.gradient_stride is %lld, a row has %lld "
                         "columns",
                         (long long)outputs.gradient_stride,
                         (long long)job->columns.width);
    if (outputs.gradient != NULL && outputs.gradient == job->logits &&
        outputs.gradient_stride != job->logits_stride)
        return core_fail(TALLY_ERR_INVALID,
                         "in place, outputs.gradient_stride %lld must be "
                         "logits.row_stride %lld",
                         (long long)outputs.gradient_stride,
                         (long long)job->logits_stride);
    job->gradient = outputs.gradient;
    job->gradient_stride = outputs.gradient_stride;
    job->nll = outputs.nll;
    job->grad_scale = outputs.grad_scale;
    return TALLY_OK;
}

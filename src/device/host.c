// SPDX-License-Identifier: BSD-3-Clause
// The host device: labels and losses of tokens, shared out over threads. The
// arithmetic of a row is host_row_body.h; here is what a token adds to a
// record.
//
// A token's nll is rounded to float32; the record gets weight * nll, which is
// exact in double. So a loss sum is that of the nll a caller can read. The
// factor of a gradient is (weight * scale) * grad_scale in float32.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "device/device.h"
#include "device/host_element.h"
#include "device/host_pool.h"
#include "device/host_row.h"
#include "device/host_shape.h"
#include "numeric/exp.h"
#include "numeric/log.h"

// Elements handed to a thread at a time: some ten microseconds of work.
#define GRAIN_ELEMENTS ((int64_t)1 << 16)
#define GRAIN_LABELS ((int64_t)1 << 14)

struct device {
    const struct host_row_kernels *kernels;
    struct host_pool *pool;
};

static tally_status_t host_open(const struct device_params *params,
                                struct device **out)
{
    const struct host_row_kernels *kernels = host_isa_find(params->isa);
    struct device *device;

    if (kernels == NULL)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_HOST_ISA=%s: this processor or build has no "
                         "such kernels",
                         params->isa);
    device = calloc(1, sizeof(*device));
    if (device == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the host device");
    device->kernels = kernels;
    tally_status_t status = host_pool_open(params->threads, &device->pool);
    if (status != TALLY_OK) {
        free(device);
        return status;
    }
    *out = device;
    return TALLY_OK;
}

static void host_close(struct device *device)
{
    host_pool_close(device->pool);
    free(device);
}

const char *device_host_isa(const struct device *device)
{
    return device->kernels->isa;
}

struct token {
    int64_t label;
    float weight;
};

static int64_t label_load(const struct device_labels *labels, int64_t index)
{
    const char *values = labels->values;
    int32_t narrow;
    int64_t wide;

    if (labels->type == TALLY_I64) {
        memcpy(&wide, values + index * (int64_t)sizeof(wide), sizeof(wide));
        return wide;
    }
    memcpy(&narrow, values + index * (int64_t)sizeof(narrow), sizeof(narrow));
    return narrow;
}

// Whether token `index` counts; if so, what it is. Adds all but its loss.
static bool token_take(const struct device_labels *labels, int64_t index,
                       struct token *token, struct numeric_record *record)
{
    int64_t label = label_load(labels, index);
    float weight = 1;
    int64_t q = 0;

    if (label == labels->ignore_index)
        return false;
    if (labels->weights != NULL)
        weight = labels->weights[index];
    if (label < 0 || label >= labels->vocab ||
        !numeric_encode((double)weight, &q)) {
        record->bad_labels++;
        return false;
    }
    record->count++;
    numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    *token = (struct token){label, weight};
    return true;
}

static void count_tokens(const void *context, int64_t begin, int64_t end,
                         struct numeric_record *record)
{
    const struct device_labels *labels = context;
    struct token token;

    for (int64_t i = begin; i < end; i++)
        token_take(labels, i, &token, record);
}

static tally_status_t host_count(struct device *device,
                                 const struct device_labels *labels,
                                 struct numeric_record *record,
                                 tally_stream_t stream)
{
    struct host_job job = {.work = count_tokens,
                           .context = labels,
                           .rows = labels->tokens,
                           .grain = GRAIN_LABELS};

    (void)stream;
    host_pool_run(device->pool, &job, record);
    return TALLY_OK;
}

struct loss {
    const struct device_loss *job;
    const struct host_row_kernels *kernels;
    enum host_row_type type;
};

struct row {
    const char *logits;
    char *gradient; // NULL: none
    float *nll;     // NULL: none
};

static struct row row_at(const struct loss *loss, int64_t index)
{
    const struct device_loss *job = loss->job;
    int64_t size = host_element_size(loss->type);
    struct row row = {0};

    row.logits = (const char *)job->logits + index * job->logits_stride * size;
    if (job->gradient != NULL)
        row.gradient =
            (char *)job->gradient + index * job->gradient_stride * size;
    if (job->nll != NULL)
        row.nll = job->nll + index;
    return row;
}

static void row_skip(const struct loss *loss, const struct row *row)
{
    if (row->gradient != NULL)
        memset(
            row->gradient, 0,
            (size_t)(loss->job->labels.vocab * host_element_size(loss->type)));
    if (row->nll != NULL)
        *row->nll = 0;
}

// log(sum_j exp(x_j)) - x_label. With the label on top only the others' sum is
// taken, however small.
static double row_nll(const struct host_row_sum *sum, float logit, double own)
{
    if (own == 1) // not so if both are infinite
        return numeric_log1p(sum->others);
    return numeric_log(sum->others + own) -
           ((double)logit - (double)sum->maximum);
}

static float gradient_factor(const struct device_loss *job, float weight)
{
    float factor = weight;

    if (job->scale != NULL)
        factor *= *job->scale;
    if (job->grad_scale != NULL)
        factor *= *job->grad_scale;
    return factor;
}

static void row_give(const struct row *row, const struct token *token,
                     double loss, struct numeric_record *record)
{
    float nll = host_float_canonical((float)loss);
    int64_t q;

    if (numeric_encode((double)nll * (double)token->weight, &q))
        numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    else
        record->nonfinite++;
    if (row->nll != NULL)
        *row->nll = nll;
}

// Of token `token`: the nll, added and stored, and the gradient.
static void row_take(const struct loss *loss, const struct row *row,
                     const struct token *token, struct numeric_record *record)
{
    int64_t vocab = loss->job->labels.vocab;
    float logit = host_element_load(loss->type, row->logits, token->label);
    struct host_row_sum sum;

    loss->kernels->sum[loss->type](row->logits, vocab, token->label, &sum);
    double own = numeric_exp((double)logit - (double)sum.maximum);
    double total = sum.others + own;
    row_give(row, token, row_nll(&sum, logit, own), record);
    if (row->gradient == NULL)
        return;
    double factor = (double)gradient_factor(loss->job, token->weight);
    loss->kernels->gradient[loss->type](row->logits, row->gradient, vocab, &sum,
                                        (float)(factor / total));
    // p - 1 would lose its digits where p is near 1.
    host_element_store(loss->type, row->gradient, token->label,
                       (float)((0 - sum.others / total) * factor));
}

// The same under a shaping, with the formulas of kernels/softmax.h.
static void row_take_shaped(const struct loss *loss, const struct row *row,
                            const struct token *token,
                            struct numeric_record *record)
{
    const struct kernel_shaping *by = loss->job->shaping;
    const double smoothing = (double)by->smoothing;
    const double vocab = (double)loss->job->labels.vocab;
    const struct host_shape shape = {
        .kernels = loss->kernels,
        .by = by,
        .type = loss->type,
        .logits = row->logits,
        .vocab = loss->job->labels.vocab,
        .label = token->label,
    };
    struct host_shape_sum sum;

    host_shape_sum(&shape, &sum);
    double target = (double)sum.target;
    double own = numeric_exp(target - (double)sum.values.maximum);
    double total = sum.values.others + own;
    double nll = row_nll(&sum.values, sum.target, own);
    double lse = target == -INFINITY
                     ? (double)sum.values.maximum + numeric_log(total)
                     : target + nll;
    double z_loss = (double)by->z_loss * lse;
    if (smoothing > 0)
        nll = (1 - smoothing) * nll + smoothing * (lse - sum.total / vocab);
    row_give(row, token, nll + z_loss * lse, record);
    if (row->gradient == NULL)
        return;
    double factor = (double)gradient_factor(loss->job, token->weight);
    double evenly = smoothing / vocab;
    struct host_shape_slopes slopes = {
        .others = (float)(factor / total * (1 + 2 * z_loss)),
        .evenly = (float)(evenly * factor),
        .target = ((own * 2 * z_loss - sum.values.others) / total +
                   (smoothing - evenly)) *
                  factor,
    };
    host_shape_gradient(&shape, &sum, &slopes, row->gradient);
}

static void loss_rows(const void *context, int64_t begin, int64_t end,
                      struct numeric_record *record)
{
    const struct loss *loss = context;
    struct token token;

    for (int64_t i = begin; i < end; i++) {
        struct row row = row_at(loss, i);
        if (!token_take(&loss->job->labels, i, &token, record))
            row_skip(loss, &row);
        else if (loss->job->shaping != NULL)
            row_take_shaped(loss, &row, &token, record);
        else
            row_take(loss, &row, &token, record);
    }
}

static tally_status_t host_loss(struct device *device,
                                const struct device_loss *job,
                                struct numeric_record *record,
                                tally_stream_t stream)
{
    int64_t grain = GRAIN_ELEMENTS / job->labels.vocab;
    struct loss loss = {.job = job,
                        .kernels = device->kernels,
                        .type = host_row_type(job->type)};
    struct host_job rows = {.work = loss_rows,
                            .context = &loss,
                            .rows = job->labels.tokens,
                            .grain = grain > 0 ? grain : 1};

    (void)stream;
    host_pool_run(device->pool, &rows, record);
    return TALLY_OK;
}

static tally_status_t host_multiply(struct device *device,
                                    const struct device_multiply *job,
                                    tally_stream_t stream)
{
    const float factor = *job->factor;
    enum host_row_type type = host_row_type(job->type);

    (void)device;
    (void)stream;
    if (factor == 1)
        return TALLY_OK;
    for (int64_t i = 0; i < job->elements; i++)
        host_element_store(type, job->values, i,
                           factor * host_element_load(type, job->values, i));
    return TALLY_OK;
}

const struct device_ops device_host_ops = {
    .size = sizeof(struct device_ops),
    .name = "host",
    .open = host_open,
    .close = host_close,
    .count = host_count,
    .loss = host_loss,
    .multiply = host_multiply,
};

// SPDX-License-Identifier: BSD-3-Clause
// See host_loss.h. The arithmetic of a row is host_row_body.h, that of a
// shaping host_shape.c.
//
// A token's nll is rounded to float32; the record gets weight * nll, which is
// exact in double. So a loss sum is that of the nll a caller can read. The
// factor of a gradient is (weight * scale) * grad_scale in float32.
#include "device/host_loss.h"

#include <math.h>
#include <string.h>

#include "device/host_element.h"
#include "device/host_shape.h"
#include "numeric/exp.h"
#include "numeric/log.h"

struct row {
    const char *logits;
    char *gradient; // NULL: none
    float *nll;     // NULL: none
    float weight;
    int64_t column; // the label's; outside of the row, if another shard has it
};

// What a row's softmax is made of, and what the formulas share.
struct softmax {
    struct host_shape_sum sum; // of the whole row; without a shaping its
                               // `total` is of nothing
    double own;                // exp(target - maximum)
    double all;                // with the others'
    double nll;
    double lse; // only under a shaping
};

static struct row row_at(const struct host_loss_job *loss, int64_t index)
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

static struct host_shape shape_of(const struct host_loss_job *loss,
                                  const struct row *row)
{
    return (struct host_shape){
        .kernels = loss->kernels,
        .by = loss->job->shaping,
        .type = loss->type,
        .logits = row->logits,
        .vocab = loss->job->columns.width,
        .label = row->column,
    };
}

// Of the columns that are here.
static void add_up(const struct host_loss_job *loss, const struct row *row,
                   struct host_shape_sum *out)
{
    const int64_t width = loss->job->columns.width;
    const bool is_here = row->column >= 0 && row->column < width;
    const struct host_shape shape = shape_of(loss, row);

    if (loss->job->shaping != NULL) {
        host_shape_sum(&shape, out);
    } else {
        loss->kernels->sum[loss->type](row->logits, width, row->column,
                                       &out->values);
        out->target =
            is_here ? host_element_load(loss->type, row->logits, row->column)
                    : 0;
        out->total = 0;
    }
    if (!is_here)
        out->target = -INFINITY;
}

// The first, if the second is NaN.
static float larger(float a, float b)
{
    return b > a ? b : a;
}

// Of a row's parts, in the order of shards. Nothing is known of the least
// logit.
static void merge(const struct device_loss *job, int64_t index,
                  struct host_shape_sum *out)
{
    const struct device_columns *columns = &job->columns;
    const int64_t tokens = job->labels.tokens;
    float maximum = -INFINITY;

    *out =
        (struct host_shape_sum){.values.bound = -INFINITY, .target = -INFINITY};
    for (int32_t r = 0; r < columns->shards; r++) {
        const struct kernel_parts *part = &columns->parts[r * tokens + index];
        maximum = larger(maximum, part->maximum); // may be NaN
        maximum = larger(maximum, (float)part->target);
        out->total += (double)part->logit_sum;
        // -inf of all shards but one, whose may be NaN.
        if (part->target > (double)out->target || part->target != part->target)
            out->target = (float)part->target;
    }
    for (int32_t r = 0; r < columns->shards; r++) {
        const struct kernel_parts *part = &columns->parts[r * tokens + index];
        out->values.others +=
            part->sum * numeric_exp((double)part->maximum - (double)maximum);
    }
    out->values.maximum = maximum;
    out->total += (double)out->target;
}

// log(sum_j exp(x_j)) - x_label. With the label on top only the others' sum is
// taken, however small.
static double nll_of(const struct host_row_sum *sum, float logit, double own)
{
    if (own == 1) // not so if both are infinite
        return numeric_log1p(sum->others);
    return numeric_log(sum->others + own) -
           ((double)logit - (double)sum->maximum);
}

// Completes what follows from the sums.
static void complete(const struct host_loss_job *loss, struct softmax *softmax)
{
    const struct host_row_sum *values = &softmax->sum.values;
    const double target = (double)softmax->sum.target;

    softmax->own = numeric_exp(target - (double)values->maximum);
    softmax->all = values->others + softmax->own;
    softmax->nll = nll_of(values, softmax->sum.target, softmax->own);
    if (loss->job->shaping != NULL)
        softmax->lse = target == -INFINITY
                           ? (double)values->maximum + numeric_log(softmax->all)
                           : target + softmax->nll;
}

// With the formulas of kernels/softmax.h.
static double loss_of(const struct host_loss_job *loss,
                      const struct softmax *softmax)
{
    const struct kernel_shaping *by = loss->job->shaping;
    const double vocab = (double)loss->job->labels.vocab;
    double nll = softmax->nll;

    if (by == NULL)
        return nll;
    const double smoothing = (double)by->smoothing;
    const double lse = softmax->lse;
    if (smoothing > 0)
        nll = (1 - smoothing) * nll +
              smoothing * (lse - softmax->sum.total / vocab);
    return nll + (double)by->z_loss * lse * lse;
}

static void give(const struct row *row, double loss,
                 struct numeric_record *record)
{
    float nll = host_float_canonical((float)loss);
    int64_t q;

    if (numeric_encode((double)nll * (double)row->weight, &q))
        numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    else
        record->nonfinite++;
    if (row->nll != NULL)
        *row->nll = nll;
}

static double factor_of(const struct device_loss *job, float weight)
{
    float factor = weight;

    if (job->scale != NULL)
        factor *= *job->scale;
    if (job->grad_scale != NULL)
        factor *= *job->grad_scale;
    return (double)factor;
}

static void give_gradient(const struct host_loss_job *loss,
                          const struct row *row, const struct softmax *softmax)
{
    const struct host_row_sum *values = &softmax->sum.values;
    const int64_t width = loss->job->columns.width;
    const double factor = factor_of(loss->job, row->weight);

    loss->kernels->gradient[loss->type](row->logits, row->gradient, width,
                                        values, (float)(factor / softmax->all));
    // p - 1 would lose its digits where p is near 1.
    if (row->column >= 0 && row->column < width)
        host_element_store(
            loss->type, row->gradient, row->column,
            (float)((0 - values->others / softmax->all) * factor));
}

static void give_shaped_gradient(const struct host_loss_job *loss,
                                 const struct row *row,
                                 const struct softmax *softmax)
{
    const struct kernel_shaping *by = loss->job->shaping;
    const struct host_shape shape = shape_of(loss, row);
    const double smoothing = (double)by->smoothing;
    const double evenly = smoothing / (double)loss->job->labels.vocab;
    const double factor = factor_of(loss->job, row->weight);
    const double z_loss = (double)by->z_loss * softmax->lse;
    const struct host_shape_slopes slopes = {
        .others = (float)(factor / softmax->all * (1 + 2 * z_loss)),
        .evenly = (float)(evenly * factor),
        .target = ((softmax->own * 2 * z_loss - softmax->sum.values.others) /
                       softmax->all +
                   (smoothing - evenly)) *
                  factor,
    };

    host_shape_gradient(&shape, &softmax->sum, &slopes, row->gradient);
}

void host_loss_take(const struct host_loss_job *loss, int64_t index,
                    int64_t label, float weight, struct numeric_record *record)
{
    struct row row = row_at(loss, index);
    struct softmax softmax = {0};

    row.column = label - loss->job->columns.begin;
    row.weight = weight;
    if (loss->job->columns.shards > 0)
        merge(loss->job, index, &softmax.sum);
    else
        add_up(loss, &row, &softmax.sum);
    complete(loss, &softmax);
    give(&row, loss_of(loss, &softmax), record);
    if (row.gradient == NULL)
        return;
    if (loss->job->shaping != NULL)
        give_shaped_gradient(loss, &row, &softmax);
    else
        give_gradient(loss, &row, &softmax);
}

void host_loss_skip(const struct host_loss_job *loss, int64_t index)
{
    const struct row row = row_at(loss, index);
    const int64_t size = host_element_size(loss->type);

    if (row.gradient != NULL)
        memset(row.gradient, 0, (size_t)(loss->job->columns.width * size));
    if (row.nll != NULL)
        *row.nll = 0;
}

void host_loss_part(const struct host_loss_job *loss, int64_t index,
                    int64_t label)
{
    struct row row = row_at(loss, index);
    struct host_shape_sum sum;

    row.column = label - loss->job->columns.begin;
    add_up(loss, &row, &sum);
    // An infinite one makes the loss infinite, or NaN, in any case.
    if (sum.total != 0 && sum.target > -INFINITY)
        sum.total -= (double)sum.target;
    loss->job->columns.parts[index] = (struct kernel_parts){
        .maximum = sum.values.maximum,
        .logit_sum = (float)sum.total,
        .sum = sum.values.others,
        .target = (double)sum.target,
    };
}

void host_loss_no_part(const struct host_loss_job *loss, int64_t index)
{
    loss->job->columns.parts[index] =
        (struct kernel_parts){.maximum = -INFINITY, .target = -INFINITY};
}

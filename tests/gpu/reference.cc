// SPDX-License-Identifier: BSD-3-Clause
// What must come out of a micro-batch, in long double; see job.h.
#include <math.h>
#include <string.h>

#include "gpu/job.h"

struct reference {
    long double maximum, others, own, total; // of exp(y - maximum)
    long double lse, loss, mean;
};

static long double shape(const struct batch &batch, float x)
{
    const struct kernel_shaping &by = batch.shaping;
    long double y = x;

    if (!batch.shaped)
        return y;
    if (by.cap > 0 && y > -INFINITY)
        y = by.cap * tanhl(y / by.cap);
    return y * by.temperature_inverse;
}

static long double shape_slope(const struct batch &batch, float x)
{
    const struct kernel_shaping &by = batch.shaping;

    if (!batch.shaped)
        return 1;
    if (!(by.cap > 0))
        return by.temperature_inverse;
    long double c = coshl((long double)x / by.cap);
    return by.temperature_inverse / (c * c);
}

static struct reference reference_row(const struct batch &batch, int64_t token)
{
    const float *x = &batch.logits[(size_t)(token * batch.vocab)];
    const int64_t label = batch.labels[(size_t)token];
    struct reference row = {};

    row.maximum = -INFINITY;
    for (int64_t j = 0; j < batch.vocab; j++)
        row.maximum = fmaxl(row.maximum, shape(batch, x[j]));
    for (int64_t j = 0; j < batch.vocab; j++) {
        long double y = shape(batch, x[j]);
        long double e = expl(y - row.maximum);
        row.mean += y / (long double)batch.vocab;
        if (j == label)
            row.own = e;
        else
            row.others += e;
    }
    row.total = row.others + row.own;
    row.lse = row.maximum + logl(row.total);
    row.loss =
        row.own == 1 ? log1pl(row.others) : row.lse - shape(batch, x[label]);
    if (batch.shaped) {
        const struct kernel_shaping &by = batch.shaping;
        row.loss = (1 - (long double)by.smoothing) * row.loss +
                   by.z_loss * row.lse * row.lse;
        if (by.smoothing > 0)
            row.loss += by.smoothing * (row.lse - row.mean);
    }
    return row;
}

static long double slope(const struct batch &batch, const struct reference &row,
                         int64_t token, int64_t j)
{
    const float x = batch.logits[(size_t)(token * batch.vocab + j)];
    const bool own = j == batch.labels[(size_t)token];
    long double p = expl(shape(batch, x) - row.maximum) / row.total;

    if (!batch.shaped)
        return own ? -row.others / row.total : p;
    const struct kernel_shaping &by = batch.shaping;
    long double evenly = (long double)by.smoothing / (long double)batch.vocab;
    long double z = 2 * (long double)by.z_loss * row.lse;
    long double all =
        own ? -row.others / row.total + p * z + by.smoothing : p * (1 + z);
    return (all - evenly) * shape_slope(batch, x);
}

// The distance of two neighbours at that magnitude.
static long double ulp(enum kernel_element type, long double x)
{
    const int digits = type == KERNEL_F32 ? 24 : type == KERNEL_BF16 ? 8 : 11;
    const int lowest = type == KERNEL_F16    ? -24
                       : type == KERNEL_BF16 ? -133
                                             : -149;
    int exponent;

    frexpl(x, &exponent);
    exponent -= digits;
    return ldexpl(1, exponent > lowest ? exponent : lowest);
}

static void check_row(const struct batch &batch, const struct outcome &outcome,
                      int64_t token, const struct reference &row,
                      struct accuracy *accuracy)
{
    const bool half = batch.type != KERNEL_F32;
    long double factor =
        batch.weights.empty() ? 1 : batch.weights[(size_t)token];
    long double sum = 0;
    long double size = 0;

    if (batch.has_scale)
        factor *= batch.scale;
    if (batch.has_grad_scale)
        factor *= batch.grad_scale;
    for (int64_t j = 0; j < batch.vocab; j++) {
        long double want = factor * slope(batch, row, token, j);
        long double got = outcome.gradient[(size_t)(token * batch.vocab + j)];
        sum += got;
        size += fabsl(got);
        if (batch.type == KERNEL_F16 && fabsl(want) >= 65520)
            want = copysignl(INFINITY, want);
        if (got == want)
            continue;
        long double one = ulp(batch.type, want);
        long double allowed = one;
        // What is subtracted has digits of its own.
        if (batch.shaped)
            allowed += (half ? 2e-6L : 0x1p-30L) * fabsl(factor) *
                       (fabsl(want / factor) + batch.shaping.smoothing + 1e-6L);
        if (half && fabsl(want) < 2e-38L) // flushed, as bfloat16 could not be
            allowed = 2e-38L;
        if (!(fabsl(got - want) <= allowed))
            CHECK(false,
                  "token %lld, logit %lld of %lld: gradient %Lg, not %Lg",
                  (long long)token, (long long)j, (long long)batch.vocab, got,
                  want);
        accuracy->worst_ulp =
            fmax(accuracy->worst_ulp, (double)(fabsl(got - want) / one));
        accuracy->exact += (float)got == element_round(batch.type, want);
        accuracy->elements++;
    }
    if (size > 0)
        accuracy->worst_sum = fmaxl(accuracy->worst_sum, fabsl(sum / size));
}

void batch_check(const struct batch &batch, const struct outcome &outcome,
                 struct accuracy *accuracy)
{
    struct accuracy own;
    struct numeric_record want = {};

    if (accuracy == NULL)
        accuracy = &own;
    CHECK(outcome.untouched, "something was written that is no output");
    for (int64_t i = 0; i < batch.tokens; i++) {
        int64_t label = batch.labels[(size_t)i];
        double weight = batch.weights.empty() ? 1 : (double)batch.weights[i];
        int64_t q;
        bool counts = label != batch.ignore_index;
        if (counts && (label < 0 || label >= batch.vocab ||
                       !numeric_encode(weight, &q))) {
            want.bad_labels++;
            counts = false;
        }
        if (!counts) {
            CHECK(outcome.nll[i] == 0, "token %lld: nll is not 0",
                  (long long)i);
            for (int64_t j = 0; !outcome.bits.empty() && j < batch.vocab; j++)
                CHECK(outcome.bits[i * batch.vocab + j] == 0,
                      "token %lld: the gradient is not 0", (long long)i);
            continue;
        }
        want.count++;
        numeric_lanes_add(&want.weight_hi, &want.weight_lo, q);
        struct reference row = reference_row(batch, i);
        long double nll = outcome.nll[i];
        long double allowed =
            (batch.shaped ? 1e-5L : 2e-6L) + 0x1p-22L * fabsl(row.loss);
        CHECK(fabsl(nll - row.loss) <= allowed,
              "token %lld of %lld logits: nll %.9Lg, not %.9Lg", (long long)i,
              (long long)batch.vocab, nll, row.loss);
        accuracy->worst_loss =
            fmaxl(accuracy->worst_loss, fabsl(nll - row.loss) / allowed);
        if (numeric_encode(weight * (double)nll, &q))
            numeric_lanes_add(&want.loss_hi, &want.loss_lo, q);
        else
            want.nonfinite++;
        if (!outcome.bits.empty())
            check_row(batch, outcome, i, row, accuracy);
        if (test_has_failed())
            return;
    }
    CHECK(memcmp(&want, &outcome.record, sizeof(want)) == 0,
          "the record is not that of its tokens: count %lld of %lld, bad %lld "
          "of %lld, nonfinite %lld of %lld",
          (long long)outcome.record.count, (long long)want.count,
          (long long)outcome.record.bad_labels, (long long)want.bad_labels,
          (long long)outcome.record.nonfinite, (long long)want.nonfinite);
}

// SPDX-License-Identifier: BSD-3-Clause
// One micro-batch for a device's loss; see loss_case.h.
#include "harness/loss_case.h"

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/random.h"

__extension__ typedef _Float16 binary16;

// The compiler's conversions, to be independent of those that are tested.
static void element_store(tally_dtype_t type, char *at, float x)
{
    uint32_t bits;
    uint16_t half;
    binary16 f16;

    if (type == TALLY_F32) {
        memcpy(at, &x, sizeof(x));
    } else if (type == TALLY_F16) {
        f16 = (binary16)x;
        memcpy(at, &f16, sizeof(f16));
    } else { // truncated: a test's numbers may be any
        memcpy(&bits, &x, sizeof(bits));
        half = (uint16_t)(bits >> 16);
        memcpy(at, &half, sizeof(half));
    }
}

static float element_load(tally_dtype_t type, const char *at)
{
    uint32_t bits;
    uint16_t half;
    binary16 f16;
    float x;

    if (type == TALLY_F32) {
        memcpy(&x, at, sizeof(x));
        return x;
    }
    if (type == TALLY_F16) {
        memcpy(&f16, at, sizeof(f16));
        return (float)f16;
    }
    memcpy(&half, at, sizeof(half));
    bits = (uint32_t)half << 16;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static char *room(int64_t bytes)
{
    char *memory = malloc((size_t)bytes + 1);

    ck_assert_ptr_nonnull(memory);
    memset(memory, LOSS_CASE_CANARY, (size_t)bytes);
    return memory;
}

void loss_case_label(struct loss_case *loss, int64_t token, int64_t label)
{
    if (loss->job.labels.type == TALLY_I64)
        ((int64_t *)loss->labels)[token] = label;
    else
        ((int32_t *)loss->labels)[token] = (int32_t)label;
}

int64_t loss_case_label_at(const struct loss_case *loss, int64_t token)
{
    return loss->job.labels.type == TALLY_I64
               ? ((const int64_t *)loss->labels)[token]
               : ((const int32_t *)loss->labels)[token];
}

static int64_t offset(const struct loss_case *loss, int64_t token, int64_t j)
{
    return (token * loss->job.logits_stride + j) * loss->element_bytes;
}

void loss_case_logit(struct loss_case *loss, int64_t token, int64_t j, float x)
{
    element_store(loss->job.type, loss->logits + offset(loss, token, j), x);
}

float loss_case_logit_at(const struct loss_case *loss, int64_t token, int64_t j)
{
    return element_load(loss->job.type, loss->kept + offset(loss, token, j));
}

float loss_case_gradient_at(const struct loss_case *loss, int64_t token,
                            int64_t j)
{
    const char *gradient = loss->job.gradient;

    return element_load(loss->job.type,
                        gradient + (token * loss->job.gradient_stride + j) *
                                       loss->element_bytes);
}

struct loss_case *loss_case_create_strided(int64_t vocab, int64_t tokens,
                                           int64_t stride, tally_dtype_t type,
                                           tally_dtype_t labels, uint64_t seed)
{
    struct loss_case *loss = calloc(1, sizeof(*loss));
    struct random random = random_seeded(seed);

    ck_assert_ptr_nonnull(loss);
    loss->element_bytes = type == TALLY_F32 ? 4 : 2;
    loss->bytes = tokens * stride * loss->element_bytes;
    loss->labels = room(tokens * 8);
    loss->weights = (float *)(void *)room(tokens * 4);
    loss->nll = (float *)(void *)room(tokens * 4);
    loss->logits = room(loss->bytes);
    loss->gradient = room(loss->bytes);
    loss->kept = room(loss->bytes);
    loss->scale = 1;
    loss->grad_scale = 1;
    loss->job = (struct device_loss){
        .labels = {.values = loss->labels,
                   .type = labels,
                   .tokens = tokens,
                   .vocab = vocab,
                   .ignore_index = LOSS_CASE_IGNORE},
        .columns = {.width = vocab},
        .logits = loss->logits,
        .type = type,
        .logits_stride = stride,
        .gradient = loss->gradient,
        .gradient_stride = stride,
        .nll = loss->nll,
    };
    for (int64_t i = 0; i < tokens; i++) {
        loss->weights[i] = 1;
        loss_case_label(loss, i,
                        (int64_t)(random_next(&random) % (uint64_t)vocab));
        for (int64_t j = 0; j < stride; j++) {
            float x = (float)(random_next(&random) >> 40) * 0x1p-20f - 8;
            loss_case_logit(loss, i, j, j < vocab ? x : NAN);
        }
    }
    return loss;
}

struct loss_case *loss_case_create(int64_t vocab, int64_t tokens,
                                   tally_dtype_t type, tally_dtype_t labels,
                                   uint64_t seed)
{
    return loss_case_create_strided(vocab, tokens, vocab, type, labels, seed);
}

void loss_case_free(struct loss_case *loss)
{
    free(loss->labels);
    free(loss->weights);
    free(loss->nll);
    free(loss->logits);
    free(loss->gradient);
    free(loss->kept);
    free(loss);
}

struct device *loss_case_device(int32_t threads, const char *isa)
{
    struct device_params params = {.threads = threads, .isa = isa};
    struct device *device = NULL;
    tally_status_t status = device_host_ops.open(&params, &device);

    ck_assert(status == TALLY_OK || status == TALLY_ERR_CONFIG);
    return device;
}

void loss_case_run(struct loss_case *loss, int32_t threads, const char *isa)
{
    struct device *device = loss_case_device(threads, isa);

    ck_assert_ptr_nonnull(device);
    memcpy(loss->kept, loss->logits, (size_t)loss->bytes);
    memset(&loss->record, 0, sizeof(loss->record));
    ck_assert_int_eq(
        device_host_ops.loss(device, &loss->job, &loss->record, NULL),
        TALLY_OK);
    device_host_ops.close(device);
}

// ------------------------------------------------------------------ reference

struct reference {
    long double maximum, others, own; // exp(y - maximum)
    long double lse, nll, mean;
    long double farthest; // of y from 0; 0 without a shaping
};

static long double shape(const struct loss_case *loss, int64_t token, int64_t j)
{
    const struct kernel_shaping *by = loss->job.shaping;
    long double y = loss_case_logit_at(loss, token, j);

    if (by == NULL)
        return y;
    if (by->cap > 0 && y > -INFINITY)
        y = by->cap * tanhl(y / by->cap);
    return y * by->temperature_inverse;
}

static long double shape_slope(const struct loss_case *loss, int64_t token,
                               int64_t j)
{
    const struct kernel_shaping *by = loss->job.shaping;
    long double c = 1;

    if (by == NULL)
        return 1;
    if (by->cap > 0)
        c = coshl((long double)loss_case_logit_at(loss, token, j) / by->cap);
    return by->temperature_inverse / (c * c);
}

static struct reference reference_row(const struct loss_case *loss,
                                      int64_t token, int64_t label)
{
    struct reference row = {.maximum = -INFINITY};

    for (int64_t j = 0; j < loss->job.labels.vocab; j++)
        row.maximum = fmaxl(row.maximum, shape(loss, token, j));
    for (int64_t j = 0; j < loss->job.labels.vocab; j++) {
        long double y = shape(loss, token, j);
        long double e = expl(y - row.maximum);
        row.mean += y / (long double)loss->job.labels.vocab;
        if (loss->job.shaping != NULL && isfinite(y))
            row.farthest = fmaxl(row.farthest, fabsl(y));
        if (j == label)
            row.own = e;
        else
            row.others += e;
    }
    row.nll = row.own == 1 ? log1pl(row.others)
                           : logl(row.own + row.others) - logl(row.own);
    row.lse = row.maximum + logl(row.own + row.others);
    return row;
}

// What the channel's loss makes of it.
static long double reference_loss(const struct loss_case *loss,
                                  const struct reference *row)
{
    const struct kernel_shaping *by = loss->job.shaping;

    if (by == NULL)
        return row->nll;
    long double nll = row->nll;
    if (by->smoothing > 0) // the mean may be infinite
        nll = (1 - (long double)by->smoothing) * nll +
              by->smoothing * (row->lse - row->mean);
    return nll + by->z_loss * row->lse * row->lse;
}

// d loss / d x_j, and how much was subtracted in it.
static long double reference_slope(const struct loss_case *loss,
                                   const struct reference *row, int64_t token,
                                   int64_t j, bool own, long double *size)
{
    const struct kernel_shaping *by = loss->job.shaping;
    long double total = row->others + row->own;
    long double p = expl(shape(loss, token, j) - row->maximum) / total;
    long double slope = shape_slope(loss, token, j);

    *size = 0;
    if (by == NULL)
        return own ? -row->others / total : p;
    long double smoothing = by->smoothing;
    long double z = 2 * (long double)by->z_loss * row->lse;
    long double evenly = smoothing / (long double)loss->job.labels.vocab;
    *size = (p * (1 + fabsl(z)) + evenly +
             (own ? row->others / total + smoothing : 0)) *
            slope;
    if (own)
        return (p * z - row->others / total + smoothing - evenly) * slope;
    return (p * (1 + z) - evenly) * slope;
}

static void check_gradient(const struct loss_case *loss, int64_t token,
                           int64_t label, const struct reference *row)
{
    const struct device_loss *job = &loss->job;
    // Half a unit in the last place, and absolute where numbers are denormal.
    long double half = job->type == TALLY_F32    ? 4e-7L
                       : job->type == TALLY_BF16 ? 0x1p-8L
                                                 : 0x1p-11L;
    long double absolute = job->type == TALLY_F16 ? 0x1.01p-25L : 1e-37L;
    long double factor =
        job->labels.weights != NULL ? job->labels.weights[token] : 1;

    if (job->shaping != NULL) // an exponential of the slope may be 0
        absolute *= fmaxl(1, job->shaping->temperature_inverse);
    if (job->scale != NULL)
        factor *= *job->scale;
    if (job->grad_scale != NULL)
        factor *= *job->grad_scale;
    for (int64_t j = 0; j < job->labels.vocab; j++) {
        long double y = shape(loss, token, j);
        long double size;
        long double want =
            factor * reference_slope(loss, row, token, j, j == label, &size);
        long double got = loss_case_gradient_at(loss, token, j);
        // A distance is rounded, and so are its multiples.
        long double relative =
            half + 2e-7L + 1.2e-7L * fminl(row->maximum - y, 100);
        // Under a shaping y is rounded, too, and what is subtracted.
        long double lost =
            (5e-7L + 4e-7L * row->farthest) * fabsl(factor) * size;
        if (job->type == TALLY_F16 && fabsl(want) > 65520)
            want = copysignl(INFINITY, want);
        if (got == want)
            continue;
        // Check writes down every assertion that holds: too slow for each.
        if (!(fabsl(got - want) <= relative * fabsl(want) + lost + absolute))
            ck_abort_msg("token %lld of %lld, logit %lld of %lld: gradient "
                         "%Lg, not %Lg",
                         (long long)token, (long long)job->labels.tokens,
                         (long long)j, (long long)job->labels.vocab, got, want);
    }
}

static void check_skipped(const struct loss_case *loss, int64_t token)
{
    if (loss->job.nll != NULL)
        ck_assert(loss->job.nll[token] == 0);
    for (int64_t j = 0;
         loss->job.gradient != NULL && j < loss->job.labels.vocab; j++)
        if (loss_case_gradient_at(loss, token, j) != 0)
            ck_abort_msg("the gradient of token %lld is not 0",
                         (long long)token);
}

static void check_token(const struct loss_case *loss, int64_t token,
                        struct numeric_record *want)
{
    const struct device_loss *job = &loss->job;
    int64_t label = loss_case_label_at(loss, token);
    double weight =
        job->labels.weights != NULL ? (double)job->labels.weights[token] : 1;
    int64_t q;

    if (label == job->labels.ignore_index) {
        check_skipped(loss, token);
        return;
    }
    if (label < 0 || label >= job->labels.vocab ||
        !numeric_encode(weight, &q)) {
        check_skipped(loss, token);
        want->bad_labels++;
        return;
    }
    want->count++;
    numeric_lanes_add(&want->weight_hi, &want->weight_lo, q);
    struct reference row = reference_row(loss, token, label);
    double nll = (double)job->nll[token];
    long double wanted = reference_loss(loss, &row);
    ck_assert_msg(fabsl((long double)nll - wanted) <=
                      1e-6L * fmaxl(1, wanted) + 4e-7L * row.farthest,
                  "token %lld of %lld with %lld logits: nll %.9g, not %.9Lg",
                  (long long)token, (long long)job->labels.tokens,
                  (long long)job->labels.vocab, nll, wanted);
    if (numeric_encode(weight * nll, &q))
        numeric_lanes_add(&want->loss_hi, &want->loss_lo, q);
    else
        want->nonfinite++;
    if (job->gradient != NULL)
        check_gradient(loss, token, label, &row);
}

void loss_case_check(const struct loss_case *loss)
{
    struct numeric_record want = {0};

    for (int64_t i = 0; i < loss->job.labels.tokens; i++)
        check_token(loss, i, &want);
    ck_assert_mem_eq(&loss->record, &want, sizeof(want));
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of the host device's numbers: nll and gradient against long double, and
// what is not finite. Which tokens count is in test_device_labels.c.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/host_element.h"
#include "harness/loss_case.h"
#include "harness/random.h"
#include "numeric/exp.h"
#include "numeric/log.h"

static const int64_t vocabs[] = {1, 7, 8, 31, 257, 32000, 128256};
static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
static const tally_dtype_t label_types[] = {TALLY_I32, TALLY_I64};

#define VOCABS ((int)(sizeof(vocabs) / sizeof(vocabs[0])))
#define TYPES 3
#define LABEL_TYPES 2

static const char *const isas[] = {"generic", "avx2", "avx512"};
#define ISAS 3

static struct loss_case *case_of(int i, int64_t vocab, int64_t tokens)
{
    return loss_case_create(vocab, tokens, types[i % TYPES],
                            label_types[i / TYPES % LABEL_TYPES], (uint64_t)i);
}

START_TEST(losses_and_gradients_are_those_of_long_double)
{
    int64_t vocab = vocabs[_i / (TYPES * LABEL_TYPES)];
    struct loss_case *loss = case_of(_i, vocab, vocab > 1000 ? 2 : 20);

    loss_case_run(loss, 2, "auto");
    loss_case_check(loss);
    ck_assert_int_eq(loss->record.count, loss->job.labels.tokens);
    ck_assert_mem_eq(loss->logits, loss->kept, (size_t)loss->bytes);
    loss_case_free(loss);
}
END_TEST

START_TEST(every_length_up_to_three_blocks_is_right_on_every_kernel)
{
    for (int k = 0; k < ISAS; k++) {
        struct device *device = loss_case_device(1, isas[k]);
        if (device == NULL)
            continue;
        device_host_ops.close(device);
        for (int64_t vocab = 1; vocab < 200; vocab++) {
            struct loss_case *loss = case_of(_i, vocab, 3);
            loss_case_label(loss, 0, 0);
            loss_case_label(loss, 1, vocab - 1);
            loss_case_run(loss, 1, isas[k]);
            loss_case_check(loss);
            loss_case_free(loss);
        }
    }
}
END_TEST

START_TEST(a_maximum_that_grows_along_the_row_is_followed)
{
    struct loss_case *loss = case_of(_i, 10000, 3);

    for (int64_t j = 0; j < 10000; j++) {
        loss_case_logit(loss, 0, j, (float)j * 0.01f - 50);
        loss_case_logit(loss, 1, j, 50 - (float)j * 0.01f);
        loss_case_logit(loss, 2, j, -100 + (float)(j / 2048) * 0.5f);
    }
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_gradient_in_place_is_the_one_beside)
{
    int64_t vocab = vocabs[_i / (TYPES * LABEL_TYPES)];
    struct loss_case *beside = case_of(_i, vocab, 3);
    struct loss_case *in_place = case_of(_i, vocab, 3);

    loss_case_label(beside, 1, LOSS_CASE_IGNORE);
    loss_case_label(in_place, 1, LOSS_CASE_IGNORE);
    in_place->job.gradient = in_place->logits;
    loss_case_run(beside, 1, "auto");
    loss_case_run(in_place, 2, "auto");
    ck_assert_mem_eq(beside->gradient, in_place->logits, (size_t)beside->bytes);
    ck_assert_mem_eq(beside->nll, in_place->nll, 3 * sizeof(float));
    ck_assert_mem_eq(&beside->record, &in_place->record,
                     sizeof(beside->record));
    loss_case_free(beside);
    loss_case_free(in_place);
}
END_TEST

START_TEST(weight_scale_and_grad_scale_multiply_the_gradient)
{
    struct loss_case *loss = case_of(_i, 257, 4);

    loss->weights[0] = 0.25f;
    loss->weights[1] = -3;
    loss->weights[2] = 0;
    loss->job.labels.weights = loss->weights;
    loss->scale = 0.125f;
    loss->job.scale = &loss->scale;
    loss->grad_scale = 1024;
    loss->job.grad_scale = &loss->grad_scale;
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    loss_case_free(loss);
}
END_TEST

START_TEST(outputs_that_are_not_wanted_are_left_out)
{
    struct loss_case *loss = case_of(_i, 257, 5);
    struct numeric_record with_all;

    loss_case_run(loss, 1, "auto");
    with_all = loss->record;
    memset(loss->gradient, LOSS_CASE_CANARY, (size_t)loss->bytes);
    loss->job.gradient = NULL;
    loss->job.nll = NULL;
    loss_case_run(loss, 1, "auto");
    ck_assert_mem_eq(&loss->record, &with_all, sizeof(with_all));
    for (int64_t i = 0; i < loss->bytes; i++)
        if (loss->gradient[i] != LOSS_CASE_CANARY)
            ck_abort_msg("byte %lld was written", (long long)i);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_scale_of_nan_poisons_the_gradient_but_not_the_loss)
{
    struct loss_case *loss = case_of(_i, 31, 2);

    loss_case_label(loss, 1, LOSS_CASE_IGNORE);
    loss->scale = NAN;
    loss->job.scale = &loss->scale;
    loss_case_run(loss, 1, "auto");
    for (int64_t j = 0; j < 31; j++) {
        ck_assert_float_nan(loss_case_gradient_at(loss, 0, j));
        ck_assert(loss_case_gradient_at(loss, 1, j) == 0);
    }
    ck_assert_float_finite(loss->nll[0]);
    ck_assert_int_eq(loss->record.nonfinite, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_record_is_added_to)
{
    struct loss_case *loss = case_of(_i, 31, 4);
    struct device *device = loss_case_device(2, "auto");
    struct numeric_record record;

    loss_case_run(loss, 1, "auto");
    record = loss->record;
    ck_assert_int_eq(device_host_ops.loss(device, &loss->job, &record, NULL),
                     TALLY_OK);
    ck_assert_int_eq(record.count, 8);
    ck_assert_int_eq(record.weight_hi, 8 * NUMERIC_ONE_HI);
    numeric_record_add(&loss->record, &loss->record);
    ck_assert_mem_eq(&record, &loss->record, sizeof(record));
    device_host_ops.close(device);
    loss_case_free(loss);
}
END_TEST

// ------------------------------------------------------------------- accuracy

START_TEST(a_sure_target_keeps_the_digits_of_what_is_left)
{
    // p - 1 in float32 would be 0 or wrong in the first digit.
    struct loss_case *loss = loss_case_create(8, 3, TALLY_F32, TALLY_I32, 1);

    for (int64_t i = 0; i < 3; i++) {
        for (int64_t j = 0; j < 8; j++)
            loss_case_logit(loss, i, j, 0);
        loss_case_label(loss, i, 5);
        loss_case_logit(loss, i, 5, 10 + 10 * (float)i);
    }
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    for (int64_t i = 0; i < 3; i++) {
        double rest = 7 * exp(-10 - 10 * (double)i);
        double want = -rest / (1 + rest);
        double got = (double)loss_case_gradient_at(loss, i, 5);
        ck_assert_double_le(fabs(got / want - 1), 1e-6);
        ck_assert_double_le(fabs((double)loss->nll[i] / log1p(rest) - 1), 1e-6);
    }
    loss_case_free(loss);
}
END_TEST

START_TEST(the_gradient_is_the_slope_of_the_loss)
{
    const float step = 0.0078125f;
    struct loss_case *loss = loss_case_create(31, 1, TALLY_F32, TALLY_I64, 5);
    float before[31];

    loss_case_run(loss, 1, "auto");
    for (int64_t j = 0; j < 31; j++)
        before[j] = loss_case_gradient_at(loss, 0, j);
    for (int64_t j = 0; j < 31; j++) {
        float x = loss_case_logit_at(loss, 0, j);
        loss_case_logit(loss, 0, j, x + step);
        loss_case_run(loss, 1, "auto");
        double above = (double)loss->nll[0];
        loss_case_logit(loss, 0, j, x - step);
        loss_case_run(loss, 1, "auto");
        double slope = (above - (double)loss->nll[0]) / (2 * (double)step);
        ck_assert_double_le(fabs(slope - (double)before[j]), 1e-4);
        loss_case_logit(loss, 0, j, x);
    }
    loss_case_free(loss);
}
END_TEST

START_TEST(equal_logits_lose_the_logarithm_of_v)
{
    for (int k = 0; k < VOCABS; k++) {
        const float values[] = {0, -1e4f, 60000, -0.731f};
        for (int v = 0; v < 4; v++) {
            struct loss_case *loss = case_of(_i, vocabs[k], 1);
            for (int64_t j = 0; j < vocabs[k]; j++)
                loss_case_logit(loss, 0, j, values[v]);
            loss_case_run(loss, 1, "auto");
            ck_assert(loss->nll[0] == (float)log((double)vocabs[k]));
            ck_assert_int_eq(loss->record.nonfinite, 0);
            loss_case_free(loss);
        }
    }
}
END_TEST

START_TEST(the_exponential_is_within_its_bound)
{
    // Of pairs: nll of the label on top is log1p(exp(-d)).
    struct random random = random_seeded(9);

    for (int i = 0; i < 2000; i++) {
        struct loss_case *loss =
            loss_case_create(2, 1, types[i % TYPES], TALLY_I32, 1);
        loss_case_logit(loss, 0, 0, 0);
        loss_case_logit(loss, 0, 1, -(float)random_below(&random, 8000) / 100);
        loss_case_label(loss, 0, 0);
        loss_case_run(loss, 1, isas[0]);
        double d = (double)loss_case_logit_at(loss, 0, 1);
        double want = log1p(exp(d));
        double bound =
            types[i % TYPES] == TALLY_F32 ? 1.8e-7 : 1.8e-7 + fabs(d) * 1.2e-7;
        ck_assert_double_le(fabs((double)loss->nll[0] / want - 1), bound);
        loss_case_free(loss);
    }
}
END_TEST

// ----------------------------------------------------------------- not finite

START_TEST(a_nan_anywhere_makes_the_row_nan)
{
    const float nans[] = {NAN, -NAN};

    for (int64_t at = 0; at < 130; at += 3) {
        struct loss_case *loss = case_of(_i, 131, 2);
        loss_case_label(loss, 0, 1);
        loss_case_logit(loss, 0, at % 131, nans[at % 2]);
        loss->weights[0] = 2;
        loss->job.labels.weights = loss->weights;
        loss_case_run(loss, 1, "auto");
        ck_assert_float_nan(loss->nll[0]);
        ck_assert_float_finite(loss->nll[1]);
        for (int64_t j = 0; j < 131; j++)
            ck_assert_float_nan(loss_case_gradient_at(loss, 0, j));
        ck_assert_int_eq(loss->record.nonfinite, 1);
        ck_assert_int_eq(loss->record.count, 2);
        ck_assert_int_eq(loss->record.weight_hi, 3 * NUMERIC_ONE_HI);
        loss_case_free(loss);
    }
}
END_TEST

START_TEST(plus_infinity_makes_the_row_nan)
{
    for (int64_t at = 0; at < 3; at++) {
        struct loss_case *loss = case_of(_i, 5000, 1);
        loss_case_label(loss, 0, 2500);
        loss_case_logit(loss, 0, at * 2500 - (at == 2), INFINITY);
        loss_case_run(loss, 1, "auto");
        ck_assert_float_nan(loss->nll[0]);
        ck_assert_int_eq(loss->record.nonfinite, 1);
        ck_assert_int_eq(loss->record.loss_hi, 0);
        loss_case_free(loss);
    }
}
END_TEST

START_TEST(minus_infinity_has_no_probability)
{
    struct loss_case *loss = case_of(_i, 5000, 1);

    // More than the first chunk, where no number is yet.
    for (int64_t j = 0; j < 3000; j++)
        loss_case_logit(loss, 0, j, -INFINITY);
    loss_case_label(loss, 0, 4000);
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    for (int64_t j = 0; j < 3000; j++)
        ck_assert(loss_case_gradient_at(loss, 0, j) == 0);
    ck_assert_int_eq(loss->record.nonfinite, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_label_at_minus_infinity_has_an_infinite_loss)
{
    struct loss_case *loss = case_of(_i, 100, 1);

    loss_case_label(loss, 0, 7);
    loss_case_logit(loss, 0, 7, -INFINITY);
    loss_case_run(loss, 1, "auto");
    ck_assert_float_infinite(loss->nll[0]);
    ck_assert(loss->nll[0] > 0);
    ck_assert_int_eq(loss->record.nonfinite, 1);
    ck_assert_int_eq(loss->record.count, 1);
    ck_assert(loss_case_gradient_at(loss, 0, 7) == -1);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_row_of_minus_infinity_is_nan)
{
    struct loss_case *loss = case_of(_i, 100, 1);

    for (int64_t j = 0; j < 100; j++)
        loss_case_logit(loss, 0, j, -INFINITY);
    loss_case_run(loss, 1, "auto");
    ck_assert_float_nan(loss->nll[0]);
    ck_assert_int_eq(loss->record.nonfinite, 1);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_loss_of_2_to_the_22_is_not_a_number_that_counts)
{
    struct loss_case *loss = loss_case_create(2, 2, TALLY_F32, TALLY_I32, 1);

    for (int64_t i = 0; i < 2; i++) {
        loss_case_label(loss, i, 1);
        loss_case_logit(loss, i, 0, 0);
    }
    loss_case_logit(loss, 0, 1, -4194304);
    loss_case_logit(loss, 1, 1, -4194303);
    loss_case_run(loss, 1, "auto");
    ck_assert_int_eq(loss->record.nonfinite, 1);
    ck_assert_int_eq(loss->record.loss_hi, 4194303 * NUMERIC_ONE_HI);
    ck_assert_int_eq(loss->record.count, 2);
    loss_case_free(loss);
}
END_TEST

// ---------------------------------------------------------------- the numbers

__extension__ typedef _Float16 binary16;

START_TEST(binary16_is_converted_as_the_compiler_does)
{
    struct random random = random_seeded(3);

    for (uint32_t i = 0; i < 0x10000; i++) {
        uint16_t bits = (uint16_t)i;
        binary16 half;
        memcpy(&half, &bits, sizeof(half));
        float wide = host_float_of_f16(bits);
        if (wide != (float)half && !(wide != wide && half != half))
            ck_abort_msg("%04x is not %g", i, (double)wide);
        if (wide == wide && host_f16_of_float(wide) != bits)
            ck_abort_msg("%g is %04x", (double)wide, i);
    }
    for (int i = 0; i < 1000000; i++) {
        // All exponents that matter, and often a tie or just beside it.
        uint32_t bits = (uint32_t)random_next(&random);
        bits = (bits & 0x807fffff) | (100 + random_below(&random, 45)) << 23;
        if (i % 2 == 0)
            bits = (bits & ~0x1fffu) + 0xfff + random_below(&random, 3);
        float x = host_float_of_bits(bits);
        binary16 half = (binary16)x;
        uint16_t want;
        memcpy(&want, &half, sizeof(want));
        if (host_f16_of_float(x) != want)
            ck_abort_msg("%a is %04x, not %04x", (double)x, want,
                         host_f16_of_float(x));
    }
}
END_TEST

START_TEST(bfloat16_rounds_to_even)
{
    ck_assert_uint_eq(host_bf16_of_float(1), 0x3f80);
    ck_assert_uint_eq(host_bf16_of_float(0x1.01p0f), 0x3f80);
    ck_assert_uint_eq(host_bf16_of_float(0x1.010002p0f), 0x3f81);
    ck_assert_uint_eq(host_bf16_of_float(0x1.03p0f), 0x3f82);
    ck_assert_uint_eq(host_bf16_of_float(0x1.fffffep127f), 0x7f80);
    ck_assert_uint_eq(host_bf16_of_float(-INFINITY), 0xff80);
    ck_assert_uint_eq(host_bf16_of_float(0x1p-149f), 0);
    ck_assert_uint_eq(host_bf16_of_float(0x1.8p-133f), 0x0002);
    ck_assert_uint_eq(host_bf16_of_float(-NAN), 0x7fc0);
}
END_TEST

START_TEST(our_exponential_and_logarithm_are_those_of_libm)
{
    struct random random = random_seeded(4);

    for (int i = 0; i < 20000; i++) {
        double u = (double)(random_next(&random) >> 11) * 0x1p-53;
        double x = -700 * u * u * u;
        ck_assert_double_le(fabs(numeric_exp(x) / exp(x) - 1), 5e-16);
        double y = exp(30 * u - 12);
        ck_assert_double_le(fabs(numeric_log1p(y) / log1p(y) - 1), 9e-16);
        ck_assert_double_le(fabs(numeric_log(y) - log(y)),
                            4e-16 * fmax(fabs(log(y)), 1));
    }
    ck_assert(numeric_exp(0) == 1);
    ck_assert(numeric_exp(-INFINITY) == 0);
    ck_assert_double_nan(numeric_exp(NAN));
    ck_assert(numeric_log(1) == 0);
    ck_assert(numeric_log1p(0) == 0);
    ck_assert_double_nan(numeric_log(NAN));
    ck_assert_double_nan(numeric_log1p(NAN));
}
END_TEST

int main(void)
{
    const int all = TYPES * LABEL_TYPES;
    Suite *suite = suite_create("device loss");
    TCase *values = tcase_create("values");
    TCase *accuracy = tcase_create("accuracy");
    TCase *odd = tcase_create("not finite");
    TCase *numbers = tcase_create("numbers");

    tcase_set_timeout(values, 60);
    tcase_add_loop_test(values, losses_and_gradients_are_those_of_long_double,
                        0, VOCABS * all);
    tcase_add_loop_test(
        values, every_length_up_to_three_blocks_is_right_on_every_kernel, 0,
        TYPES);
    tcase_add_loop_test(values, a_maximum_that_grows_along_the_row_is_followed,
                        0, TYPES);
    tcase_add_loop_test(values, a_gradient_in_place_is_the_one_beside, 0,
                        VOCABS * all);
    tcase_add_loop_test(
        values, weight_scale_and_grad_scale_multiply_the_gradient, 0, all);
    tcase_add_loop_test(values, outputs_that_are_not_wanted_are_left_out, 0,
                        all);
    tcase_add_loop_test(
        values, a_scale_of_nan_poisons_the_gradient_but_not_the_loss, 0, TYPES);
    tcase_add_test(values, a_record_is_added_to);
    suite_add_tcase(suite, values);
    tcase_add_test(accuracy, a_sure_target_keeps_the_digits_of_what_is_left);
    tcase_add_test(accuracy, the_gradient_is_the_slope_of_the_loss);
    tcase_add_loop_test(accuracy, equal_logits_lose_the_logarithm_of_v, 0,
                        TYPES);
    tcase_add_test(accuracy, the_exponential_is_within_its_bound);
    suite_add_tcase(suite, accuracy);
    tcase_add_loop_test(odd, a_nan_anywhere_makes_the_row_nan, 0, TYPES);
    tcase_add_loop_test(odd, plus_infinity_makes_the_row_nan, 0, TYPES);
    tcase_add_loop_test(odd, minus_infinity_has_no_probability, 0, TYPES);
    tcase_add_loop_test(odd, a_label_at_minus_infinity_has_an_infinite_loss, 0,
                        TYPES);
    tcase_add_loop_test(odd, a_row_of_minus_infinity_is_nan, 0, TYPES);
    tcase_add_test(odd, a_loss_of_2_to_the_22_is_not_a_number_that_counts);
    suite_add_tcase(suite, odd);
    tcase_add_test(numbers, binary16_is_converted_as_the_compiler_does);
    tcase_add_test(numbers, bfloat16_rounds_to_even);
    tcase_add_test(numbers, our_exponential_and_logarithm_are_those_of_libm);
    suite_add_tcase(suite, numbers);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

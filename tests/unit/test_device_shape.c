// SPDX-License-Identifier: BSD-3-Clause
// Tests of label smoothing, z-loss, soft-cap and temperature on the host
// device: loss and gradient against long double, and the same bits on all
// kernels.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/loss_case.h"

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
#define TYPES 3

// {temperature_inverse, cap, smoothing, z_loss}
static const struct kernel_shaping shapings[] = {
    {0.5f, 0, 0, 0},
    {1, 30, 0, 0},
    {1, 1.5f, 0, 0},
    {1, 0, 0.1f, 0},
    {1, 0, 0, 1e-4f},
    {1.25f, 20, 0.1f, 1e-3f},
    {0x1p-20f, 0x1p64f, 0.999f, 0},
    {0x1p20f, 0x1p-20f, 0, 1},
};
#define SHAPINGS ((int)(sizeof(shapings) / sizeof(shapings[0])))
#define ALL 5 // of them, that with all four

// One after the other: loss_case.c checks every element.
static const int64_t vocabs[] = {1,    2,    15,   16,   17,   64,   257,
                                 1023, 1024, 1025, 2064, 9001, 70000};
#define VOCABS ((int)(sizeof(vocabs) / sizeof(vocabs[0])))

static struct loss_case *case_of(int type, int64_t vocab, int64_t tokens,
                                 int shaping)
{
    struct loss_case *loss = loss_case_create(vocab, tokens, types[type],
                                              TALLY_I32, (uint64_t)shaping + 1);

    loss->job.shaping = &shapings[shaping];
    return loss;
}

static void assert_same(const struct loss_case *a, const struct loss_case *b)
{
    ck_assert_mem_eq(a->nll, b->nll,
                     (size_t)a->job.labels.tokens * sizeof(float));
    ck_assert_mem_eq(a->gradient, b->gradient, (size_t)a->bytes);
    ck_assert_mem_eq(&a->record, &b->record, sizeof(a->record));
}

START_TEST(every_shaping_is_that_of_long_double)
{
    for (int v = 0; v < VOCABS; v++)
        for (int type = 0; type < TYPES; type++) {
            struct loss_case *loss = case_of(type, vocabs[v], 3, _i);
            loss->weights[0] = 0.5f;
            loss->weights[2] = -2;
            loss->job.labels.weights = loss->weights;
            loss->scale = 0.125f;
            loss->job.scale = &loss->scale;
            loss->grad_scale = 16;
            loss->job.grad_scale = &loss->grad_scale;
            loss_case_label(loss, 1, vocabs[v] - 1);
            loss_case_logit(loss, 1, vocabs[v] - 1, 14); // sure
            loss_case_run(loss, 1, "auto");
            loss_case_check(loss);
            loss_case_free(loss);
        }
}
END_TEST

START_TEST(logits_of_any_size_are_capped)
{
    const float sizes[] = {0,     0x1p-140f, 1e-20f, 0.01f, 11.9f,
                           12.1f, 29,        90,     6e4f,  INFINITY};

    for (int k = 0; k < 10; k++) {
        struct loss_case *loss = case_of(0, 1500, 2, 1);
        loss_case_label(loss, 0, 7);
        loss_case_logit(loss, 0, 7, -fminf(sizes[k], 6e4f));
        loss_case_logit(loss, 0, 1400, sizes[k]);
        loss_case_label(loss, 1, 1400);
        loss_case_logit(loss, 1, 1400, sizes[k]);
        loss_case_run(loss, 1, "auto");
        loss_case_check(loss);
        ck_assert_int_eq(loss->record.nonfinite, 0);
        loss_case_free(loss);
    }
}
END_TEST

START_TEST(under_a_cap_minus_infinity_has_no_probability)
{
    for (int type = 0; type < TYPES; type++) {
        struct loss_case *loss = case_of(type, 3000, 2, 2);
        loss_case_label(loss, 0, 2001);
        for (int64_t j = 0; j < 3000; j += 2)
            loss_case_logit(loss, 0, j, -INFINITY);
        loss_case_run(loss, 1, "auto");
        loss_case_check(loss);
        for (int64_t j = 0; j < 3000; j += 2)
            ck_assert(loss_case_gradient_at(loss, 0, j) == 0);
        loss_case_free(loss);
    }
}
END_TEST

START_TEST(what_does_nothing_gives_the_loss_without_a_shaping)
{
    static const struct kernel_shaping nothing = {1, 0, 0, 0};

    for (int type = 0; type < TYPES; type++) {
        struct loss_case *plain = case_of(type, 3000, 4, 0);
        struct loss_case *shaped = case_of(type, 3000, 4, 0);
        plain->job.shaping = NULL;
        shaped->job.shaping = &nothing;
        loss_case_run(plain, 1, "auto");
        loss_case_run(shaped, 1, "auto");
        for (int64_t i = 0; i < 4; i++)
            ck_assert_double_le(fabs((double)(plain->nll[i] - shaped->nll[i])),
                                1e-6);
        loss_case_check(shaped);
        loss_case_free(plain);
        loss_case_free(shaped);
    }
}
END_TEST

START_TEST(all_kernels_give_the_same_bits_under_a_shaping)
{
    static const char *const wide[] = {"avx2", "avx512", "auto"};
    static const float odd[] = {-INFINITY, NAN,    INFINITY, 0x1p-140f,
                                -0.0f,     -1e30f, -86.9f,   60};

    for (int type = 0; type < TYPES; type++)
        for (int k = 0; k < 3; k++) {
            struct device *device = loss_case_device(1, wide[k]);
            if (device == NULL)
                continue;
            device_host_ops.close(device);
            struct loss_case *want = case_of(type, 2111, 9, _i);
            struct loss_case *got = case_of(type, 2111, 9, _i);
            for (int64_t i = 1; i < 9; i++) {
                loss_case_logit(want, i, i * 200, odd[i - 1]);
                loss_case_logit(got, i, i * 200, odd[i - 1]);
            }
            loss_case_run(want, 1, "generic");
            loss_case_run(got, 3, wide[k]);
            assert_same(got, want);
            loss_case_free(want);
            loss_case_free(got);
        }
}
END_TEST

START_TEST(a_shaped_gradient_in_place_is_the_one_beside)
{
    for (int type = 0; type < TYPES; type++) {
        struct loss_case *beside = case_of(type, 2064, 3, ALL);
        struct loss_case *in_place = case_of(type, 2064, 3, ALL);
        loss_case_label(beside, 1, LOSS_CASE_IGNORE);
        loss_case_label(in_place, 1, LOSS_CASE_IGNORE);
        in_place->job.gradient = in_place->logits;
        loss_case_run(beside, 1, "auto");
        loss_case_run(in_place, 1, "auto");
        ck_assert_mem_eq(beside->gradient, in_place->logits,
                         (size_t)beside->bytes);
        loss_case_check(beside);
        loss_case_free(beside);
        loss_case_free(in_place);
    }
}
END_TEST

START_TEST(nothing_beyond_a_shaped_row_is_read_or_written)
{
    for (int type = 0; type < TYPES; type++) {
        struct loss_case *loss =
            loss_case_create_strided(1030, 3, 1041, types[type], TALLY_I64, 4);
        loss->job.shaping = &shapings[ALL];
        loss_case_run(loss, 1, "auto");
        loss_case_check(loss);
        for (int64_t i = 0; i < 3; i++)
            for (int64_t b = 1030 * loss->element_bytes;
                 b < 1041 * loss->element_bytes; b++)
                ck_assert_int_eq(
                    loss->gradient[i * 1041 * loss->element_bytes + b],
                    LOSS_CASE_CANARY);
        loss_case_free(loss);
    }
}
END_TEST

START_TEST(nan_and_infinity_are_not_hidden_by_a_shaping)
{
    static const struct kernel_shaping smoothed = {1, 0, 0.1f, 0};
    struct loss_case *loss = case_of(_i, 3000, 4, ALL);

    loss_case_logit(loss, 0, 2999, NAN);
    loss_case_run(loss, 1, "auto");
    ck_assert_float_nan(loss->nll[0]);
    for (int64_t j = 0; j < 3000; j++)
        ck_assert_float_nan(loss_case_gradient_at(loss, 0, j));
    ck_assert_int_eq(loss->record.nonfinite, 1);
    // Without a cap: infinite logits, alone in the first piece, and a mean.
    loss->job.shaping = &shapings[0];
    for (int64_t j = 0; j < 1024; j++)
        loss_case_logit(loss, 1, j, -INFINITY);
    loss_case_logit(loss, 2, 5, INFINITY);
    loss_case_label(loss, 1, 2000);
    loss_case_run(loss, 1, "auto");
    ck_assert_float_finite(loss->nll[1]);
    ck_assert(loss_case_gradient_at(loss, 1, 3) == 0);
    ck_assert_float_nan(loss->nll[2]);
    loss->job.shaping = &smoothed;
    loss_case_run(loss, 1, "auto");
    ck_assert_float_infinite(loss->nll[1]);
    ck_assert_int_eq(loss->record.nonfinite, 3);
    loss_case_free(loss);
}
END_TEST

START_TEST(a_label_at_minus_infinity_keeps_its_z_loss_out)
{
    static const struct kernel_shaping z = {1, 0, 0, 1e-2f};
    struct loss_case *loss = case_of(_i, 100, 1, 0);

    loss->job.shaping = &z;
    loss_case_label(loss, 0, 7);
    loss_case_logit(loss, 0, 7, -INFINITY);
    loss_case_run(loss, 1, "auto");
    ck_assert_float_infinite(loss->nll[0]);
    ck_assert_int_eq(loss->record.nonfinite, 1);
    // The others' slopes are finite all the same.
    ck_assert_float_finite(loss_case_gradient_at(loss, 0, 8));
    ck_assert(loss_case_gradient_at(loss, 0, 7) == -1);
    loss_case_free(loss);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device shape");
    TCase *tests = tcase_create("shape");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_shaping_is_that_of_long_double, 0,
                        SHAPINGS);
    tcase_add_test(tests, logits_of_any_size_are_capped);
    tcase_add_test(tests, under_a_cap_minus_infinity_has_no_probability);
    tcase_add_test(tests, what_does_nothing_gives_the_loss_without_a_shaping);
    tcase_add_loop_test(tests, all_kernels_give_the_same_bits_under_a_shaping,
                        0, SHAPINGS);
    tcase_add_test(tests, a_shaped_gradient_in_place_is_the_one_beside);
    tcase_add_test(tests, nothing_beyond_a_shaped_row_is_read_or_written);
    tcase_add_loop_test(tests, nan_and_infinity_are_not_hidden_by_a_shaping, 0,
                        TYPES);
    tcase_add_loop_test(tests, a_label_at_minus_infinity_keeps_its_z_loss_out,
                        0, TYPES);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

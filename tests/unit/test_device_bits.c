// SPDX-License-Identifier: BSD-3-Clause
// Tests that a row's nll and gradient have the same bits on any kernels, any
// number of threads, at any address, anywhere in a batch and in any
// floating-point mode of the caller.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "harness/loss_case.h"
#include "harness/random.h"

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
static const char *const wide[] = {"avx2", "avx512", "auto"};

static void assert_same(const struct loss_case *a, const struct loss_case *b)
{
    int64_t tokens = a->job.labels.tokens;

    ck_assert_mem_eq(a->nll, b->nll, (size_t)tokens * sizeof(float));
    ck_assert_mem_eq(a->gradient, b->gradient, (size_t)a->bytes);
    ck_assert_mem_eq(&a->record, &b->record, sizeof(a->record));
}

// Rows with everything in them: numbers far apart, denormal ones, infinities,
// NaN; and factors that make gradients of half types denormal and infinite.
static struct loss_case *odd_case(tally_dtype_t type, int64_t vocab,
                                  uint64_t seed)
{
    struct loss_case *loss = loss_case_create(vocab, 12, type, TALLY_I32, seed);
    struct random random = random_seeded(seed);
    static const float odd[] = {-INFINITY, NAN,    INFINITY, 0x1p-140f, -0.0f,
                                -1e30f,    -70.0f, -86.9f,   -87.6f,    60};

    for (int64_t i = 0; i < 12; i++) {
        loss->weights[i] =
            ldexpf(1 + (float)i / 16, (int)random_below(&random, 36) - 18);
        for (int64_t j = 0; j < vocab; j++) {
            if (i % 4 == 1)
                loss_case_logit(loss, i, j,
                                -(float)random_below(&random, 9000) / 97);
            if (i % 4 == 2 && random_below(&random, 9) == 0)
                loss_case_logit(loss, i, j, odd[3 + random_below(&random, 7)]);
            if (i % 4 == 3 && random_below(&random, (uint32_t)vocab * 2) == 0)
                loss_case_logit(loss, i, j, odd[random_below(&random, 10)]);
        }
    }
    loss->job.labels.weights = loss->weights;
    loss->scale = type == TALLY_F16 ? 3.1f : 0.37f;
    loss->job.scale = &loss->scale;
    loss->grad_scale = 1.7f;
    loss->job.grad_scale = &loss->grad_scale;
    return loss;
}

START_TEST(all_kernels_give_the_same_bits)
{
    static const int64_t vocabs[] = {
        1,    2,    15,   16,   17,   63,   64,   65,   127,  128,   129,
        1000, 2047, 2048, 2049, 2111, 2112, 4097, 8191, 8193, 32000, 128256};
    const int64_t count = sizeof(vocabs) / sizeof(vocabs[0]);

    for (int64_t i = 0; i < count; i++) {
        struct loss_case *want = odd_case(types[_i], vocabs[i], (uint64_t)i);
        loss_case_run(want, 1, "generic");
        for (int k = 0; k < 3; k++) {
            struct device *device = loss_case_device(1, wide[k]);
            if (device == NULL)
                continue;
            device_host_ops.close(device);
            struct loss_case *got = odd_case(types[_i], vocabs[i], (uint64_t)i);
            loss_case_run(got, 1, wide[k]);
            assert_same(got, want);
            loss_case_free(got);
        }
        loss_case_free(want);
    }
}
END_TEST

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    static const int32_t threads[] = {2, 3, 8};
    struct loss_case *want =
        loss_case_create(9001, 50, types[_i], TALLY_I32, 1);

    loss_case_run(want, 1, "auto");
    for (int k = 0; k < 3; k++) {
        struct device *device = loss_case_device(threads[k], "auto");
        // Again and again: who gets which rows is a matter of chance.
        for (int round = 0; round < 10; round++) {
            struct loss_case *got =
                loss_case_create(9001, 50, types[_i], TALLY_I32, 1);
            ck_assert_int_eq(
                device_host_ops.loss(device, &got->job, &got->record, NULL),
                TALLY_OK);
            assert_same(got, want);
            loss_case_free(got);
        }
        device_host_ops.close(device);
    }
    loss_case_free(want);
}
END_TEST

START_TEST(small_and_large_calls_alternate_on_the_same_threads)
{
    struct device *device = loss_case_device(4, "auto");
    struct loss_case *large =
        loss_case_create(4000, 40, TALLY_BF16, TALLY_I32, 1);
    struct loss_case *small = loss_case_create(10, 3, TALLY_BF16, TALLY_I32, 2);

    loss_case_run(large, 1, "auto");
    loss_case_run(small, 1, "auto");
    for (int round = 0; round < 200; round++) {
        const struct loss_case *loss = round % 3 == 0 ? small : large;
        struct numeric_record record = {0};
        ck_assert_int_eq(
            device_host_ops.loss(device, &loss->job, &record, NULL), TALLY_OK);
        ck_assert_mem_eq(&record, &loss->record, sizeof(record));
    }
    device_host_ops.close(device);
    loss_case_free(large);
    loss_case_free(small);
}
END_TEST

START_TEST(a_row_is_the_same_anywhere_in_a_batch_and_at_any_address)
{
    const int64_t vocab = 3001;
    struct loss_case *batch = odd_case(types[_i], vocab, 5);

    loss_case_run(batch, 1, "auto");
    for (int64_t i = 0; i < batch->job.labels.tokens; i++) {
        struct loss_case *row =
            loss_case_create(vocab, 1, types[_i], TALLY_I64, 1);
        char *logits = malloc((size_t)row->bytes + 64);
        memcpy(logits + 5 * i, batch->logits + i * row->bytes,
               (size_t)row->bytes);
        loss_case_label(row, 0, loss_case_label_at(batch, i));
        row->job.logits = logits + 5 * i;
        row->job.labels.weights = batch->weights + i;
        row->job.scale = &batch->scale;
        row->job.grad_scale = &batch->grad_scale;
        loss_case_run(row, 1, "auto");
        ck_assert_mem_eq(&row->nll[0], &batch->nll[i], sizeof(float));
        ck_assert_mem_eq(row->gradient, batch->gradient + i * row->bytes,
                         (size_t)row->bytes);
        free(logits);
        loss_case_free(row);
    }
    loss_case_free(batch);
}
END_TEST

#if defined(__x86_64__)
#define FLUSH_AND_DENORMALS_ARE_ZERO 0x8040u
#define ROUND_UP 0x4000u
#define ALL_EXCEPTIONS_RAISE 0x1f80u

START_TEST(the_callers_floating_point_mode_changes_nothing_and_stays)
{
    const unsigned before = _mm_getcsr();
    const unsigned modes[] = {
        before | FLUSH_AND_DENORMALS_ARE_ZERO,
        before | ROUND_UP | FLUSH_AND_DENORMALS_ARE_ZERO,
        (before | ROUND_UP) & ~ALL_EXCEPTIONS_RAISE,
    };
    struct loss_case *want = odd_case(types[_i], 4000, 3);
    struct loss_case *got = odd_case(types[_i], 4000, 3);

    loss_case_run(want, 1, "auto");
    for (int k = 0; k < 6; k++) {
        // The threads begin with the mode of their maker.
        struct device *device;
        unsigned after;

        memset(&got->record, 0, sizeof(got->record));
        memset(got->gradient, LOSS_CASE_CANARY, (size_t)got->bytes);
        _mm_setcsr(modes[k / 2]);
        device = loss_case_device(k % 2 == 0 ? 1 : 3, "auto");
        tally_status_t status =
            device_host_ops.loss(device, &got->job, &got->record, NULL);
        after = _mm_getcsr();
        device_host_ops.close(device);
        _mm_setcsr(before);
        ck_assert_int_eq(status, TALLY_OK);
        ck_assert_uint_eq(after, modes[k / 2]);
        assert_same(got, want);
    }
    loss_case_free(want);
    loss_case_free(got);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("device bits");
    TCase *bits = tcase_create("bits");

    tcase_set_timeout(bits, 60);
    tcase_add_loop_test(bits, all_kernels_give_the_same_bits, 0, 3);
    tcase_add_loop_test(bits, any_number_of_threads_gives_the_same_bits, 0, 3);
    tcase_add_test(bits, small_and_large_calls_alternate_on_the_same_threads);
    tcase_add_loop_test(
        bits, a_row_is_the_same_anywhere_in_a_batch_and_at_any_address, 0, 3);
#if defined(__x86_64__)
    tcase_add_loop_test(
        bits, the_callers_floating_point_mode_changes_nothing_and_stays, 0, 3);
#endif
    suite_add_tcase(suite, bits);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of which tokens the host device counts: labels and weights, in count
// and in loss.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "device/host_pool.h"
#include "harness/loss_case.h"

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
static const tally_dtype_t label_types[] = {TALLY_I32, TALLY_I64};

static struct numeric_record count(const struct loss_case *loss,
                                   int32_t threads)
{
    struct device *device = loss_case_device(threads, "auto");
    struct numeric_record record = {0};

    ck_assert_int_eq(
        device_host_ops.count(device, &loss->job.labels, &record, NULL),
        TALLY_OK);
    device_host_ops.close(device);
    return record;
}

// Both see the same tokens.
static void run_and_check(struct loss_case *loss)
{
    struct numeric_record counted = count(loss, 1);

    loss_case_run(loss, 2, "auto");
    loss_case_check(loss);
    ck_assert_int_eq(counted.loss_hi, 0);
    ck_assert_int_eq(counted.loss_lo, 0);
    ck_assert_int_eq(counted.nonfinite, 0);
    counted.loss_hi = loss->record.loss_hi;
    counted.loss_lo = loss->record.loss_lo;
    counted.nonfinite = loss->record.nonfinite;
    ck_assert_mem_eq(&counted, &loss->record, sizeof(counted));
}

START_TEST(ignored_tokens_do_not_count)
{
    struct loss_case *loss = loss_case_create(
        100, 10, types[_i % 3], label_types[_i / 3], (uint64_t)_i);

    for (int64_t i = 0; i < 10; i += 2)
        loss_case_label(loss, i, LOSS_CASE_IGNORE);
    run_and_check(loss);
    ck_assert_int_eq(loss->record.count, 5);
    ck_assert_int_eq(loss->record.bad_labels, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(all_tokens_may_be_ignored)
{
    struct loss_case *loss = loss_case_create(
        100, 10, types[_i % 3], label_types[_i / 3], (uint64_t)_i);
    struct numeric_record none = {0};

    for (int64_t i = 0; i < 10; i++)
        loss_case_label(loss, i, LOSS_CASE_IGNORE);
    run_and_check(loss);
    ck_assert_mem_eq(&loss->record, &none, sizeof(none));
    loss_case_free(loss);
}
END_TEST

START_TEST(another_ignore_index_is_heeded)
{
    struct loss_case *loss =
        loss_case_create(100, 3, TALLY_F32, label_types[_i], 1);

    loss->job.labels.ignore_index = 100;
    loss_case_label(loss, 0, 100);
    loss_case_label(loss, 1, LOSS_CASE_IGNORE);
    run_and_check(loss);
    ck_assert_int_eq(loss->record.count, 1);
    ck_assert_int_eq(loss->record.bad_labels, 1);
    loss_case_free(loss);
}
END_TEST

START_TEST(no_tokens_are_nothing)
{
    struct loss_case *loss =
        loss_case_create(100, 0, types[_i % 3], label_types[_i / 3], 1);
    struct numeric_record none = {0};

    loss->job.labels.values = NULL;
    loss->job.logits = NULL;
    run_and_check(loss);
    ck_assert_mem_eq(&loss->record, &none, sizeof(none));
    loss_case_free(loss);
}
END_TEST

START_TEST(labels_out_of_range_are_counted_as_bad)
{
    static const int64_t bad[] = {-1,
                                  100,
                                  101,
                                  -101,
                                  INT32_MAX,
                                  INT32_MIN,
                                  (int64_t)1 << 40,
                                  ((int64_t)1 << 32) + 5,
                                  INT64_MAX,
                                  INT64_MIN};
    int64_t all = label_types[_i / 3] == TALLY_I64 ? 10 : 6;
    struct loss_case *loss = loss_case_create(
        100, all + 2, types[_i % 3], label_types[_i / 3], (uint64_t)_i);

    loss_case_label(loss, 0, 0);
    loss_case_label(loss, 1, 99);
    for (int64_t i = 0; i < all; i++)
        loss_case_label(loss, i + 2, bad[i]);
    run_and_check(loss);
    ck_assert_int_eq(loss->record.bad_labels, all);
    ck_assert_int_eq(loss->record.count, 2);
    loss_case_free(loss);
}
END_TEST

START_TEST(weights_of_zero_and_below_are_weights)
{
    struct loss_case *loss =
        loss_case_create(100, 4, types[_i % 3], TALLY_I32, (uint64_t)_i);

    loss->job.labels.weights = loss->weights;
    loss->weights[0] = 0;
    loss->weights[1] = -0.0f;
    loss->weights[2] = -2.5f;
    loss->weights[3] = 0x1.fffffep21f;
    run_and_check(loss);
    ck_assert_int_eq(loss->record.count, 4);
    ck_assert_int_eq(loss->record.bad_labels, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(weights_that_are_no_numbers_make_bad_labels)
{
    static const float bad[] = {NAN,     INFINITY, -INFINITY,
                                4194304, -4194304, 1e30f};
    struct loss_case *loss =
        loss_case_create(100, 8, types[_i % 3], TALLY_I32, (uint64_t)_i);

    loss->job.labels.weights = loss->weights;
    memcpy(loss->weights, bad, sizeof(bad));
    // An ignored token's weight is nobody's business.
    loss->weights[6] = NAN;
    loss_case_label(loss, 6, LOSS_CASE_IGNORE);
    run_and_check(loss);
    ck_assert_int_eq(loss->record.bad_labels, 6);
    ck_assert_int_eq(loss->record.count, 1);
    ck_assert_int_eq(loss->record.weight_hi, NUMERIC_ONE_HI);
    loss_case_free(loss);
}
END_TEST

START_TEST(the_loss_is_weighted)
{
    struct loss_case *loss = loss_case_create(2, 2, TALLY_F32, TALLY_I32, 1);

    for (int64_t i = 0; i < 2; i++) {
        loss_case_label(loss, i, 1);
        loss_case_logit(loss, i, 0, 1000);
        loss_case_logit(loss, i, 1, 0);
    }
    loss->job.labels.weights = loss->weights;
    loss->weights[0] = 0.5f;
    loss->weights[1] = -3;
    run_and_check(loss);
    ck_assert(loss->nll[0] == 1000);
    numeric_record_fold(&loss->record);
    ck_assert_int_eq(loss->record.loss_hi, -2500 * NUMERIC_ONE_HI);
    ck_assert_int_eq(loss->record.loss_lo, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(nothing_leaks_from_rows_that_do_not_count)
{
    struct loss_case *loss =
        loss_case_create(100, 6, types[_i], TALLY_I64, (uint64_t)_i);
    static const int64_t labels[] = {5, LOSS_CASE_IGNORE, -1, 100, 7, 8};

    loss->job.labels.weights = loss->weights;
    loss->weights[5] = INFINITY;
    for (int64_t i = 0; i < 6; i++) {
        loss_case_label(loss, i, labels[i]);
        for (int64_t j = 0; i % 4 != 0 && j < 100; j++)
            loss_case_logit(loss, i, j, NAN);
    }
    run_and_check(loss);
    ck_assert_int_eq(loss->record.count, 2);
    ck_assert_int_eq(loss->record.nonfinite, 0);
    loss_case_free(loss);
}
END_TEST

START_TEST(rows_that_do_not_count_are_not_read)
{
    int64_t page = sysconf(_SC_PAGESIZE);
    struct loss_case *loss =
        loss_case_create(page / 4, 3, TALLY_F32, TALLY_I32, (uint64_t)_i);
    char *pages = mmap(NULL, (size_t)(3 * page), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const int64_t labels[] = {LOSS_CASE_IGNORE, -1, 1 << 20};

    ck_assert_ptr_ne(pages, MAP_FAILED);
    memcpy(pages, loss->logits, (size_t)loss->bytes);
    ck_assert_int_eq(mprotect(pages + page, (size_t)page, PROT_NONE), 0);
    loss->job.logits = pages;
    loss_case_label(loss, 1, labels[_i]);
    run_and_check(loss);
    ck_assert_int_eq(loss->record.count, 2);
    munmap(pages, (size_t)(3 * page));
    loss_case_free(loss);
}
END_TEST

START_TEST(many_labels_are_counted_by_many_threads)
{
    struct loss_case *loss =
        loss_case_create(3, 200000, TALLY_BF16, TALLY_I32, 1);
    int64_t want = 0;

    loss->job.labels.weights = loss->weights;
    for (int64_t i = 0; i < 200000; i++) {
        if (i % 7 == 0)
            loss_case_label(loss, i, i % 2 == 0 ? LOSS_CASE_IGNORE : 3);
        loss->weights[i] = (float)(i % 13) / 16;
        want += i % 7 != 0;
    }
    struct numeric_record one = count(loss, 1);
    ck_assert_int_eq(one.count, want);
    for (int32_t threads = 2; threads <= 8; threads += 3) {
        struct numeric_record many = count(loss, threads);
        ck_assert_mem_eq(&one, &many, sizeof(one));
    }
    loss_case_free(loss);
}
END_TEST

// The largest low half that a row can have.
static void add_low_halves(const void *context, int64_t begin, int64_t end,
                           struct numeric_record *record)
{
    (void)context;
    record->weight_lo =
        numeric_add(record->weight_lo, (end - begin) * (int64_t)0xffffffff);
    record->count += end - begin;
}

START_TEST(more_rows_than_a_lane_holds_are_added)
{
    static const int32_t threads[] = {1, 3};
    const int64_t rows = (int64_t)5 << 31;
    struct host_job job = {
        .work = add_low_halves, .rows = rows, .grain = 1 << 16};
    struct numeric_record record = {0};
    struct host_pool *pool;

    ck_assert_int_eq(host_pool_open(threads[_i], &pool), TALLY_OK);
    host_pool_run(pool, &job, &record);
    host_pool_close(pool);
    numeric_record_fold(&record);
    ck_assert_int_eq(record.count, rows);
    // rows * (2^32 - 1)
    ck_assert_int_eq(record.weight_hi, rows - (rows >> 32) - 1);
    ck_assert_int_eq(record.weight_lo,
                     ((int64_t)1 << 32) - (rows & 0xffffffff));
}
END_TEST

START_TEST(kernels_that_are_not_there_are_refused)
{
    struct device_params params = {.threads = 1, .isa = "sse9"};
    struct device *device = NULL;

    ck_assert_int_eq(device_host_ops.open(&params, &device), TALLY_ERR_CONFIG);
    ck_assert_ptr_null(device);
    ck_assert_str_eq(core_error_text(),
                     "TALLY_HOST_ISA=sse9: this processor or build has no such "
                     "kernels");
    params.isa = "generic";
    ck_assert_int_eq(device_host_ops.open(&params, &device), TALLY_OK);
    ck_assert_str_eq(device_host_isa(device), "generic");
    device_host_ops.close(device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device labels");
    TCase *labels = tcase_create("labels");
    TCase *weights = tcase_create("weights");

    tcase_add_loop_test(labels, ignored_tokens_do_not_count, 0, 6);
    tcase_add_loop_test(labels, all_tokens_may_be_ignored, 0, 6);
    tcase_add_loop_test(labels, another_ignore_index_is_heeded, 0, 2);
    tcase_add_loop_test(labels, no_tokens_are_nothing, 0, 6);
    tcase_add_loop_test(labels, labels_out_of_range_are_counted_as_bad, 0, 6);
    tcase_add_loop_test(labels, nothing_leaks_from_rows_that_do_not_count, 0,
                        3);
    tcase_add_loop_test(labels, rows_that_do_not_count_are_not_read, 0, 3);
    tcase_add_test(labels, many_labels_are_counted_by_many_threads);
    tcase_add_loop_test(labels, more_rows_than_a_lane_holds_are_added, 0, 2);
    tcase_add_test(labels, kernels_that_are_not_there_are_refused);
    suite_add_tcase(suite, labels);
    tcase_add_loop_test(weights, weights_of_zero_and_below_are_weights, 0, 3);
    tcase_add_loop_test(weights, weights_that_are_no_numbers_make_bad_labels, 0,
                        3);
    tcase_add_test(weights, the_loss_is_weighted);
    suite_add_tcase(suite, weights);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

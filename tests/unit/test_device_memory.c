// SPDX-License-Identifier: BSD-3-Clause
// Tests of where the host device reads and writes: strides, alignment, the ends
// of rows, and arrays beyond 2^31 elements.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/loss_case.h"

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
static const char *const isas[] = {"generic", "avx2", "avx512"};

// Whether this machine runs the kernels.
static bool runs(const char *isa)
{
    struct device *device = loss_case_device(1, isa);

    if (device != NULL)
        device_host_ops.close(device);
    return device != NULL;
}

START_TEST(what_is_between_rows_is_neither_read_nor_written)
{
    const int64_t vocab = 100;
    const int64_t stride = 131;
    struct loss_case *loss = loss_case_create_strided(
        vocab, 5, stride, types[_i], TALLY_I32, (uint64_t)_i);

    loss_case_label(loss, 3, LOSS_CASE_IGNORE);
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    ck_assert_int_eq(loss->record.nonfinite, 0);
    for (int64_t i = 0; i < 5; i++)
        for (int64_t k = vocab * loss->element_bytes;
             k < stride * loss->element_bytes; k++)
            ck_assert_int_eq(
                loss->gradient[i * stride * loss->element_bytes + k],
                LOSS_CASE_CANARY);
    // In place too.
    loss->job.gradient = loss->logits;
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    for (int64_t i = 0; i < 5; i++)
        for (int64_t j = vocab; j < stride; j++)
            ck_assert_float_nan(loss_case_gradient_at(loss, i, j));
    loss_case_free(loss);
}
END_TEST

START_TEST(logits_and_gradient_may_have_different_strides)
{
    struct loss_case *loss =
        loss_case_create_strided(50, 4, 70, types[_i], TALLY_I32, (uint64_t)_i);

    loss->job.gradient_stride = 61;
    loss_case_run(loss, 1, "auto");
    loss_case_check(loss);
    loss_case_free(loss);
}
END_TEST

START_TEST(nothing_beyond_the_last_element_is_touched)
{
    // A row ends where a page begins that cannot be read.
    int64_t page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, (size_t)(2 * page), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(pages, MAP_FAILED);
    ck_assert_int_eq(mprotect(pages + page, (size_t)page, PROT_NONE), 0);
    for (int k = 0; k < 3; k++)
        for (int64_t vocab = 1; runs(isas[k]) && vocab < 300; vocab += 7) {
            struct loss_case *loss =
                loss_case_create(vocab, 1, types[_i], TALLY_I32, 1);
            char *end = pages + page - loss->bytes;
            memcpy(end, loss->logits, (size_t)loss->bytes);
            loss->job.logits = end;
            loss_case_run(loss, 1, isas[k]);
            loss_case_check(loss);
            loss->job.gradient = end;
            loss_case_run(loss, 1, isas[k]);
            loss_case_check(loss);
            loss_case_free(loss);
        }
    munmap(pages, (size_t)(2 * page));
}
END_TEST

START_TEST(any_address_will_do)
{
    for (int k = 0; k < 3; k++)
        for (int64_t shift = 0; runs(isas[k]) && shift < 9; shift++) {
            struct loss_case *loss =
                loss_case_create(333, 3, types[_i], TALLY_I64, 1);
            char *logits = malloc((size_t)loss->bytes + 16);
            char *gradient = malloc((size_t)loss->bytes + 16);
            char *labels = malloc(3 * sizeof(int64_t) + 16);

            memcpy(logits + shift, loss->logits, (size_t)loss->bytes);
            memcpy(labels + shift, loss->labels, 3 * sizeof(int64_t));
            loss->job.logits = logits + shift;
            loss->job.gradient = gradient + (shift * 3) % 16;
            loss->job.labels.values = labels + shift;
            loss_case_run(loss, 1, isas[k]);
            loss_case_check(loss);
            free(logits);
            free(gradient);
            free(labels);
            loss_case_free(loss);
        }
}
END_TEST

// Address space that costs nothing until it is touched.
static char *reserve(int64_t bytes)
{
    char *room = mmap(NULL, (size_t)bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    ck_assert_ptr_ne(room, MAP_FAILED);
    return room;
}

// Makes [at, at + bytes) of it usable.
static void make_usable(char *at, int64_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)at / page * page;
    uintptr_t end = ((uintptr_t)at + (uintptr_t)bytes + page - 1) / page * page;

    ck_assert_int_eq(
        mprotect((void *)begin, end - begin, PROT_READ | PROT_WRITE), 0);
}

START_TEST(rows_beyond_2_to_the_31_elements_are_found)
{
    // Tokens by vocabulary: all ignored but the last, and nothing else exists.
    const int64_t vocab = 128256;
    const int64_t tokens = 35000; // 2^32 elements and more
    const int64_t bytes = vocab * 2;
    struct loss_case *loss =
        loss_case_create(vocab, 1, TALLY_BF16, TALLY_I32, 1);
    char *logits = reserve(tokens * bytes);
    int32_t *labels = calloc((size_t)tokens, sizeof(*labels));
    struct device_loss job = loss->job;
    struct device *device = loss_case_device(2, "auto");
    struct numeric_record record = {0};
    float *nll = calloc((size_t)tokens, sizeof(*nll));

    ck_assert(tokens * vocab > (int64_t)1 << 32);
    loss_case_run(loss, 1, "auto");
    for (int64_t i = 0; i < tokens; i++)
        labels[i] = LOSS_CASE_IGNORE;
    labels[tokens - 1] = (int32_t)loss_case_label_at(loss, 0);
    make_usable(logits + (tokens - 1) * bytes, bytes);
    memcpy(logits + (tokens - 1) * bytes, loss->logits, (size_t)bytes);
    job.logits = logits;
    job.gradient = NULL;
    job.labels.values = labels;
    job.labels.tokens = tokens;
    job.nll = nll;
    ck_assert_int_eq(device_host_ops.loss(device, &job, &record, NULL),
                     TALLY_OK);
    ck_assert_mem_eq(&record, &loss->record, sizeof(record));
    ck_assert(nll[tokens - 1] == loss->nll[0]);
    device_host_ops.close(device);
    munmap(logits, (size_t)(tokens * bytes));
    free(labels);
    free(nll);
    loss_case_free(loss);
}
END_TEST

START_TEST(gradients_beyond_2_to_the_31_elements_are_found)
{
    const int64_t vocab = 1000;
    const int64_t stride = ((int64_t)1 << 31) + 7;
    struct loss_case *loss =
        loss_case_create(vocab, 3, TALLY_BF16, TALLY_I32, 1);
    int64_t bytes = vocab * 2;
    int64_t room = (2 * stride + vocab) * 2;
    char *logits = reserve(room);
    char *gradient = reserve(room);
    struct device_loss job = loss->job;
    struct device *device = loss_case_device(1, "auto");
    struct numeric_record record = {0};

    loss_case_label(loss, 1, LOSS_CASE_IGNORE);
    loss_case_run(loss, 1, "auto");
    for (int64_t i = 0; i < 3; i++) {
        make_usable(logits + i * stride * 2, bytes);
        make_usable(gradient + i * stride * 2, bytes);
        memcpy(logits + i * stride * 2, loss->logits + i * bytes,
               (size_t)bytes);
    }
    job.logits = logits;
    job.logits_stride = stride;
    job.gradient = gradient;
    job.gradient_stride = stride;
    ck_assert_int_eq(device_host_ops.loss(device, &job, &record, NULL),
                     TALLY_OK);
    ck_assert_mem_eq(&record, &loss->record, sizeof(record));
    for (int64_t i = 0; i < 3; i++)
        ck_assert_mem_eq(gradient + i * stride * 2, loss->gradient + i * bytes,
                         (size_t)bytes);
    device_host_ops.close(device);
    munmap(logits, (size_t)room);
    munmap(gradient, (size_t)room);
    loss_case_free(loss);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device memory");
    TCase *rows = tcase_create("rows");
    TCase *large = tcase_create("large");

    tcase_add_loop_test(rows, what_is_between_rows_is_neither_read_nor_written,
                        0, 3);
    tcase_add_loop_test(rows, logits_and_gradient_may_have_different_strides, 0,
                        3);
    tcase_add_loop_test(rows, nothing_beyond_the_last_element_is_touched, 0, 3);
    tcase_add_loop_test(rows, any_address_will_do, 0, 3);
    suite_add_tcase(suite, rows);
    tcase_add_test(large, rows_beyond_2_to_the_31_elements_are_found);
    tcase_add_test(large, gradients_beyond_2_to_the_31_elements_are_found);
    suite_add_tcase(suite, large);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

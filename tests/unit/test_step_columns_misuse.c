// SPDX-License-Identifier: BSD-3-Clause
// Columns that a shard cannot have, and calls about them that are refused. What
// comes of those that it can have is test_step_columns.c.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define VOCAB 1301
#define CHANNELS 3

static const struct {
    int32_t shards;
    int64_t begin, width, stride;
    const char *sentence;
} refused[] = {
    {2, -1, 5, 0, "columns.begin is -1, the vocabulary has 1301"},
    {2, VOCAB, 1, 0, "columns.begin is 1301, the vocabulary has 1301"},
    {2, 0, 0, 0, "columns.width is 0, not 1 to 1301 from column 0 of 1301"},
    {2, 1000, 302, 0,
     "columns.width is 302, not 1 to 301 from column 1000 of 1301"},
    {2, 1, INT64_MAX, 0,
     "columns.width is 9223372036854775807, not 1 to 1300 from column 1 of "
     "1301"},
    {0, 0, 5, 0, "columns.shards is 0"},
    {2, 0, 5, 4, "logits.row_stride is 4, a row has 5 columns"},
};
#define REFUSED 7

START_TEST(columns_that_cannot_be_are_refused)
{
    static const float values[8];
    const int64_t label = 0;
    const tally_labels_t labels = job_labels(&label, 1);
    tally_row_part_t parts[2] = {{0}};
    tally_columns_t columns = TALLY_INIT(tally_columns_t);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    char sentence[200] = "tally_step_loss_part: ";
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_SCALE_LATE, CHANNELS, VOCAB);
    logits.type = TALLY_F32;
    logits.values = values;
    logits.row_stride = refused[_i].stride;
    columns.shards = refused[_i].shards;
    columns.begin = refused[_i].begin;
    columns.width = refused[_i].width;
    strcat(sentence, refused[_i].sentence);
    job_assert_fails(
        tally_step_loss_part(step, 0, &logits, &labels, &columns, parts, NULL),
        TALLY_ERR_INVALID, sentence);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(misuse_is_refused)
{
    static const float values[8];
    static float gradient[8];
    const int64_t label = 0;
    const tally_labels_t labels = job_labels(&label, 1);
    tally_row_part_t part = {0};
    tally_columns_t columns = TALLY_INIT(tally_columns_t);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    struct job job;

    logits.type = TALLY_F32;
    logits.values = values;
    columns.shards = 1;
    columns.width = 8;
    job_assert_fails(
        tally_step_loss_part(NULL, 0, &logits, &labels, &columns, &part, NULL),
        TALLY_ERR_INVALID, "tally_step_loss_part: step is NULL");
    job_assert_fails(tally_step_loss_columns(NULL, 0, &logits, &labels,
                                             &columns, &part, NULL, NULL),
                     TALLY_ERR_INVALID,
                     "tally_step_loss_columns: step is NULL");
    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, CHANNELS, VOCAB);
    job_assert_fails(
        tally_step_loss_part(step, 3, &logits, &labels, &columns, &part, NULL),
        TALLY_ERR_INVALID, "tally_step_loss_part: channel 3 of 3");
    job_assert_fails(
        tally_step_loss_part(step, 0, &logits, &labels, NULL, &part, NULL),
        TALLY_ERR_INVALID, "tally_step_loss_part: tally_columns is NULL");
    job_assert_fails(
        tally_step_loss_part(step, 0, &logits, &labels, &columns, NULL, NULL),
        TALLY_ERR_INVALID, "tally_step_loss_part: parts is NULL with 1 tokens");
    job_assert_fails(tally_step_loss_columns(step, 0, &logits, &labels,
                                             &columns, &part, NULL, NULL),
                     TALLY_ERR_ORDER,
                     "tally_step_loss_columns: no epoch has begun");
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    for (uint32_t k = 0; k < CHANNELS; k++)
        ck_assert_int_eq(tally_step_count(step, k, &labels, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    outputs.gradient = gradient;
    outputs.gradient_stride = 7;
    job_assert_fails(tally_step_loss_columns(step, 0, &logits, &labels,
                                             &columns, &part, &outputs, NULL),
                     TALLY_ERR_INVALID,
                     "tally_step_loss_columns: outputs.gradient_stride is 7, a "
                     "row has 8 columns");
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step columns misuse");
    TCase *tests = tcase_create("columns");
    SRunner *runner;

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, columns_that_cannot_be_are_refused, 0, REFUSED);
    tcase_add_test(tests, misuse_is_refused);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of misuse: every wrong call is refused with a sentence, nothing hangs,
// nothing is silently wrong. The numbers are test_step.c; ranks that do not fit
// together are test_step_mismatch.c.
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/objects.h"
#include "harness/job.h"

#define VOCAB 7

static const int64_t some_labels[] = {1, 2, 3};

static void count(tally_step_t *step)
{
    tally_labels_t labels = job_labels(some_labels, 3);

    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
}

START_TEST(calls_out_of_order_are_refused_and_change_nothing)
{
    tally_labels_t labels = job_labels(some_labels, 3);
    float values[3 * VOCAB] = {0};
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    logits.type = TALLY_F32;
    logits.values = values;
    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    job_assert_fails(tally_step_count(step, 0, &labels, NULL), TALLY_ERR_ORDER,
                     "tally_step_count: no epoch has begun");
    job_assert_fails(tally_step_reduce(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_reduce: no epoch has begun");
    job_assert_fails(tally_step_wait(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_wait: no epoch has begun");
    job_assert_fails(tally_step_end(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_end: no epoch has begun");
    job_assert_fails(tally_step_result(step, 0, 0, &result), TALLY_ERR_ORDER,
                     "tally_step_result: epoch 0 has not been reduced yet");
    ck_assert_int_eq(tally_step_begin(step, 2, NULL), TALLY_OK);
    job_assert_fails(tally_step_begin(step, 2, NULL), TALLY_ERR_ORDER,
                     "tally_step_begin: epoch 1 has not ended");
    count(step);
    job_assert_fails(tally_step_reduce(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_reduce: channel \"0\" was counted for 1 of 2 "
                     "micro-batches");
    count(step);
    job_assert_fails(
        tally_step_count(step, 0, &labels, NULL), TALLY_ERR_ORDER,
        "tally_step_count: channel \"0\" was counted 2 times already, as often "
        "as there are micro-batches");
    job_assert_fails(tally_step_loss(step, 0, &logits, &labels, NULL, NULL),
                     TALLY_ERR_ORDER,
                     "tally_step_loss: the epoch is not reduced yet");
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    job_assert_fails(tally_step_reduce(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_reduce: the epoch is reduced already");
    job_assert_fails(
        tally_step_result(step, 1, TALLY_RESULT_WAIT, &result), TALLY_ERR_ORDER,
        "tally_step_result: epoch 1 has not ended: its losses are not there");
    ck_assert_int_eq(tally_step_loss(step, 0, &logits, &labels, NULL, NULL),
                     TALLY_OK);
    job_assert_fails(tally_step_end(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_end: channel \"0\" was given to the loss for "
                     "1 of 2 micro-batches");
    ck_assert_int_eq(tally_step_loss(step, 0, &logits, &labels, NULL, NULL),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_result(step, 1, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_uint_eq(result.flags, 0);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);

    step = job_step(&job, TALLY_SCALE_LATE, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    job_assert_fails(tally_step_count(step, 0, &labels, NULL), TALLY_ERR_ORDER,
                     "tally_step_count: with TALLY_SCALE_LATE the loss counts");
    job_assert_fails(tally_step_reduce(step, NULL), TALLY_ERR_ORDER,
                     "tally_step_reduce: channel \"0\" was given to the loss "
                     "for 0 of 1 micro-batches");
    ck_assert_int_eq(tally_step_loss(step, 0, &logits, &labels, NULL, NULL),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(what_is_in_use_is_not_freed)
{
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    job_assert_fails(tally_step_free(step), TALLY_ERR_BUSY,
                     "tally_step_free: epoch 1 has not ended");
    job_assert_fails(tally_group_free(job.group), TALLY_ERR_BUSY,
                     "tally_group_free: group \"\" has 1 steps that must be "
                     "freed first");
    job_assert_fails(tally_close(job.tally), TALLY_ERR_BUSY,
                     "tally_close: 1 groups must be freed first");
    job_assert_logged(&job, "tally_close: 1 groups must be freed first");
    count(step);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(a_step_under_way_can_be_freed_once_a_rank_is_gone)
{
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_ERR_BUSY);
    health_report(job.tally->health, 0, HEALTH_DIED);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(null_is_refused_everywhere)
{
    tally_labels_t labels = job_labels(NULL, 1);
    const float *scale;
    struct job job;

    job_assert_fails(tally_open(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_open: out is NULL");
    ck_assert_int_eq(tally_close(NULL), TALLY_OK);
    ck_assert_int_eq(tally_group_free(NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(NULL), TALLY_OK);
    job_assert_fails(tally_rank(NULL, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_rank: tally is NULL");
    job_assert_fails(tally_group_create(NULL, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_group_create: tally is NULL");
    job_assert_fails(tally_group_describe(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_group_describe: group is NULL");
    job_assert_fails(tally_step_create(NULL, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_create: group is NULL");
    job_assert_fails(tally_step_begin(NULL, 1, NULL), TALLY_ERR_INVALID,
                     "tally_step_begin: step is NULL");
    job_assert_fails(tally_step_count(NULL, 0, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_count: step is NULL");
    job_assert_fails(tally_step_reduce(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_reduce: step is NULL");
    job_assert_fails(tally_step_wait(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_wait: step is NULL");
    job_assert_fails(tally_step_loss(NULL, 0, NULL, NULL, NULL, NULL),
                     TALLY_ERR_INVALID, "tally_step_loss: step is NULL");
    job_assert_fails(tally_step_max(NULL, 0, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_max: step is NULL");
    job_assert_fails(tally_step_multiply(NULL, TALLY_F32, NULL, 0, NULL, NULL),
                     TALLY_ERR_INVALID, "tally_step_multiply: step is NULL");
    job_assert_fails(tally_step_end(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_end: step is NULL");
    job_assert_fails(tally_step_scale(NULL, &scale), TALLY_ERR_INVALID,
                     "tally_step_scale: step is NULL");
    job_assert_fails(tally_step_result(NULL, 0, 0, NULL), TALLY_ERR_INVALID,
                     "tally_step_result: step is NULL");
    job_assert_fails(tally_config_row(NULL, 0, NULL), TALLY_ERR_INVALID,
                     "tally_config_row: tally_config_row is NULL");
    job_open(&job, NULL, NULL);
    job_assert_fails(tally_group_create(job.tally, NULL, NULL),
                     TALLY_ERR_INVALID, "tally_group_create: out is NULL");
    job_assert_fails(tally_step_create(job.group, NULL, NULL),
                     TALLY_ERR_INVALID, "tally_step_create: out is NULL");
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    job_assert_fails(tally_step_create(job.group, NULL, &step),
                     TALLY_ERR_INVALID,
                     "tally_step_create: tally_step_params is NULL");
    job_assert_fails(tally_step_scale(step, NULL), TALLY_ERR_INVALID,
                     "tally_step_scale: scale is NULL");
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    job_assert_fails(tally_step_count(step, 0, NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_count: tally_labels is NULL");
    job_assert_fails(tally_step_count(step, 0, &labels, NULL),
                     TALLY_ERR_INVALID,
                     "tally_step_count: labels.values is NULL with 1 tokens");
    job_assert_fails(tally_step_count(step, 1, &labels, NULL),
                     TALLY_ERR_INVALID, "tally_step_count: channel 1 of 1");
    job_assert_fails(tally_step_max(step, 0, scale = NULL, NULL),
                     TALLY_ERR_INVALID, "tally_step_max: MAX lane 0 of 0");
    const float factor = 1;
    job_assert_fails(
        tally_step_multiply(step, TALLY_I64, NULL, 0, &factor, NULL),
        TALLY_ERR_INVALID,
        "tally_step_multiply: a gradient is TALLY_F32, TALLY_BF16 or "
        "TALLY_F16, not type 5");
    job_assert_fails(
        tally_step_multiply(step, TALLY_F32, NULL, 2, &factor, NULL),
        TALLY_ERR_INVALID,
        "tally_step_multiply: gradient is NULL with 2 elements");
    job_assert_fails(tally_step_multiply(step, TALLY_F32, NULL, 0, NULL, NULL),
                     TALLY_ERR_INVALID, "tally_step_multiply: factor is NULL");
    count(step);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(wrong_parameters_are_refused_with_their_values)
{
    const int32_t descending[] = {0, 0};
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_group_t *none;
    tally_step_t *step;
    struct job job;

    job_open(&job, NULL, NULL);
    group.ranks = descending;
    group.rank_count = 2;
    job_assert_fails(tally_group_create(job.tally, &group, &none),
                     TALLY_ERR_INVALID,
                     "tally_group_create: rank_count is 2, the job has 1 "
                     "ranks");
    group.ranks = NULL;
    group.key = "a key that is far too long to be the name of a group";
    job_assert_fails(tally_group_create(job.tally, &group, &none),
                     TALLY_ERR_INVALID,
                     "tally_group_create: the key \"a key that is far too long "
                     "to be the name of a group\" has more than 31 bytes");
    params.channels = &channel;
    job_assert_fails(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_INVALID,
                     "tally_step_create: channel_count is 0: 1 to 64 are "
                     "possible");
    params.channel_count = 1;
    job_assert_fails(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_INVALID,
                     "tally_step_create: channel \"0\": vocab is 0, at least 1 "
                     "is needed");
    channel.name = "text";
    channel.vocab = VOCAB;
    channel.ignore_index = 3;
    job_assert_fails(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_INVALID,
                     "tally_step_create: channel \"text\": ignore_index 3 is a "
                     "label of a vocabulary of 7");
    channel.ignore_index = 0;
    params.max_lanes = 15;
    job_assert_fails(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_INVALID,
                     "tally_step_create: max_lanes is 15: at most 14 are "
                     "possible");
    job_close(&job);
}
END_TEST

static void absent_as_rank(struct ranks_member *member)
{
    const char *const hasty[] = {"TALLY_TIMEOUT", "0.2", NULL};
    tally_labels_t labels = job_labels(some_labels, 1);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    float values[VOCAB] = {0};
    struct job job;

    job_open(&job, member, hasty);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    if (member->rank == 0) {
        logits.type = TALLY_F32;
        logits.values = values;
        outputs.gradient = values;
        ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
        job_assert_fails(tally_step_wait(step, NULL), TALLY_ERR_TIMEOUT,
                         "timed out after 0.2 s waiting for rank 1");
        // Who looks away trains on NaN, not on stale numbers.
        ck_assert_int_eq(
            tally_step_loss(step, 0, &logits, &labels, &outputs, NULL),
            TALLY_ERR_TIMEOUT);
        for (int v = 0; v < VOCAB; v++)
            ck_assert_float_nan(values[v]);
        ck_assert_int_eq(tally_step_end(step, NULL), TALLY_ERR_TIMEOUT);
        ck_assert_int_eq(tally_step_result(step, 0, 0, &result),
                         TALLY_ERR_TIMEOUT);
        ck_assert_int_eq(result.status, TALLY_ERR_TIMEOUT);
        ck_assert_int_eq(result.failed_rank, 1);
        job_assert_fails(tally_step_begin(step, 1, NULL), TALLY_ERR_DEAD,
                         "tally_step_begin: group \"\" is dead: timed out "
                         "after 0.2 s waiting for rank 1");
        job_assert_logged(&job, "group \"\", epoch 1: timed out after 0.2 s "
                                "waiting for rank 1");
    }
    ranks_barrier(member);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    ck_assert_int_eq(tally_group_free(job.group), TALLY_OK);
    // A new group of the same ranks works.
    ck_assert_int_eq(tally_group_create(job.tally, NULL, &job.group), TALLY_OK);
    step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    count(step);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(a_rank_that_does_not_come_is_named_by_the_deadline)
{
    ranks_run(2, absent_as_rank, NULL);
}
END_TEST

START_TEST(a_sum_that_is_too_large_is_an_error_and_a_nan_scale)
{
    tally_result_t result = TALLY_INIT(tally_result_t);
    const float *scale;
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    count(step);
    // As if 2^34 tokens of weight 2^21 had been counted.
    step->counts[0].weight_hi = INT64_MAX;
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    job_assert_fails(tally_step_wait(step, NULL), TALLY_ERR_OVERFLOW,
                     "channel \"0\": a sum reaches 2^55");
    ck_assert_int_eq(tally_step_scale(step, &scale), TALLY_OK);
    ck_assert_float_nan(*scale);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_ERR_OVERFLOW);
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_ERR_OVERFLOW);
    // The group lives: the next step is fine.
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    count(step);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(a_step_of_an_ordinary_group_is_no_replica)
{
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    job_assert_fails(tally_replica_ready(step, TALLY_REPLICA_READY),
                     TALLY_ERR_ORDER,
                     "tally_replica_ready: its group is no replica group");
    job_assert_fails(tally_replica_state(step, &state), TALLY_ERR_ORDER,
                     "tally_replica_state: its group is no replica group");
    job_assert_fails(tally_replica_publish(step, &state), TALLY_ERR_ORDER,
                     "tally_replica_publish: its group is no replica group");
    job_assert_fails(tally_replica_state(NULL, &state), TALLY_ERR_INVALID,
                     "tally_replica_state: step is NULL");
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step misuse");
    TCase *tests = tcase_create("refusals");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, calls_out_of_order_are_refused_and_change_nothing);
    tcase_add_test(tests, what_is_in_use_is_not_freed);
    tcase_add_test(tests, a_step_under_way_can_be_freed_once_a_rank_is_gone);
    tcase_add_test(tests, null_is_refused_everywhere);
    tcase_add_test(tests, wrong_parameters_are_refused_with_their_values);
    tcase_add_test(tests, a_rank_that_does_not_come_is_named_by_the_deadline);
    tcase_add_test(tests, a_sum_that_is_too_large_is_an_error_and_a_nan_scale);
    tcase_add_test(tests, a_step_of_an_ordinary_group_is_no_replica);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

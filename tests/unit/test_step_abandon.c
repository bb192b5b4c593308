// SPDX-License-Identifier: BSD-3-Clause
// Tests of epochs that one rank abandons: the others get what there is, are
// told what is missing, and the next epoch is as any other.
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define VOCAB 5
#define RANKS 2
#define MICRO_BATCHES 2

static const int64_t some_labels[] = {1, 2, 3};
static const float some_logits[3 * VOCAB];

static tally_labels_t labels(void)
{
    return job_labels(some_labels, 3);
}

static void count(tally_step_t *step)
{
    const tally_labels_t given = labels();

    ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
}

static void lose(tally_step_t *step)
{
    const tally_labels_t given = labels();
    tally_logits_t logits = TALLY_INIT(tally_logits_t);

    logits.type = TALLY_F32;
    logits.values = some_logits;
    ck_assert_int_eq(tally_step_loss(step, 0, &logits, &given, NULL, NULL),
                     TALLY_OK);
}

// What calls an epoch consists of; a rank that abandons makes the first so
// many.
static void run_calls(tally_step_t *step, tally_order_t order, int calls)
{
    const bool late = order == TALLY_SCALE_LATE;

    for (int i = 0; i < MICRO_BATCHES && calls > 0; i++, calls--)
        (late ? lose : count)(step);
    if (calls-- > 0)
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    for (int i = 0; i < MICRO_BATCHES && calls > 0 && !late; i++, calls--)
        lose(step);
}

static const struct {
    tally_order_t order;
    int calls;     // of rank 1
    int64_t count; // of both ranks
    uint32_t flags;
} abandoned[] = {
    {TALLY_COUNT_FIRST, 0, 6, 0},
    {TALLY_COUNT_FIRST, 1, 9, TALLY_STEP_OTHER_TOKENS},
    {TALLY_COUNT_FIRST, 2, 12, TALLY_STEP_OTHER_TOKENS},
    {TALLY_COUNT_FIRST, 3, 12, TALLY_STEP_OTHER_TOKENS},
    {TALLY_COUNT_FIRST, 4, 12, TALLY_STEP_OTHER_TOKENS},
    {TALLY_COUNT_FIRST, 5, 12, 0},
    {TALLY_SCALE_LATE, 0, 6, 0},
    {TALLY_SCALE_LATE, 1, 9, 0},
    {TALLY_SCALE_LATE, 3, 12, 0},
};
#define ABANDONED 9

static void check_result(tally_step_t *step, uint64_t epoch, int64_t counted,
                         uint32_t flags)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    result.channels = &channel;
    result.channel_capacity = 1;
    ck_assert_int_eq(tally_step_result(step, epoch, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_int_eq(channel.count, counted);
    ck_assert_uint_eq(result.flags, flags);
}

static void abandon_as_rank(struct ranks_member *member)
{
    const int which = *(const int *)member->argument;
    const tally_order_t order = abandoned[which].order;
    struct job job;

    job_open(&job, member, NULL);
    tally_step_t *step = job_step(&job, order, 1, VOCAB);
    for (uint64_t epoch = 1; epoch <= 2; epoch++) { // rank 1 the first
        ck_assert_int_eq(tally_step_begin(step, MICRO_BATCHES, NULL), TALLY_OK);
        if (member->rank == 1 && epoch == 1) {
            run_calls(step, order, abandoned[which].calls);
            ck_assert_int_eq(tally_step_abandon(step, NULL), TALLY_OK);
        } else {
            run_calls(step, order, 2 * MICRO_BATCHES + 1);
            ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
        }
        ck_assert_int_eq(tally_step_abandon(step, NULL), TALLY_OK); // nothing
    }
    check_result(step, 1, abandoned[which].count, abandoned[which].flags);
    check_result(step, 2, 12, 0);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(an_abandoned_epoch_ends_at_all_ranks)
{
    ranks_run(RANKS, abandon_as_rank, &_i);
}
END_TEST

START_TEST(who_lost_nothing_has_no_loss)
{
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_abandon(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_begin(step, MICRO_BATCHES, NULL), TALLY_OK);
    count(step);
    ck_assert_int_eq(tally_step_free(step), TALLY_ERR_BUSY);
    ck_assert_int_eq(tally_step_abandon(step, NULL), TALLY_OK);
    check_result(step, 1, 3, TALLY_STEP_NO_LOSS);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_assert_fails(tally_step_abandon(NULL, NULL), TALLY_ERR_INVALID,
                     "tally_step_abandon: step is NULL");
    job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step abandon");
    TCase *tests = tcase_create("abandon");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, an_abandoned_epoch_ends_at_all_ranks, 0,
                        ABANDONED);
    tcase_add_test(tests, who_lost_nothing_has_no_loss);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

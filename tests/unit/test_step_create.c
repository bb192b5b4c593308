// SPDX-License-Identifier: BSD-3-Clause
// A step is made at all ranks of its group or at none.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define RANKS 3

static void rank_with_a_fault(struct ranks_member *member)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_step_t *step = NULL;
    struct job job;

    job_open(&job, member, NULL);
    channel.vocab = member->rank == 1 ? 0 : 7;
    params.channels = &channel;
    params.channel_count = 1;
    ck_assert_int_eq(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_INVALID);
    ck_assert_ptr_null(step);
    ck_assert_str_eq(
        tally_last_error(),
        member->rank == 1
            ? "tally_step_create: channel \"0\": vocab is 0, at least 1 is "
              "needed"
            : "tally_step_create: rank 1: channel \"0\": vocab is 0, at least "
              "1 is needed");

    // The group is none the worse for it.
    step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    tally_labels_t labels = job_labels(&(const int64_t){3}, 1);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_wait(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ranks_barrier(member);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(what_one_rank_fails_at_all_ranks_are_told)
{
    ranks_run(RANKS, rank_with_a_fault, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step create");
    TCase *tests = tcase_create("step create");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_one_rank_fails_at_all_ranks_are_told);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Lines for people: their order, and that who takes them may wait for a lock
// whose holder calls Tally, as an interpreter's callback does.
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "harness/job.h"

static char written[256];

static void append(void *context, tally_log_level_t level, const char *line)
{
    size_t used = strlen(written);

    (void)context;
    snprintf(written + used, sizeof(written) - used, "%d:%s ", (int)level,
             line);
}

static const struct core_log sink = {TALLY_LOG_WARN, 0, append, NULL};

START_TEST(held_lines_come_in_order_once_all_is_released)
{
    core_log(&sink, TALLY_LOG_WARN, "a");
    core_log_hold();
    core_log(&sink, TALLY_LOG_ERROR, "b");
    core_log_hold();
    core_log(&sink, TALLY_LOG_INFO, "not wanted");
    core_log(&sink, TALLY_LOG_WARN, "%c", 'c');
    core_log_release();
    ck_assert_str_eq(written, "1:a ");
    core_log_release();
    ck_assert_str_eq(written, "1:a 0:b 1:c ");
    core_log(&sink, TALLY_LOG_ERROR, "d");
    ck_assert_str_eq(written, "1:a 0:b 1:c 0:d ");
}
END_TEST

// An interpreter: one thread at a time, callbacks too.
static pthread_mutex_t interpreter = PTHREAD_MUTEX_INITIALIZER;
static atomic_int callbacks;

static void interpreted(void *context, tally_log_level_t level,
                        const char *line)
{
    (void)context;
    (void)level;
    (void)line;
    atomic_fetch_add(&callbacks, 1);
    pthread_mutex_lock(&interpreter);
    pthread_mutex_unlock(&interpreter);
}

static void rank_waits_within_the_interpreter(struct ranks_member *member)
{
    static const char *const settings[] = {"TALLY_TIMEOUT", "0.2", NULL};
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    job_prepare(&job, member, settings);
    if (member->rank == 0)
        job.host.log = interpreted;
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_OK);
    ck_assert_int_eq(tally_group_create(job.tally, NULL, &job.group), TALLY_OK);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    if (member->rank == 0) {
        tally_labels_t labels = job_labels(NULL, 0);

        pthread_mutex_lock(&interpreter);
        ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
        // Rank 1 never comes: the progress thread has something to say.
        while (atomic_load(&callbacks) == 0)
            usleep(1000);
        ck_assert_int_eq(tally_step_result(step, 0, 0, &result),
                         TALLY_ERR_TIMEOUT);
        ck_assert_int_eq(tally_step_wait(step, NULL), TALLY_ERR_TIMEOUT);
        pthread_mutex_unlock(&interpreter);
    }
    ranks_barrier(member);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(a_callback_may_wait_for_a_lock_whose_holder_calls_tally)
{
    ranks_run(2, rank_waits_within_the_interpreter, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tests = tcase_create("log");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, held_lines_come_in_order_once_all_is_released);
    tcase_add_test(tests,
                   a_callback_may_wait_for_a_lock_whose_holder_calls_tally);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// What is left of a job whose process exits: every thread of Tally rests, and
// what is still called comes back. Each scene is a process of its own; what
// happens to transports is tests/fault's.
#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/park.h"
#include "harness/processes.h"
#include "harness/replica_step.h"
#include "harness/scene.h"
#include "recorder/recorder.h"

#define EXIT_MEANT 41

static char folder[] = "/tmp/tally-exit.XXXXXX";

static void make_folder(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

// What is left to the end of the process is no leak.
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

static int threads_named(const char *wanted)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    int found = 0;

    EXPECT(tasks != NULL);
    while ((entry = readdir(tasks)) != NULL) {
        char path[300], name[32] = "";

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        if (fscanf(file, "%31s", name) == 1)
            found += strcmp(name, wanted) == 0;
        fclose(file);
    }
    closedir(tasks);
    return found;
}

// It names itself once it runs.
static void await_thread(const char *name)
{
    for (int i = 0; i < 5000 && threads_named(name) == 0; i++)
        usleep(1000);
    EXPECT(threads_named(name) > 0);
}

static void see_that_all_rest(void)
{
    EXPECT(park_all());
}

// ------------------------------------------------------------- every thread

static struct replica_step replica;

static const char *const replica_settings[] = {"TALLY_REPLICA_FOLDER",
                                               folder,
                                               "TALLY_RECORDER_FOLDER",
                                               folder,
                                               "TALLY_PLUGIN_PATH",
                                               BUILD_FOLDER "/.libs",
                                               NULL};

static void work_as_a_replica(void)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);

    replica_step_open(&replica, NULL, replica_settings, 0, 1);
    replica_step_count(&replica);
    replica_step_apply(&replica, &verdict);
    await_thread("tally-progress");
    await_thread("tally-replica");
    await_thread("tally-quorum");
    await_thread("tally-recorder");
}

static void exit_as_a_replica(void)
{
    atexit(see_that_all_rest);
    work_as_a_replica();
}

START_TEST(the_threads_of_a_replica_rest)
{
    ck_assert_int_eq(processes_exit_status(exit_as_a_replica, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

static void *close_replica(void *argument)
{
    replica_step_close(&replica);
    return argument;
}

static void close_beside_who_exits(void)
{
    pthread_t beside;

    work_as_a_replica();
    EXPECT(park_all());
    EXPECT(pthread_create(&beside, NULL, close_replica, NULL) == 0);
    EXPECT(pthread_join(beside, NULL) == 0);
    EXPECT(threads_named("tally-replica") == 0); // what it had goes
    EXPECT(threads_named("tally-quorum") > 0);
    EXPECT(threads_named("tally-progress") > 0);
}

START_TEST(what_another_thread_closes_then_is_left_to_the_end)
{
    ck_assert_int_eq(processes_exit_status(close_beside_who_exits, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

static void park_within(struct rendezvous *rendezvous,
                        struct ranks_member *member)
{
    scene_gather_over_all(rendezvous, member);
    if (member->rank == 0) {
        await_thread("tally-tree");
        EXPECT(park_all());
    }
    ranks_barrier(member);
    // They say goodbye as ever when they are closed.
}

static void exit_as_a_tree(void)
{
    scene_run(3, (struct scene){.body = park_within});
    EXPECT(threads_named("tally-tree") == 0);
}

START_TEST(the_threads_of_the_rendezvous_rest_and_may_be_closed)
{
    ck_assert_int_eq(processes_exit_status(exit_as_a_tree, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

// ------------------------------------------------------------ what is called

static void post(tally_step_t *step)
{
    tally_labels_t labels = job_labels(NULL, 0);

    EXPECT(tally_step_begin(step, 1, NULL) == TALLY_OK);
    EXPECT(tally_step_count(step, 0, &labels, NULL) == TALLY_OK);
    EXPECT(tally_step_reduce(step, NULL) == TALLY_OK);
}

static void wait_for_one_that_does_not_come(struct ranks_member *member)
{
    static const char *const settings[] = {"TALLY_TIMEOUT", "0.2", NULL};
    struct job job;

    job_open(&job, member, settings);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    if (member->rank == 0) {
        EXPECT(park_all());
        post(step);
        EXPECT(tally_step_wait(step, NULL) == TALLY_ERR_TIMEOUT);
    }
    ranks_barrier(member);
    EXPECT(tally_step_free(step) == TALLY_OK);
    job_close(&job);
}

static void wait_as_who_exits(void)
{
    ranks_run(2, wait_for_one_that_does_not_come, NULL);
}

START_TEST(who_exits_waits_until_the_deadline_though_no_thread_moves)
{
    ck_assert_int_eq(processes_exit_status(wait_as_who_exits, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

static void wait_while_another_exits(struct ranks_member *member)
{
    struct job job;

    job_open(&job, member, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    if (member->rank == 0)
        post(step);
    ranks_barrier(member);
    if (member->rank == 0) {
        EXPECT(tally_step_wait(step, NULL) == TALLY_ERR_DEAD);
        EXPECT(strcmp(tally_last_error(), "the process exits") == 0);
    } else {
        usleep(20000); // it sleeps by then, most often
        EXPECT(park_all());
    }
    ranks_barrier(member);
    EXPECT(tally_step_free(step) == TALLY_OK);
    job_close(&job);
}

static void wait_beside_who_exits(void)
{
    ranks_run(2, wait_while_another_exits, NULL);
}

START_TEST(a_wait_of_another_thread_ends_and_it_may_close)
{
    ck_assert_int_eq(processes_exit_status(wait_beside_who_exits, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

// The acceptor is the other replica, which does not come.
static void *count_alone(void *argument)
{
    post(replica.step);
    EXPECT(tally_step_wait(replica.step, NULL) == TALLY_ERR_DEAD);
    EXPECT(strcmp(tally_last_error(), "the process exits") == 0);
    return argument;
}

static void wait_for_a_decision_beside_who_exits(void)
{
    pthread_t beside;

    replica_step_open(&replica, NULL, replica_settings, 1, 2);
    EXPECT(pthread_create(&beside, NULL, count_alone, NULL) == 0);
    usleep(50000); // it sleeps by then, most often
    EXPECT(park_all());
    EXPECT(pthread_join(beside, NULL) == 0);
}

START_TEST(a_wait_of_another_thread_for_a_decision_ends)
{
    ck_assert_int_eq(
        processes_exit_status(wait_for_a_decision_beside_who_exits, EXIT_MEANT),
        EXIT_MEANT);
}
END_TEST

// ------------------------------------------------------------- the recorder

static const char *dump_path(void)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/tally-%d-3.json", folder, (int)getpid());
    return path;
}

static void see_the_dump(void)
{
    char text[4096] = "";
    FILE *file = fopen(dump_path(), "r");

    EXPECT(park_all());
    EXPECT(file != NULL);
    EXPECT(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    EXPECT(strstr(text, "the last error") != NULL);
}

static void exit_before_a_dump(void)
{
    const struct recorder_params params = {
        .folder = folder, .job = "exit", .self = {3, 0, 1}};
    struct recorder *recorder;

    atexit(see_the_dump);
    EXPECT(recorder_open(&params, &recorder) == TALLY_OK);
    park_at_exit();
    recorder_error(recorder, "the first error");
    for (int i = 0; i < 5000 && access(dump_path(), F_OK) != 0; i++)
        usleep(1000);
    // Too soon to be written, by itself.
    recorder_error(recorder, "the last error");
}

START_TEST(what_is_to_be_recorded_is_written_before_the_process_ends)
{
    ck_assert_int_eq(processes_exit_status(exit_before_a_dump, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

static void see_no_dump(void)
{
    EXPECT(park_all());
    EXPECT(access(dump_path(), F_OK) != 0);
}

static void exit_without_an_error(void)
{
    const struct recorder_params params = {
        .folder = folder, .job = "exit", .self = {3, 0, 1}};
    struct recorder *recorder;

    atexit(see_no_dump);
    EXPECT(recorder_open(&params, &recorder) == TALLY_OK);
    park_at_exit();
    await_thread("tally-recorder");
}

START_TEST(nothing_is_written_where_nothing_went_wrong)
{
    ck_assert_int_eq(processes_exit_status(exit_without_an_error, EXIT_MEANT),
                     EXIT_MEANT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exit");
    TCase *tests = tcase_create("exit");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_test(tests, the_threads_of_a_replica_rest);
    tcase_add_test(tests, what_another_thread_closes_then_is_left_to_the_end);
    tcase_add_test(tests, the_threads_of_the_rendezvous_rest_and_may_be_closed);
    tcase_add_test(tests,
                   who_exits_waits_until_the_deadline_though_no_thread_moves);
    tcase_add_test(tests, a_wait_of_another_thread_ends_and_it_may_close);
    tcase_add_test(tests,
                   what_is_to_be_recorded_is_written_before_the_process_ends);
    tcase_add_test(tests, a_wait_of_another_thread_for_a_decision_ends);
    tcase_add_test(tests, nothing_is_written_where_nothing_went_wrong);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

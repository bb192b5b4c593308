// SPDX-License-Identifier: BSD-3-Clause
// Tests of collective/watch.h, with children that die.
#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collective/watch.h"

#define CHILDREN 3
#define WORLD 20

// Ranks 2, 4, 6 of the group are the children, rank 0 is the test; world ranks
// are twice that.
struct family {
    int32_t local_ranks[CHILDREN + 1];
    pid_t pids[CHILDREN + 1]; // [0]: the test
    struct topology topology;
    int32_t world_ranks[WORLD / 2];
    struct health *health;
    struct watch *watch;
};

static pid_t child_start(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

// Dead, and seen as a zombie from now on.
static void child_kill(pid_t pid)
{
    siginfo_t info;

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void child_reap(pid_t pid)
{
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void family_start(struct family *family)
{
    family->pids[0] = getpid();
    for (int32_t i = 0; i <= CHILDREN; i++) {
        family->local_ranks[i] = 2 * i;
        if (i > 0)
            family->pids[i] = child_start();
    }
    for (int32_t i = 0; i < WORLD / 2; i++)
        family->world_ranks[i] = 2 * i;
    family->topology = (struct topology){
        .size = WORLD / 2,
        .local_size = CHILDREN + 1,
        .local_ranks = family->local_ranks,
        .local_pids = family->pids,
    };
    ck_assert_int_eq(health_create(WORLD, &family->health), TALLY_OK);
}

static void family_watch(struct family *family)
{
    ck_assert_int_eq(watch_open(&family->topology, family->world_ranks,
                                family->health, &family->watch),
                     TALLY_OK);
}

static void family_end(struct family *family)
{
    watch_close(family->watch);
    health_free(family->health);
    for (int32_t i = 1; i <= CHILDREN; i++)
        if (waitpid(family->pids[i], NULL, WNOHANG) == 0) {
            kill(family->pids[i], SIGKILL);
            child_reap(family->pids[i]);
        }
}

static enum health_state state_of(const struct family *family, int32_t child)
{
    return health_rank(family->health, 4 * child, NULL);
}

static int files_open(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

START_TEST(a_child_that_dies_is_reported_as_died_and_no_other)
{
    struct family family;

    family_start(&family);
    family_watch(&family);
    watch_check(family.watch);
    ck_assert_uint_eq(health_version(family.health), 0);
    child_kill(family.pids[2]);
    watch_check(family.watch);
    ck_assert_int_eq(state_of(&family, 2), HEALTH_DIED);
    ck_assert_uint_eq(health_version(family.health), 1);
    watch_check(family.watch);
    child_kill(family.pids[3]);
    child_reap(family.pids[3]);
    watch_check(family.watch);
    ck_assert_int_eq(state_of(&family, 3), HEALTH_DIED);
    ck_assert_int_eq(state_of(&family, 1), HEALTH_PRESENT);
    ck_assert_uint_eq(health_version(family.health), 2);
    family_end(&family);
}
END_TEST

START_TEST(a_rank_that_closed_before_its_process_ended_has_left)
{
    struct family family;

    family_start(&family);
    family_watch(&family);
    health_report(family.health, 4, HEALTH_LEFT);
    child_kill(family.pids[1]);
    watch_check(family.watch);
    ck_assert_int_eq(state_of(&family, 1), HEALTH_LEFT);
    family_end(&family);
}
END_TEST

START_TEST(a_child_that_only_stops_is_not_reported)
{
    struct family family;
    int status;

    family_start(&family);
    family_watch(&family);
    ck_assert_int_eq(kill(family.pids[1], SIGSTOP), 0);
    ck_assert_int_eq(waitpid(family.pids[1], &status, WUNTRACED),
                     family.pids[1]);
    watch_check(family.watch);
    ck_assert_uint_eq(health_version(family.health), 0);
    family_end(&family);
}
END_TEST

START_TEST(a_process_that_is_gone_already_is_reported_by_the_first_check)
{
    struct family family;

    family_start(&family);
    child_kill(family.pids[1]);
    child_reap(family.pids[1]);
    child_kill(family.pids[2]); // a zombie
    family_watch(&family);
    ck_assert_uint_eq(health_version(family.health), 0);
    watch_check(family.watch);
    ck_assert_int_eq(state_of(&family, 1), HEALTH_DIED);
    ck_assert_int_eq(state_of(&family, 2), HEALTH_DIED);
    ck_assert_int_eq(state_of(&family, 3), HEALTH_PRESENT);
    family_end(&family);
}
END_TEST

// As where the kernel has no pidfd: no descriptors are left.
START_TEST(without_a_pidfd_the_pid_is_asked)
{
    struct family family;
    struct rlimit before;

    family_start(&family);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    // poll refuses more entries than that.
    struct rlimit none = {CHILDREN, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    family_watch(&family);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    watch_check(family.watch);
    ck_assert_uint_eq(health_version(family.health), 0);
    child_kill(family.pids[3]);
    child_reap(family.pids[3]);
    watch_check(family.watch);
    watch_check(family.watch);
    ck_assert_int_eq(state_of(&family, 3), HEALTH_DIED);
    ck_assert_uint_eq(health_version(family.health), 1);
    family_end(&family);
}
END_TEST

START_TEST(threads_of_this_process_and_foreign_namespaces_are_not_watched)
{
    struct family family;
    pid_t child;

    family_start(&family);
    child = family.pids[1];
    family.pids[1] = 0; // of another PID namespace
    int before = files_open();
    family_watch(&family);
    ck_assert_int_eq(files_open(), before + CHILDREN - 1);
    child_kill(child);
    child_reap(child);
    watch_check(family.watch);
    ck_assert_uint_eq(health_version(family.health), 0);
    watch_close(family.watch);
    ck_assert_int_eq(files_open(), before);
    family.watch = NULL;
    family.pids[1] = child;
    family_end(&family);
}
END_TEST

START_TEST(descriptors_are_closed_whoever_died)
{
    struct family family;

    family_start(&family);
    int before = files_open();
    family_watch(&family);
    child_kill(family.pids[1]);
    watch_check(family.watch);
    watch_close(family.watch);
    family.watch = NULL;
    ck_assert_int_eq(files_open(), before);
    family_end(&family);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective watch");
    TCase *tests = tcase_create("watch");

    tcase_add_test(tests, a_child_that_dies_is_reported_as_died_and_no_other);
    tcase_add_test(tests, a_rank_that_closed_before_its_process_ended_has_left);
    tcase_add_test(tests, a_child_that_only_stops_is_not_reported);
    tcase_add_test(
        tests, a_process_that_is_gone_already_is_reported_by_the_first_check);
    tcase_add_test(tests, without_a_pidfd_the_pid_is_asked);
    tcase_add_test(
        tests, threads_of_this_process_and_foreign_namespaces_are_not_watched);
    tcase_add_test(tests, descriptors_are_closed_whoever_died);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of the example trainer's sum of gradients, with processes as ranks.
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trainer/gradient_sum.h"

#define RANKS 3
#define VALUES 100
#define ROUNDS 50
// Below GRADIENT_SUM_PATIENCE_S: a death must be noticed, not waited for.
#define HANG_GUARD_S (GRADIENT_SUM_PATIENCE_S / 2)

static char name[64];

static void name_choose(void)
{
    snprintf(name, sizeof(name), "tally-test-sum.%d", (int)getpid());
}

static void name_remove(void)
{
    char path[80];

    snprintf(path, sizeof(path), "/%s", name);
    shm_unlink(path);
}

static struct gradient_sum_params params_of(int32_t rank, int32_t ranks)
{
    struct gradient_sum_params params = {.name = name,
                                         .rank = rank,
                                         .ranks = ranks,
                                         .values_max = VALUES,
                                         .digest = 1};

    return params;
}

static void processes_start(int32_t ranks, int (*body)(int32_t rank),
                            pid_t *processes)
{
    for (int32_t rank = 0; rank < ranks; rank++) {
        processes[rank] = fork();
        ck_assert_int_ge(processes[rank], 0);
        if (processes[rank] == 0)
            _exit(body(rank));
    }
}

// The exit status, or minus the signal.
static int process_end(pid_t process)
{
    int status;

    ck_assert_int_eq(waitpid(process, &status, 0), process);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Order matters in these: 1e16 + 1 - 1e16 is 0, not 1.
static double offered(int32_t rank, int round, size_t i)
{
    const double by_rank[RANKS] = {1e16, 1, -1e16};

    return by_rank[rank] + (double)round * (double)(i + 1) * (rank + 1);
}

static int sum_rounds(int32_t rank)
{
    struct gradient_sum_params params = params_of(rank, RANKS);
    struct gradient_sum *sum;
    double values[VALUES];

    if (!gradient_sum_open(&params, &sum))
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = round % 2 == 0 ? VALUES : 4;
        for (size_t i = 0; i < count; i++)
            values[i] = offered(rank, round, i);
        if (!gradient_sum_reduce(sum, values, count))
            return 2;
        for (size_t i = 0; i < count; i++) {
            double expected = offered(0, round, i);
            for (int32_t other = 1; other < RANKS; other++)
                expected += offered(other, round, i);
            if (values[i] != expected)
                return 3;
        }
    }
    gradient_sum_close(sum);
    return 0;
}

START_TEST(sums_are_made_in_the_order_of_ranks)
{
    pid_t processes[RANKS];

    processes_start(RANKS, sum_rounds, processes);
    for (int rank = 0; rank < RANKS; rank++)
        ck_assert_int_eq(process_end(processes[rank]), 0);
}
END_TEST

START_TEST(the_segment_has_no_name_once_all_have_come)
{
    pid_t processes[RANKS];
    char path[80];

    processes_start(RANKS, sum_rounds, processes);
    for (int rank = 0; rank < RANKS; rank++)
        ck_assert_int_eq(process_end(processes[rank]), 0);
    snprintf(path, sizeof(path), "/%s", name);
    ck_assert_int_lt(shm_open(path, O_RDWR, 0), 0);
}
END_TEST

// Rank 1 goes after the first sum; 0 if this rank's second sum failed.
static int sum_until(int32_t rank, bool abandon)
{
    struct gradient_sum_params params = params_of(rank, RANKS);
    struct gradient_sum *sum;
    double value = 1;

    if (!gradient_sum_open(&params, &sum))
        return 1;
    if (!gradient_sum_reduce(sum, &value, 1) || value != RANKS)
        return 2;
    if (rank == 1 && !abandon)
        raise(SIGKILL);
    if (rank == 1) {
        gradient_sum_abandon(sum);
        pause(); // it is alive, so its lock is held
    }
    bool went_on = gradient_sum_reduce(sum, &value, 1);
    gradient_sum_close(sum);
    return went_on ? 3 : 0;
}

static int sum_until_death(int32_t rank)
{
    return sum_until(rank, false);
}

START_TEST(a_rank_that_dies_makes_the_others_fail)
{
    pid_t processes[RANKS];

    processes_start(RANKS, sum_until_death, processes);
    ck_assert_int_eq(process_end(processes[0]), 0);
    ck_assert_int_eq(process_end(processes[2]), 0);
    ck_assert_int_eq(process_end(processes[1]), -SIGKILL);
}
END_TEST

static int sum_until_abandoned(int32_t rank)
{
    return sum_until(rank, true);
}

START_TEST(a_rank_that_gives_up_makes_the_others_fail)
{
    pid_t processes[RANKS];

    processes_start(RANKS, sum_until_abandoned, processes);
    ck_assert_int_eq(process_end(processes[0]), 0);
    ck_assert_int_eq(process_end(processes[2]), 0);
    kill(processes[1], SIGKILL); // it lived on
    ck_assert_int_eq(process_end(processes[1]), -SIGKILL);
}
END_TEST

// Rank 0 of 2, which waits for the other. When the segment has its size, rank 0
// has joined or holds the lock of the set-up.
static pid_t first_rank_start(void)
{
    struct gradient_sum_params params = params_of(0, 2);
    struct gradient_sum *sum;
    off_t size = 0;
    char path[80];

    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        gradient_sum_open(&params, &sum);
        _exit(0);
    }
    snprintf(path, sizeof(path), "/%s", name);
    while (size == 0) {
        int file = shm_open(path, O_RDWR, 0);
        usleep(1000);
        if (file < 0)
            continue;
        size = lseek(file, 0, SEEK_END);
        close(file);
    }
    return child;
}

static void first_rank_end(pid_t child)
{
    kill(child, SIGKILL);
    ck_assert_int_eq(process_end(child), -SIGKILL);
}

START_TEST(a_second_rank_of_the_same_number_is_refused)
{
    struct gradient_sum_params params = params_of(0, 2);
    struct gradient_sum *sum;
    pid_t child = first_rank_start();

    ck_assert(!gradient_sum_open(&params, &sum));
    first_rank_end(child);
}
END_TEST

START_TEST(a_rank_with_other_options_is_refused)
{
    struct gradient_sum_params params = params_of(1, 2);
    struct gradient_sum *sum;
    pid_t child = first_rank_start();

    params.digest = 2;
    ck_assert(!gradient_sum_open(&params, &sum));
    params.digest = 1;
    params.values_max = VALUES + 1;
    ck_assert(!gradient_sum_open(&params, &sum));
    first_rank_end(child);
}
END_TEST

START_TEST(ranks_without_a_name_are_refused)
{
    struct gradient_sum_params params = params_of(0, 2);
    struct gradient_sum *sum;

    params.name = NULL;
    ck_assert(!gradient_sum_open(&params, &sum));
}
END_TEST

START_TEST(one_rank_needs_no_segment)
{
    struct gradient_sum_params params = params_of(0, 1);
    struct gradient_sum *sum;
    double value = 7;

    params.name = NULL;
    ck_assert(gradient_sum_open(&params, &sum));
    ck_assert(gradient_sum_reduce(sum, &value, 1));
    ck_assert_double_eq(value, 7);
    gradient_sum_abandon(sum);
    gradient_sum_close(sum);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer: sum of gradients");
    TCase *sums = tcase_create("sums");

    tcase_add_checked_fixture(sums, name_choose, name_remove);
    tcase_set_timeout(sums, HANG_GUARD_S);
    tcase_add_test(sums, sums_are_made_in_the_order_of_ranks);
    tcase_add_test(sums, the_segment_has_no_name_once_all_have_come);
    tcase_add_test(sums, a_rank_that_dies_makes_the_others_fail);
    tcase_add_test(sums, a_rank_that_gives_up_makes_the_others_fail);
    tcase_add_test(sums, a_second_rank_of_the_same_number_is_refused);
    tcase_add_test(sums, a_rank_with_other_options_is_refused);
    tcase_add_test(sums, ranks_without_a_name_are_refused);
    tcase_add_test(sums, one_rank_needs_no_segment);
    suite_add_tcase(suite, sums);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Ends, among processes: ranks that die or leave, before all have come and
// afterwards, and exchanges that some do not take part in.
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "harness/processes.h"
#include "harness/rendezvous.h"

static const enum processes_end rank_1_is_killed[PROCESSES_MAX] = {
    [1] = PROCESSES_IS_KILLED};
static const enum processes_end rank_0_is_killed[PROCESSES_MAX] = {
    [0] = PROCESSES_IS_KILLED};

static struct exchange_group all_of(const struct processes_member *member)
{
    static const int32_t ranks[PROCESSES_MAX] = {0, 1, 2, 3, 4, 5, 6, 7};

    return (struct exchange_group){ranks, member->size, member->rank, "all", 0};
}

static void open_rank(struct rendezvous *rendezvous,
                      struct processes_member *member, double timeout_s)
{
    rendezvous_prepare(rendezvous, member->rank, member->size,
                       *(const uint16_t *)member->argument);
    rendezvous->params.timeout_us = (int64_t)(timeout_s * 1e6);
    rendezvous_open(rendezvous);
}

// Waits until a rank's state is known, at most five seconds.
static enum health_state await_news(struct rendezvous *rendezvous, int32_t rank)
{
    int64_t end_us = clock_now_us() + 5000000;
    enum health_state state = HEALTH_PRESENT;

    while (state == HEALTH_PRESENT && clock_now_us() < end_us) {
        usleep(1000);
        state = health_rank(rendezvous->health, rank, NULL);
    }
    return state;
}

static int run(int32_t size, void (*body)(struct processes_member *member),
               const enum processes_end *ends)
{
    int fd;
    uint16_t port = rendezvous_port(&fd);
    int result = processes_run(size, body, &port, ends);

    close(fd);
    return result;
}

// A child of the root, the root, and ranks that share only the root with them.
static void killed_rank(struct processes_member *member, int32_t killed)
{
    struct rendezvous rendezvous;
    struct exchange_group group = all_of(member);

    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_OK);
    EXPECT(rendezvous_gather(&rendezvous, &group, 1) == TALLY_OK);
    processes_barrier(member);
    if (member->rank == killed)
        raise(SIGKILL);
    EXPECT(await_news(&rendezvous, killed) == HEALTH_DIED);
    // An exchange with the dead does not wait for the deadline.
    int64_t before_us = clock_now_us();
    EXPECT(rendezvous_gather(&rendezvous, &group, 2) == TALLY_ERR_PEER);
    EXPECT(clock_now_us() < before_us + 5000000);
    if (killed != 0) {
        int32_t missing[PROCESSES_MAX];
        EXPECT(bootstrap_missing(rendezvous.exchange, missing) == 1);
        EXPECT(missing[0] == killed);
        EXPECT(strcmp(core_error_text(), "rank 1 died") == 0);
    }
    rendezvous_close(&rendezvous);
}

static void rank_1_dies(struct processes_member *member)
{
    killed_rank(member, 1);
}

static void rank_0_dies(struct processes_member *member)
{
    killed_rank(member, 0);
}

START_TEST(a_death_is_news_to_all_and_ends_exchanges)
{
    ck_assert_int_eq(run(5, rank_1_dies, rank_1_is_killed), 0);
}
END_TEST

START_TEST(the_death_of_the_root_is_news_too)
{
    ck_assert_int_eq(run(4, rank_0_dies, rank_0_is_killed), 0);
}
END_TEST

static void forking_rank_dies(struct processes_member *member)
{
    struct rendezvous rendezvous;

    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_OK);
    // A data loader's worker, that outlives its rank.
    if (member->rank == 1 && fork() == 0) {
        sleep(10);
        _exit(EXIT_SUCCESS);
    }
    processes_barrier(member);
    if (member->rank == 1)
        raise(SIGKILL);
    EXPECT(await_news(&rendezvous, 1) == HEALTH_DIED);
    rendezvous_close(&rendezvous);
}

START_TEST(a_rank_whose_child_lives_on_is_dead_all_the_same)
{
    ck_assert_int_eq(run(3, forking_rank_dies, rank_1_is_killed), 0);
}
END_TEST

static void one_leaves(struct processes_member *member)
{
    struct rendezvous rendezvous;
    struct exchange_group group = all_of(member);

    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_OK);
    EXPECT(rendezvous_gather(&rendezvous, &group, 1) == TALLY_OK);
    processes_barrier(member);
    if (member->rank == 2) {
        int64_t before_us = clock_now_us();

        rendezvous_close(&rendezvous);
        EXPECT(clock_now_us() < before_us + 900000);
        processes_barrier(member);
        return;
    }
    EXPECT(await_news(&rendezvous, 2) == HEALTH_LEFT);
    processes_barrier(member);
    EXPECT(rendezvous_gather(&rendezvous, &group, 2) == TALLY_ERR_PEER);
    EXPECT(strcmp(core_error_text(), "rank 2 left (tally_close)") == 0);
    // The others go on by themselves.
    static const int32_t rest[] = {0, 1, 3};
    struct exchange_group without = {
        rest, 3, member->rank == 3 ? 2 : member->rank, "rest", 0};
    EXPECT(rendezvous_gather(&rendezvous, &without, 3) == TALLY_OK);
    rendezvous_close(&rendezvous);
}

START_TEST(a_rank_that_leaves_is_not_dead_and_the_rest_goes_on)
{
    ck_assert_int_eq(run(4, one_leaves, NULL), 0);
}
END_TEST

static void everybody_leaves_at_once(struct processes_member *member)
{
    struct rendezvous rendezvous;

    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_OK);
    processes_barrier(member);
    int64_t before_us = clock_now_us();
    if (rendezvous.exchange != NULL)
        exchange_close(rendezvous.exchange);
    rendezvous.exchange = NULL;
    EXPECT(clock_now_us() < before_us + 900000);
    for (int32_t rank = 0; rank < member->size; rank++)
        EXPECT(health_rank(rendezvous.health, rank, NULL) != HEALTH_DIED);
    rendezvous_close(&rendezvous);
}

START_TEST(nobody_who_leaves_is_taken_for_dead)
{
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(run(8, everybody_leaves_at_once, NULL), 0);
}
END_TEST

static void dies_before_all_came(struct processes_member *member)
{
    struct rendezvous rendezvous;

    // Rank 2 of 4 does not come until rank 1, which waits, was killed.
    if (member->rank == 2) {
        usleep(2000000);
        kill(processes_pid(member, 1), SIGKILL);
        return;
    }
    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_ERR_BOOTSTRAP);
    EXPECT(strcmp(rendezvous.sentence,
                  "rank 1 died before all ranks had come") == 0);
    rendezvous_close(&rendezvous);
}

START_TEST(a_death_before_all_have_come_ends_the_wait)
{
    ck_assert_int_eq(run(4, dies_before_all_came, rank_1_is_killed), 0);
}
END_TEST

static void root_dies_before_all_came(struct processes_member *member)
{
    struct rendezvous rendezvous;

    if (member->rank == 2) {
        usleep(2000000);
        kill(processes_pid(member, 0), SIGKILL);
        return;
    }
    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_ERR_BOOTSTRAP);
    EXPECT(strcmp(rendezvous.sentence, "the connection to rank 0 broke before "
                                       "all ranks had come") == 0);
    rendezvous_close(&rendezvous);
}

START_TEST(the_death_of_the_root_ends_the_wait)
{
    ck_assert_int_eq(run(4, root_dies_before_all_came, rank_0_is_killed), 0);
}
END_TEST

static void one_does_not_exchange(struct processes_member *member)
{
    struct rendezvous rendezvous;
    struct exchange_group group = all_of(member);
    int32_t missing[PROCESSES_MAX];

    open_rank(&rendezvous, member, 5);
    EXPECT(rendezvous.status == TALLY_OK);
    if (member->rank != 2) {
        EXPECT(rendezvous_gather(&rendezvous, &group, 1) == TALLY_ERR_TIMEOUT);
        EXPECT(strcmp(core_error_text(), "rank 2 did not come within 5 s") ==
               0);
        EXPECT(bootstrap_missing(rendezvous.exchange, missing) == 1);
        EXPECT(missing[0] == 2);
    }
    processes_barrier(member);
    // Afterwards exchanges work again.
    struct exchange_group again = all_of(member);
    again.key = "again";
    EXPECT(rendezvous_gather(&rendezvous, &again, 2) == TALLY_OK);
    EXPECT(bootstrap_missing(rendezvous.exchange, missing) == 0);
    processes_barrier(member);
    rendezvous_close(&rendezvous);
}

START_TEST(who_does_not_exchange_is_named_by_the_deadline)
{
    ck_assert_int_eq(run(4, one_does_not_exchange, NULL), 0);
}
END_TEST

static void others_exchange_other_sizes(struct processes_member *member)
{
    struct rendezvous rendezvous;
    struct exchange_group group = all_of(member);
    char part[16] = "";
    char all[16 * PROCESSES_MAX];

    open_rank(&rendezvous, member, 20);
    EXPECT(rendezvous.status == TALLY_OK);
    // Rank 0 is first, rank 1 disagrees.
    if (member->rank == 1)
        usleep(1000000);
    EXPECT(exchange_allgather(rendezvous.exchange, &group, part, all,
                              member->rank == 1 ? 16 : 8) ==
           TALLY_ERR_MISMATCH);
    EXPECT(strcmp(core_error_text(), "rank 1 exchanges 16 bytes with 2 ranks, "
                                     "rank 0 exchanges 8 bytes with 2") == 0);
    processes_barrier(member);
    rendezvous_close(&rendezvous);
}

START_TEST(parts_of_different_sizes_are_named)
{
    ck_assert_int_eq(run(2, others_exchange_other_sizes, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap ends");
    TCase *tcase = tcase_create("ends");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_death_is_news_to_all_and_ends_exchanges);
    tcase_add_test(tcase, the_death_of_the_root_is_news_too);
    tcase_add_test(tcase, a_rank_whose_child_lives_on_is_dead_all_the_same);
    tcase_add_test(tcase, a_rank_that_leaves_is_not_dead_and_the_rest_goes_on);
    tcase_add_test(tcase, nobody_who_leaves_is_taken_for_dead);
    tcase_add_test(tcase, a_death_before_all_have_come_ends_the_wait);
    tcase_add_test(tcase, the_death_of_the_root_ends_the_wait);
    tcase_add_test(tcase, who_does_not_exchange_is_named_by_the_deadline);
    tcase_add_test(tcase, parts_of_different_sizes_are_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

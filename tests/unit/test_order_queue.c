// SPDX-License-Identifier: BSD-3-Clause
// Tests of order/queue.h: the order of results, and how a group ends. No clock
// is read: the tests say what time it is.
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "harness/queues.h"

#define TIMEOUT_US 2000000
#define GRACE_US 500000

static struct queues queues;

static struct queue *queue_of(int32_t rank)
{
    return queues.ranks[rank].queue;
}

static tally_status_t result(int32_t rank, uint64_t ticket)
{
    int64_t lanes[QUEUES_LANES];
    tally_status_t status = queue_result(queue_of(rank), ticket, lanes);

    if (status == TALLY_OK)
        ck_assert(queues_right(&queues, ticket, lanes));
    return status;
}

static void move_all(void)
{
    for (int32_t i = 0; i < 100; i++)
        queues_move(&queues, i % queues.job.size);
}

static void assert_fate(int32_t rank, tally_status_t status, int32_t failed,
                        const char *sentence)
{
    const struct queues_rank *each = &queues.ranks[rank];

    ck_assert_int_eq(each->fate.status, status);
    ck_assert_int_eq(each->fate.failed_rank, failed);
    ck_assert_str_eq(each->fate.sentence, sentence);
}

// -------------------------------------------------------------- results

START_TEST(reductions_complete_in_the_order_of_their_posting)
{
    struct fake_options options = fake_options_calm(1);

    queues_open(&queues, 3, &options, TIMEOUT_US);
    for (uint64_t ticket = 1; ticket <= 5; ticket++)
        ck_assert_uint_eq(queues_post(&queues, 0), ticket);
    ck_assert(queue_pending(queue_of(0)));
    move_all();
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    for (int32_t rank = 1; rank < 3; rank++)
        for (int i = 0; i < 3; i++)
            queues_post(&queues, rank);
    move_all();
    for (uint64_t ticket = 1; ticket <= 3; ticket++)
        ck_assert_int_eq(result(0, ticket), TALLY_OK);
    ck_assert_int_eq(result(0, 4), TALLY_NOT_YET);
    ck_assert_int_eq(result(0, 5), TALLY_NOT_YET);
    ck_assert(queue_pending(queue_of(0)));
    ck_assert(!queue_pending(queue_of(1)));
    ck_assert_int_eq(queues.ranks[0].fate.status, TALLY_OK);
    queues_close(&queues);
}
END_TEST

START_TEST(results_stay_for_a_whole_ring_and_are_then_said_to_be_gone)
{
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    for (uint64_t ticket = 1; ticket <= 3 * QUEUE_SLOTS; ticket++) {
        queues_post(&queues, 0);
        queues_post(&queues, 1);
        move_all();
        for (uint64_t old = 1; old <= ticket; old++)
            ck_assert_int_eq(result(0, old), old + QUEUE_SLOTS > ticket
                                                 ? TALLY_OK
                                                 : TALLY_ERR_OVERWRITTEN);
    }
    queues_close(&queues);
}
END_TEST

START_TEST(what_was_posted_is_copied)
{
    int64_t lanes[QUEUES_LANES];

    queues_open(&queues, 2, NULL, TIMEOUT_US);
    queues_fill(&queues, 0, 1, lanes);
    queue_post(queue_of(0), lanes, 1);
    memset(lanes, 0, sizeof(lanes));
    queues_post(&queues, 1);
    move_all();
    ck_assert_int_eq(result(0, 1), TALLY_OK);
    queues_close(&queues);
}
END_TEST

// ------------------------------------------------------------- deadline

START_TEST(the_deadline_ends_all_and_names_the_awaited_rank)
{
    struct fake_options options = fake_options_calm(1);
    const int64_t begin_us = 1000;

    queues_open(&queues, 3, &options, TIMEOUT_US);
    for (int i = 0; i < 3; i++)
        queues_post(&queues, 0);
    queues_post(&queues, 2);
    move_all();
    queue_check(queue_of(0), begin_us);
    queue_check(queue_of(0), begin_us + TIMEOUT_US - 1);
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    queue_check(queue_of(0), begin_us + TIMEOUT_US);
    for (uint64_t ticket = 1; ticket <= 3; ticket++)
        ck_assert_int_eq(result(0, ticket), TALLY_ERR_TIMEOUT);
    assert_fate(0, TALLY_ERR_TIMEOUT, 101,
                "timed out after 2 s waiting for rank 101");
    ck_assert_int_eq(queues.ranks[0].logged, 1);
    ck_assert_str_eq(queues.ranks[0].line,
                     "group \"dp\", epoch 1: timed out after 2 s waiting for "
                     "rank 101");
    // So does all that comes later, without a word.
    uint64_t ticket = queues_post(&queues, 0);
    move_all();
    ck_assert_int_eq(result(0, ticket), TALLY_ERR_TIMEOUT);
    ck_assert_int_eq(queues.ranks[0].logged, 1);
    queues_close(&queues);
}
END_TEST

START_TEST(each_reduction_has_the_whole_time)
{
    int64_t now_us = 1000;

    queues_open(&queues, 2, NULL, TIMEOUT_US);
    queues_post(&queues, 0);
    queues_post(&queues, 0);
    for (uint64_t ticket = 1; ticket <= 2; ticket++) {
        move_all();
        queue_check(queue_of(0), now_us);
        now_us += TIMEOUT_US - 1;
        queue_check(queue_of(0), now_us);
        ck_assert_int_eq(result(0, ticket), TALLY_NOT_YET);
        queues_post(&queues, 1);
        move_all();
        ck_assert_int_eq(result(0, ticket), TALLY_OK);
    }
    // Nothing is under way: no time passes.
    queue_check(queue_of(0), now_us + 10 * TIMEOUT_US);
    queues_post(&queues, 0);
    move_all();
    queue_check(queue_of(0), now_us + 10 * TIMEOUT_US);
    ck_assert_int_eq(queues.ranks[0].fate.status, TALLY_OK);
    queues_close(&queues);
}
END_TEST

// ------------------------------------------------------- ranks that are gone

struct gone {
    enum health_state state;
    const char *sentence;
};

static const struct gone gone[] = {
    {HEALTH_DIED, "rank 101 died in mid-step"},
    {HEALTH_LEFT, "rank 101 left (tally_close) in mid-step"},
    {HEALTH_LOST, "rank 101 was lost by the transport in mid-step"},
};

static int64_t reported_us(int32_t world_rank)
{
    int64_t time_us;

    health_rank(queues.health, world_rank, &time_us);
    return time_us;
}

static void post_and_report(enum health_state state)
{
    queues_post(&queues, 0);
    queues_post(&queues, 0);
    move_all();
    health_report(queues.health, 101, state);
}

START_TEST(a_rank_that_is_gone_ends_the_group_after_a_grace_of_half_a_second)
{
    queues_open(&queues, 3, NULL, TIMEOUT_US);
    post_and_report(gone[_i].state);
    int64_t time_us = reported_us(101);
    queue_check(queue_of(0), time_us);
    queue_check(queue_of(0), time_us + GRACE_US - 1);
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    queue_check(queue_of(0), time_us + GRACE_US);
    ck_assert_int_eq(result(0, 1), TALLY_ERR_PEER);
    ck_assert_int_eq(result(0, 2), TALLY_ERR_PEER);
    assert_fate(0, TALLY_ERR_PEER, 101, gone[_i].sentence);
    queues_close(&queues);
}
END_TEST

START_TEST(what_a_rank_sent_before_it_went_counts)
{
    int64_t lanes[QUEUES_LANES];

    queues_open(&queues, 2, NULL, TIMEOUT_US);
    post_and_report(HEALTH_LEFT);
    queue_check(queue_of(0), reported_us(101) + GRACE_US / 2);
    queues_post(&queues, 1); // in time
    move_all();
    ck_assert_int_eq(result(0, 1), TALLY_OK);
    ck_assert_int_eq(queue_result(queue_of(0), 2, lanes), TALLY_NOT_YET);
    queue_check(queue_of(0), reported_us(101) + GRACE_US);
    ck_assert_int_eq(result(0, 2), TALLY_ERR_PEER);
    queues_close(&queues);
}
END_TEST

START_TEST(a_rank_that_left_when_it_had_done_its_part_does_not_matter)
{
    queues_open(&queues, 3, NULL, TIMEOUT_US);
    queues_post(&queues, 0);
    queues_post(&queues, 2);
    move_all();
    health_report(queues.health, 102, HEALTH_LEFT);
    queue_check(queue_of(0), reported_us(102));
    queue_check(queue_of(0), reported_us(102) + 3 * GRACE_US);
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET); // rank 101 is late
    queues_post(&queues, 1);
    move_all();
    ck_assert_int_eq(result(0, 1), TALLY_OK);
    queues_close(&queues);
}
END_TEST

START_TEST(the_first_to_go_is_named)
{
    queues_open(&queues, 4, NULL, TIMEOUT_US);
    queues_post(&queues, 0);
    move_all();
    health_report(queues.health, 103, HEALTH_DIED);
    while (clock_now_us() == reported_us(103))
        continue;
    health_report(queues.health, 101, HEALTH_LEFT);
    queue_check(queue_of(0), reported_us(101) + GRACE_US);
    assert_fate(0, TALLY_ERR_PEER, 103, "rank 103 died in mid-step");
    queues_close(&queues);
}
END_TEST

START_TEST(how_a_lost_rank_went_is_learnt_while_it_is_waited_for)
{
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    post_and_report(HEALTH_LOST);
    int64_t lost_us = reported_us(101);
    queue_check(queue_of(0), lost_us + 1);
    health_report(queues.health, 101, HEALTH_LEFT);
    queue_check(queue_of(0), lost_us + GRACE_US); // since it was lost
    assert_fate(0, TALLY_ERR_PEER, 101,
                "rank 101 left (tally_close) in mid-step");
    queues_close(&queues);
}
END_TEST

START_TEST(ranks_of_other_groups_do_not_matter)
{
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    queues_post(&queues, 0);
    move_all();
    health_report(queues.health, 102, HEALTH_DIED);
    health_report(queues.health, 0, HEALTH_DIED); // an index is no world rank
    queue_check(queue_of(0), reported_us(102) + 2 * GRACE_US);
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    queues_close(&queues);
}
END_TEST

START_TEST(a_rank_that_went_while_nothing_was_under_way_is_seen_by_the_next)
{
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    health_report(queues.health, 101, HEALTH_DIED);
    queue_check(queue_of(0), reported_us(101) + GRACE_US);
    ck_assert_int_eq(queues.ranks[0].fate.status, TALLY_OK);
    queues_post(&queues, 0);
    move_all();
    queue_check(queue_of(0), reported_us(101) + GRACE_US);
    ck_assert_int_eq(result(0, 1), TALLY_ERR_PEER);
    queues_close(&queues);
}
END_TEST

START_TEST(the_watch_is_looked_at_while_a_reduction_is_under_way)
{
    int32_t local_ranks[] = {1};
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    struct topology topology = {
        .local_size = 1, .local_ranks = local_ranks, .local_pids = &pid};
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    struct queue *queue = queue_of(0);
    ck_assert_int_eq(
        watch_open(&topology, queue->ranks, queues.health, &queue->watch),
        TALLY_OK);
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    queue_check(queue, 1000000);
    ck_assert_uint_eq(health_version(queues.health), 0);
    queues_post(&queues, 0);
    move_all();
    queue_check(queue, 1000000);
    ck_assert_int_eq(health_rank(queues.health, 101, NULL), HEALTH_DIED);
    watch_close(queue->watch);
    queue->watch = NULL;
    queues_close(&queues);
}
END_TEST

// ----------------------------------------------------- broken transports

static void open_unreachable(void)
{
    struct fake_options options = fake_options_calm(1);

    options.unreachable = 1;
    queues_open(&queues, 2, &options, 10 * TIMEOUT_US);
    queues_post(&queues, 0);
    queues_post(&queues, 0);
    move_all();
}

static const char no_route[] =
    "connection to rank 1 of the group (world rank 101), stage 0 of reduction "
    "1: no route to peer 101";

START_TEST(a_transport_that_gives_up_ends_the_group_after_twice_the_grace)
{
    open_unreachable();
    queue_check(queue_of(0), 1000);
    move_all();
    queue_check(queue_of(0), 1000 + 2 * GRACE_US - 1);
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    queue_check(queue_of(0), 1000 + 2 * GRACE_US);
    ck_assert_int_eq(result(0, 1), TALLY_ERR_PEER);
    ck_assert_int_eq(result(0, 2), TALLY_ERR_PEER);
    assert_fate(0, TALLY_ERR_PEER, 101, no_route);
    queues_close(&queues);
}
END_TEST

START_TEST(a_report_of_who_went_is_better_than_the_word_of_a_transport)
{
    open_unreachable();
    health_report(queues.health, 101, HEALTH_DIED);
    queue_check(queue_of(0), reported_us(101));
    ck_assert_int_eq(result(0, 1), TALLY_NOT_YET);
    queue_check(queue_of(0), reported_us(101) + GRACE_US);
    assert_fate(0, TALLY_ERR_PEER, 101, "rank 101 died in mid-step");
    queues_close(&queues);
}
END_TEST

START_TEST(any_other_error_ends_the_group_at_once)
{
    struct fake_options options = fake_options_calm(1);

    options.garbling = 1;
    queues_open(&queues, 2, &options, TIMEOUT_US);
    queues_post(&queues, 0);
    queues_post(&queues, 0);
    queues_post(&queues, 1);
    move_all();
    ck_assert_int_eq(result(0, 1), TALLY_ERR_TRANSPORT);
    ck_assert_int_eq(result(0, 2), TALLY_ERR_TRANSPORT);
    assert_fate(0, TALLY_ERR_TRANSPORT, 101,
                "message from rank 1 of the group (world rank 101), stage 0 of "
                "reduction 1: it is no message of this version of Tally");
    queues_close(&queues);
}
END_TEST

START_TEST(queues_of_one_group_share_its_fate)
{
    queues_open(&queues, 2, NULL, TIMEOUT_US);
    queue_of(1)->fate = &queues.ranks[0].fate; // as if another step's
    queues_post(&queues, 0);
    move_all();
    queue_check(queue_of(0), 1000);
    queue_check(queue_of(0), 1000 + TIMEOUT_US);
    ck_assert_int_eq(result(0, 1), TALLY_ERR_TIMEOUT);
    queues_post(&queues, 1);
    queues_move(&queues, 1);
    ck_assert_int_eq(result(1, 1), TALLY_ERR_TIMEOUT);
    ck_assert_int_eq(queues.ranks[0].logged + queues.ranks[1].logged, 1);
    queues_close(&queues);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order queue");
    TCase *tests = tcase_create("queue");

    tcase_add_test(tests, reductions_complete_in_the_order_of_their_posting);
    tcase_add_test(tests,
                   results_stay_for_a_whole_ring_and_are_then_said_to_be_gone);
    tcase_add_test(tests, what_was_posted_is_copied);
    tcase_add_test(tests, the_deadline_ends_all_and_names_the_awaited_rank);
    tcase_add_test(tests, each_reduction_has_the_whole_time);
    tcase_add_loop_test(
        tests,
        a_rank_that_is_gone_ends_the_group_after_a_grace_of_half_a_second, 0,
        sizeof(gone) / sizeof(gone[0]));
    tcase_add_test(tests, what_a_rank_sent_before_it_went_counts);
    tcase_add_test(tests,
                   a_rank_that_left_when_it_had_done_its_part_does_not_matter);
    tcase_add_test(tests, the_first_to_go_is_named);
    tcase_add_test(tests,
                   how_a_lost_rank_went_is_learnt_while_it_is_waited_for);
    tcase_add_test(tests, ranks_of_other_groups_do_not_matter);
    tcase_add_test(
        tests,
        a_rank_that_went_while_nothing_was_under_way_is_seen_by_the_next);
    tcase_add_test(tests,
                   the_watch_is_looked_at_while_a_reduction_is_under_way);
    tcase_add_test(
        tests, a_transport_that_gives_up_ends_the_group_after_twice_the_grace);
    tcase_add_test(tests,
                   a_report_of_who_went_is_better_than_the_word_of_a_transport);
    tcase_add_test(tests, any_other_error_ends_the_group_at_once);
    tcase_add_test(tests, queues_of_one_group_share_its_fate);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of order/progress.h: reductions move whoever calls, or nobody; what is
// attached and dropped, and when. Times are only bounds beyond which it hangs.
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "harness/queues.h"
#include "order/progress.h"

#define LONG_US 60000000
// The thread goes to sleep after a second.
#define ASLEEP_MS 1300
#define HANG_MS 20000

static struct queues queues;
static struct progress *progress;

static void sleep_ms(int64_t ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

static void progress_open(void)
{
    struct progress_params params = {.spin_us = 50};

    ck_assert_int_eq(progress_create(&params, &progress), TALLY_OK);
}

// All ranks of a job, moved by one engine.
static void engine_open(int32_t size, const struct fake_options *options,
                        int64_t timeout_us)
{
    queues_open(&queues, size, options, timeout_us);
    progress_open();
    for (int32_t rank = 0; rank < size; rank++) {
        if (options != NULL)
            ck_assert_int_eq(progress_add_transport(
                                 progress, fake_network_ops(queues.job.network),
                                 queues.job.ranks[rank].transport),
                             TALLY_OK);
        progress_attach(progress, queues.ranks[rank].queue);
    }
    ck_assert_int_eq(progress_start(progress), TALLY_OK);
}

static void engine_close(void)
{
    for (int32_t rank = 0; rank < queues.job.size; rank++) {
        progress_detach(progress, queues.ranks[rank].queue);
        progress_drop_transport(progress, queues.job.ranks[rank].transport);
    }
    progress_free(progress);
    queues_close(&queues);
}

static uint64_t post(int32_t rank, uint64_t ticket)
{
    int64_t lanes[QUEUES_LANES];

    queues_fill(&queues, rank, ticket, lanes);
    return progress_post(progress, queues.ranks[rank].queue, lanes, ticket);
}

static void post_all(uint64_t ticket)
{
    for (int32_t rank = 0; rank < queues.job.size; rank++)
        ck_assert_uint_eq(post(rank, ticket), ticket);
}

static tally_status_t look(int32_t rank, uint64_t ticket)
{
    int64_t lanes[QUEUES_LANES];

    progress_lock(progress);
    tally_status_t status =
        queue_result(queues.ranks[rank].queue, ticket, lanes);
    progress_unlock(progress);
    if (status == TALLY_OK)
        ck_assert(queues_right(&queues, ticket, lanes));
    return status;
}

// Looks without moving anything.
static tally_status_t look_long(int32_t rank, uint64_t ticket)
{
    tally_status_t status = TALLY_NOT_YET;

    for (int64_t ms = 0; ms < HANG_MS && status == TALLY_NOT_YET; ms++) {
        status = look(rank, ticket);
        sleep_ms(1);
    }
    return status;
}

static tally_status_t wait_for(int32_t rank, uint64_t ticket)
{
    int64_t lanes[QUEUES_LANES];
    tally_status_t status =
        progress_wait(progress, queues.ranks[rank].queue, ticket, lanes);

    if (status == TALLY_OK && !queues_right(&queues, ticket, lanes))
        ck_abort_msg("rank %d, ticket %d", (int)rank, (int)ticket);
    return status;
}

// ------------------------------------------------------------- who moves

static struct fake_options options_slow(void)
{
    struct fake_options options = fake_options_calm(5);

    options.send_delay_max = 4;
    options.arrival_delay_max = 4;
    return options;
}

START_TEST(the_thread_moves_reductions_when_nobody_calls)
{
    struct fake_options options = options_slow();

    engine_open(4, &options, LONG_US);
    for (uint64_t ticket = 1; ticket <= 5; ticket++) {
        post_all(ticket);
        for (int32_t rank = 0; rank < 4; rank++)
            ck_assert_int_eq(look_long(rank, ticket), TALLY_OK);
    }
    engine_close();
}
END_TEST

START_TEST(a_post_wakes_the_thread_from_its_sleep)
{
    engine_open(2, NULL, LONG_US);
    sleep_ms(ASLEEP_MS);
    // Only the thread can end this one: no move of a post comes after the last.
    progress_lock(progress);
    queues_post(&queues, 0);
    progress_unlock(progress);
    post(1, 1);
    ck_assert_int_eq(look_long(1, 1), TALLY_OK);
    ck_assert_int_eq(look_long(0, 1), TALLY_OK);
    engine_close();
}
END_TEST

START_TEST(the_thread_keeps_the_deadline_when_nobody_calls)
{
    engine_open(3, NULL, 100000);
    post(0, 1);
    post(2, 1);
    ck_assert_int_eq(look_long(0, 1), TALLY_ERR_TIMEOUT);
    progress_lock(progress);
    ck_assert_int_eq(queues.ranks[0].fate.failed_rank, 101);
    ck_assert_str_eq(queues.ranks[0].fate.sentence,
                     "timed out after 0.1 s waiting for rank 101");
    progress_unlock(progress);
    engine_close();
}
END_TEST

START_TEST(a_wait_returns_the_result_or_the_error_of_the_deadline)
{
    struct fake_options options = options_slow();

    engine_open(3, &options, 300000);
    for (uint64_t ticket = 1; ticket <= 20; ticket++) {
        post_all(ticket);
        for (int32_t rank = 0; rank < 3; rank++)
            ck_assert_int_eq(wait_for(rank, ticket), TALLY_OK);
    }
    ck_assert_uint_eq(post(1, 21), 21);
    ck_assert_int_eq(wait_for(1, 21), TALLY_ERR_TIMEOUT);
    engine_close();
}
END_TEST

START_TEST(a_wait_ends_when_the_rank_that_it_waits_for_dies)
{
    engine_open(2, NULL, LONG_US);
    post(0, 1);
    health_report(queues.health, 101, HEALTH_DIED);
    ck_assert_int_eq(wait_for(0, 1), TALLY_ERR_PEER);
    ck_assert_int_eq(queues.ranks[0].fate.failed_rank, 101);
    engine_close();
}
END_TEST

// Each rank a thread that posts and waits, as processes would.
static void reduce_many(struct ranks_member *member)
{
    for (uint64_t ticket = 1; ticket <= 300; ticket++) {
        if (post(member->rank, ticket) != ticket ||
            wait_for(member->rank, ticket) != TALLY_OK)
            ck_abort_msg("rank %d, ticket %d", (int)member->rank, (int)ticket);
    }
}

START_TEST(threads_that_wait_move_each_others_reductions)
{
    struct fake_options options = options_slow();

    engine_open(4, _i == 0 ? NULL : &options, LONG_US);
    ranks_run(4, reduce_many, NULL);
    engine_close();
}
END_TEST

// --------------------------------------------------- attached and dropped

START_TEST(a_detached_queue_is_not_moved)
{
    engine_open(3, NULL, LONG_US);
    progress_detach(progress, queues.ranks[1].queue); // the middle one
    progress_lock(progress);
    queues_post(&queues, 1);
    progress_unlock(progress);
    post(0, 1);
    post(2, 1);
    for (int i = 0; i < 20; i++) {
        progress_poll(progress);
        sleep_ms(1);
    }
    ck_assert_int_eq(look(0, 1), TALLY_NOT_YET);
    ck_assert(!queues.ranks[1].queue->active);
    progress_attach(progress, queues.ranks[1].queue);
    for (int32_t rank = 0; rank < 3; rank++)
        ck_assert_int_eq(wait_for(rank, 1), TALLY_OK);
    engine_close();
}
END_TEST

// A transport that only counts.
struct tally_transport {
    atomic_int polled;
};

static int count_poll(tally_transport_t *transport)
{
    atomic_fetch_add(&transport->polled, 1);
    return 0;
}

static const tally_transport_ops_t counting_ops = {.progress = count_poll};

static bool polled_soon(tally_transport_t *transport)
{
    int before = atomic_load(&transport->polled);

    for (int64_t ms = 0; ms < HANG_MS; ms++) {
        if (atomic_load(&transport->polled) > before + 2)
            return true;
        sleep_ms(1);
    }
    return false;
}

START_TEST(a_transport_is_polled_until_it_is_dropped)
{
    static tally_transport_t counters[3];

    engine_open(2, NULL, LONG_US);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(
            progress_add_transport(progress, &counting_ops, &counters[i]),
            TALLY_OK);
    for (int i = 0; i < 3; i++)
        ck_assert(polled_soon(&counters[i]));
    progress_drop_transport(progress, &counters[0]);
    int dropped = atomic_load(&counters[0].polled);
    for (int i = 1; i < 3; i++)
        ck_assert(polled_soon(&counters[i]));
    progress_drop_transport(progress, &counters[1]);
    progress_drop_transport(progress, &counters[1]); // no more there
    ck_assert(polled_soon(&counters[2]));
    ck_assert_int_eq(atomic_load(&counters[0].polled), dropped);
    progress_drop_transport(progress, &counters[2]);
    engine_close();
}
END_TEST

START_TEST(a_transport_that_comes_while_the_thread_sleeps_is_polled)
{
    static tally_transport_t counter;

    engine_open(2, NULL, LONG_US);
    sleep_ms(ASLEEP_MS);
    ck_assert_int_eq(progress_add_transport(progress, &counting_ops, &counter),
                     TALLY_OK);
    ck_assert(polled_soon(&counter));
    progress_drop_transport(progress, &counter);
    engine_close();
}
END_TEST

START_TEST(more_transports_than_there_is_room_for_are_refused)
{
    static tally_transport_t counters[9];

    progress_open();
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(
            progress_add_transport(progress, &counting_ops, &counters[i]),
            TALLY_OK);
    ck_assert_int_eq(
        progress_add_transport(progress, &counting_ops, &counters[8]),
        TALLY_ERR_UNSUPPORTED);
    ck_assert_str_eq(core_error_text(), "more than 8 transports at once");
    progress_poll(progress);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(atomic_load(&counters[i].polled), 1);
        progress_drop_transport(progress, &counters[i]);
    }
    ck_assert_int_eq(atomic_load(&counters[8].polled), 0);
    progress_free(progress);
}
END_TEST

START_TEST(a_sleeping_thread_ends_when_progress_is_freed)
{
    engine_open(2, NULL, LONG_US);
    sleep_ms(ASLEEP_MS);
    engine_close();
}
END_TEST

START_TEST(a_signal_waits_for_the_host_program)
{
    struct timespec time = {5, 0};
    sigset_t one;

    engine_open(2, NULL, LONG_US);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    // The default action, in whatever thread takes it, ends the process.
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
    ck_assert_int_eq(sigtimedwait(&one, NULL, &time), SIGUSR1);
    engine_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order progress");
    TCase *tests = tcase_create("progress");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_thread_moves_reductions_when_nobody_calls);
    tcase_add_test(tests, a_post_wakes_the_thread_from_its_sleep);
    tcase_add_test(tests, the_thread_keeps_the_deadline_when_nobody_calls);
    tcase_add_test(tests,
                   a_wait_returns_the_result_or_the_error_of_the_deadline);
    tcase_add_test(tests, a_wait_ends_when_the_rank_that_it_waits_for_dies);
    tcase_add_loop_test(tests, threads_that_wait_move_each_others_reductions, 0,
                        2);
    tcase_add_test(tests, a_detached_queue_is_not_moved);
    tcase_add_test(tests, a_transport_is_polled_until_it_is_dropped);
    tcase_add_test(tests,
                   a_transport_that_comes_while_the_thread_sleeps_is_polled);
    tcase_add_test(tests, more_transports_than_there_is_room_for_are_refused);
    tcase_add_test(tests, a_sleeping_thread_ends_when_progress_is_freed);
    tcase_add_test(tests, a_signal_waits_for_the_host_program);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// The tests of tagged_suite.h: each body of tagged.h in each of the backend's
// setups, and how the backend sits in its process.
#include "conformance/tagged_suite.h"

#include <dlfcn.h>
#include <stdio.h>

#include "conformance/tagged.h"
#include "harness/process_state.h"

// A guard against hangs, generous: it includes valgrind and a busy machine.
#define TEST_SECONDS_MAX 120

// Check's tests take no argument but the number of their turn.
static const struct tagged_backend *backend;

static void run(int setup, int32_t size,
                void (*body)(struct processes_member *member))
{
    ck_assert_int_eq(processes_run(size, body, &backend->setups[setup], NULL),
                     0);
}

// Rank 1 is killed on the way.
static void run_with_loss(int setup, int32_t size,
                          void (*body)(struct processes_member *member))
{
    static const enum processes_end ends[] = {
        PROCESSES_RETURNS, PROCESSES_IS_KILLED, PROCESSES_RETURNS};

    ck_assert_int_eq(processes_run(size, body, &backend->setups[setup], ends),
                     0);
}

START_TEST(messages_of_every_size_arrive_whole_with_their_length)
{
    run(_i, 2, tagged_sizes);
}
END_TEST

START_TEST(every_rank_gets_the_messages_of_all_others)
{
    run(_i, 4, tagged_all_to_all);
}
END_TEST

START_TEST(a_message_waits_for_the_receive_of_its_tag_in_all_64_bits)
{
    run(_i, 2, tagged_tags_in_any_order);
}
END_TEST

START_TEST(messages_of_one_tag_keep_their_order)
{
    run(_i, 2, tagged_equal_tags_in_order);
}
END_TEST

START_TEST(a_thousand_messages_can_be_under_way)
{
    run(_i, 2, tagged_many_outstanding);
}
END_TEST

START_TEST(a_receive_that_is_too_short_fails_and_writes_no_further)
{
    run(_i, 2, tagged_short_receive);
}
END_TEST

START_TEST(after_a_receive_that_is_too_short_the_next_message_arrives)
{
    run(_i, 2, tagged_message_after_short_receive);
}
END_TEST

START_TEST(a_cancelled_receive_fails_and_takes_no_message)
{
    run(_i, 2, tagged_cancel);
}
END_TEST

START_TEST(close_ends_the_receives_that_are_pending)
{
    run(_i, 2, tagged_close_with_pending);
}
END_TEST

START_TEST(what_was_sent_before_close_arrives)
{
    run(_i, 2, tagged_send_then_close);
}
END_TEST

START_TEST(close_sees_to_the_sends_that_are_pending)
{
    run(_i, 2, tagged_close_flushes);
}
END_TEST

START_TEST(a_killed_peer_fails_sends_and_is_reported_once)
{
    run_with_loss(_i, 2, tagged_peer_killed);
}
END_TEST

START_TEST(a_killed_peer_harms_nobody_else_and_holds_nothing_up)
{
    run_with_loss(_i, 3, tagged_peer_killed_untold);
}
END_TEST

START_TEST(a_stopped_peer_does_not_hold_close_up)
{
    run_with_loss(_i, 2, tagged_peer_stopped);
}
END_TEST

START_TEST(who_waits_on_the_descriptor_is_woken_where_there_is_one)
{
    run(_i, 2, tagged_wait_on_descriptor);
}
END_TEST

static void stay_untouched(struct processes_member *member)
{
    struct process_state before;
    struct side side;
    char byte = 1;

    process_state_note(&before);
    side_join(&side, member);
    side_send(&side, 1 - member->rank, 1, &byte, 1);
    side_receive(&side, 1, &byte, 1);
    process_state_expect(&before);
    processes_barrier(member);
    side_close(&side);
    process_state_expect(&before);
}

START_TEST(no_code_is_patched_and_no_signal_caught)
{
    run(_i, 2, stay_untouched);
}
END_TEST

static void load_and_unload(struct processes_member *member)
{
    enum { ROUNDS = 20, WARM_UP = 2 };
    const struct side_setup *setup = member->argument;
    int files = 0;
    long kib = 0;
    char byte = 1;

    for (int round = 0; round < ROUNDS; round++) {
        struct side side;

        if (round == WARM_UP) {
            files = process_open_files();
            kib = process_resident_kib();
        }
        side_join(&side, member);
        side_send(&side, 1 - member->rank, 1, &byte, 1);
        EXPECT(side_receive(&side, 1, &byte, 1) == 1);
        processes_barrier(member);
        side_close(&side);
        // What it is built on may stay; our own library goes.
        EXPECT(dlopen(backend->library, RTLD_NOW | RTLD_NOLOAD) == NULL);
        processes_barrier(member);
    }
    EXPECT(process_open_files() == files);
    if (member->rank == 0)
        fprintf(stderr, "%s=%s: %d rounds: resident memory grew by %ld KiB\n",
                setup->settings[0], setup->settings[1], ROUNDS - WARM_UP,
                process_resident_kib() - kib);
}

START_TEST(twenty_rounds_of_load_open_close_unload_keep_no_file_open)
{
    run(_i, 2, load_and_unload);
}
END_TEST

TCase *tagged_suite(const struct tagged_backend *of)
{
    TCase *tests = tcase_create("every tagged transport");
    int all = of->setup_count;

    backend = of;
    tcase_set_timeout(tests, TEST_SECONDS_MAX);
    tcase_add_loop_test(
        tests, messages_of_every_size_arrive_whole_with_their_length, 0, all);
    tcase_add_loop_test(tests, every_rank_gets_the_messages_of_all_others, 0,
                        all);
    tcase_add_loop_test(
        tests, a_message_waits_for_the_receive_of_its_tag_in_all_64_bits, 0,
        of->keep_unexpected);
    tcase_add_loop_test(tests, messages_of_one_tag_keep_their_order, 0, all);
    tcase_add_loop_test(tests, a_thousand_messages_can_be_under_way, 0, all);
    tcase_add_loop_test(
        tests, a_receive_that_is_too_short_fails_and_writes_no_further, 0, all);
    tcase_add_loop_test(
        tests, after_a_receive_that_is_too_short_the_next_message_arrives, 0,
        of->go_on_after_short);
    tcase_add_loop_test(tests, a_cancelled_receive_fails_and_takes_no_message,
                        0, all);
    tcase_add_loop_test(tests, close_ends_the_receives_that_are_pending, 0,
                        all);
    tcase_add_loop_test(tests, what_was_sent_before_close_arrives, 0, all);
    tcase_add_loop_test(tests, close_sees_to_the_sends_that_are_pending, 0,
                        all);
    if (of->tells_of_a_loss)
        tcase_add_loop_test(
            tests, a_killed_peer_fails_sends_and_is_reported_once, 0, all);
    else
        tcase_add_loop_test(
            tests, a_killed_peer_harms_nobody_else_and_holds_nothing_up, 0,
            all);
    tcase_add_loop_test(tests, a_stopped_peer_does_not_hold_close_up, 0, all);
    tcase_add_loop_test(
        tests, who_waits_on_the_descriptor_is_woken_where_there_is_one, 0, all);
    tcase_add_loop_test(tests, no_code_is_patched_and_no_signal_caught, 0, all);
    tcase_add_loop_test(
        tests, twenty_rounds_of_load_open_close_unload_keep_no_file_open, 0,
        all);
    return tests;
}

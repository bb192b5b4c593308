// SPDX-License-Identifier: BSD-3-Clause
// Tests of libtally-ucx.so: what every tagged transport must do, over several
// of UCX's own transports, and what is particular to it.
#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <ucp/api/ucp_version.h>
#include <unistd.h>

#include "conformance/tagged.h"
#include "core/error.h"
#include "harness/process_state.h"
#include "harness/side.h"

#define LIBRARIES BUILD_FOLDER "/.libs"
#define OLD_LIBUCP BUILD_FOLDER "/tests/harness/backends/.libs/libucp.so.0"
// A guard against hangs, generous: it includes valgrind and a busy machine.
#define TEST_SECONDS_MAX 120

#define TEXT(number) #number
#define VERSION(major, minor) TEXT(major) "." TEXT(minor)
#define UCX_BUILT VERSION(UCP_API_MAJOR, UCP_API_MINOR)

// Loopback only, whatever else the machine has.
static const char *const tcp[] = {"TALLY_UCX_TLS", "tcp",
                                  "TALLY_UCX_NET_DEVICES", "lo", NULL};
static const char *const posix[] = {"TALLY_UCX_TLS", "posix", NULL};
static const char *const shared[] = {"TALLY_UCX_TLS", "shm", NULL};
static const char *const ucx_choice[] = {"TALLY_UCX_NET_DEVICES", "lo", NULL};

static const struct side_setup setups[] = {
    {"ucx", LIBRARIES, tcp},
    {"ucx", LIBRARIES, posix},
    {"ucx", LIBRARIES, shared},
    {"ucx", LIBRARIES, ucx_choice},
};

#define SETUPS ((int)(sizeof(setups) / sizeof(setups[0])))

static void run(int setup, int32_t size,
                void (*body)(struct processes_member *member))
{
    ck_assert_int_eq(processes_run(size, body, &setups[setup], NULL), 0);
}

// Rank 1 is killed on the way.
static void run_with_loss(int setup,
                          void (*body)(struct processes_member *member))
{
    static const enum processes_end ends[] = {PROCESSES_RETURNS,
                                              PROCESSES_IS_KILLED};

    ck_assert_int_eq(processes_run(2, body, &setups[setup], ends), 0);
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
    run_with_loss(_i, tagged_peer_killed);
}
END_TEST

START_TEST(a_stopped_peer_does_not_hold_close_up)
{
    run_with_loss(_i, tagged_peer_stopped);
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

START_TEST(ucx_patches_no_code_and_catches_no_signals)
{
    run(_i, 2, stay_untouched);
}
END_TEST

static const char *tls_text(const struct processes_member *member)
{
    const struct side_setup *setup = member->argument;

    return setup->settings == ucx_choice ? "UCX's choice" : setup->settings[1];
}

static void load_and_unload(struct processes_member *member)
{
    enum { ROUNDS = 20, WARM_UP = 2 };
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
        // UCX stays; our own library goes.
        EXPECT(dlopen(LIBRARIES "/libtally-ucx.so", RTLD_NOW | RTLD_NOLOAD) ==
               NULL);
        processes_barrier(member);
    }
    EXPECT(process_open_files() == files);
    if (member->rank == 0)
        fprintf(stderr, "%s: %d rounds: resident memory grew by %ld KiB\n",
                tls_text(member), ROUNDS - WARM_UP,
                process_resident_kib() - kib);
}

START_TEST(twenty_rounds_of_load_open_close_unload_keep_no_file_open)
{
    run(_i, 2, load_and_unload);
}
END_TEST

START_TEST(who_waits_on_the_descriptor_is_woken)
{
    run(_i, 2, tagged_wait_on_descriptor);
}
END_TEST

// The operations refuse what cannot be, with a sentence.
static void refuse(struct processes_member *member)
{
    static const char *const nonsense[] = {"TALLY_UCX_TLS", "nonsense", NULL};
    static const struct side_setup setup = {"ucx", LIBRARIES, nonsense};
    tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .world_size = 1,
    };
    tally_transport_t *transport;
    char address[8];
    size_t bytes = sizeof(address);
    struct side side;

    side_open(&side, member->argument);
    EXPECT(side.ops->address(side.transport, address, &bytes) ==
           TALLY_ERR_MEMORY);
    EXPECT(strstr(core_error_text(), "the room 8") != NULL);
    EXPECT(bytes == sizeof(address));
    side.setup = &setup;
    EXPECT(side.ops->open(&side.host, &params, &transport) ==
           TALLY_ERR_TRANSPORT);
    EXPECT(strcmp(core_error_text(),
                  "UCX cannot start (TALLY_UCX_TLS=\"nonsense\", "
                  "TALLY_UCX_NET_DEVICES=\"\"): No such device") == 0);
    struct rlimit before;
    struct rlimit few;
    EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = (rlim_t)process_open_files(); // a few more than there are
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    EXPECT(side.ops->open(&side.host, &params, &transport) ==
           TALLY_ERR_TRANSPORT);
    EXPECT(strstr(core_error_text(), "UCX needs 16 file descriptors, and ") !=
           NULL);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
    side_close(&side);
}

START_TEST(what_cannot_be_is_refused_with_a_sentence)
{
    run(0, 1, refuse);
}
END_TEST

static void meet_an_old_ucx(struct processes_member *member)
{
    struct transport_backend *backend = NULL;
    struct side side;

    EXPECT(dlopen(OLD_LIBUCP, RTLD_NOW | RTLD_LOCAL) != NULL);
    side_prepare(&side, member->argument);
    EXPECT(transport_load("ucx", LIBRARIES, &side.host, &backend) ==
           TALLY_ERR_TRANSPORT);
    EXPECT(strcmp(core_error_text(),
                  LIBRARIES "/libtally-ucx.so refused: libtally-ucx.so was "
                            "built against UCX " UCX_BUILT ", the library "
                            "loaded is 1.9.0") == 0);
    EXPECT(backend == NULL);
}

START_TEST(an_older_ucx_in_the_process_is_refused_with_both_versions)
{
    run(0, 1, meet_an_old_ucx);
}
END_TEST

static void see_the_table(struct processes_member *member)
{
    struct side side;

    side_open(&side, member->argument);
    EXPECT(strncmp(side.backend->version, "UCX 1.", 6) == 0);
    EXPECT(strcmp(side.ops->version, "built against UCX " UCX_BUILT) == 0);
    EXPECT(dlsym(side.backend->library, "ucx_worker_open") == NULL);
    side_close(&side);
}

START_TEST(the_version_in_use_is_told_and_nothing_else_is_exported)
{
    run(0, 1, see_the_table);
}
END_TEST

static void list_devices(struct processes_member *member)
{
    char text[1024];
    char none[4];
    struct side side;

    side_open(&side, member->argument);
    EXPECT(side.ops->devices(&side.host, text, sizeof(text)) == TALLY_OK);
    EXPECT(strcmp(text, "tcp lo\n") == 0);
    EXPECT(side.ops->devices(&side.host, none, sizeof(none)) == TALLY_OK);
    EXPECT(strlen(none) < sizeof(none));
    side_close(&side);
}

START_TEST(devices_that_the_settings_leave_are_listed)
{
    run(0, 1, list_devices);
}
END_TEST

static void ask_with_an_older_host(struct processes_member *member)
{
    const tally_transport_ops_t *ops = NULL;
    tally_transport_query_t query;
    struct side side;

    side_open(&side, member->argument);
    *(void **)&query = dlsym(side.backend->library, TALLY_TRANSPORT_SYMBOL);
    EXPECT(query(0, &side.host, &ops) == TALLY_ERR_ABI);
    EXPECT(strcmp(core_error_text(), "libtally-ucx.so needs transport ABI 1, "
                                     "this Tally speaks 0") == 0);
    EXPECT(query(TALLY_TRANSPORT_ABI + 1, &side.host, &ops) == TALLY_OK);
    EXPECT(ops->abi == TALLY_TRANSPORT_ABI);
    side_close(&side);
}

START_TEST(an_older_host_is_refused_and_a_newer_one_is_served)
{
    run(0, 1, ask_with_an_older_host);
}
END_TEST

static TCase *conformance(void)
{
    TCase *tests = tcase_create("every tagged transport");

    tcase_set_timeout(tests, TEST_SECONDS_MAX);
    tcase_add_loop_test(tests,
                        messages_of_every_size_arrive_whole_with_their_length,
                        0, SETUPS);
    tcase_add_loop_test(tests, every_rank_gets_the_messages_of_all_others, 0,
                        SETUPS);
    tcase_add_loop_test(
        tests, a_message_waits_for_the_receive_of_its_tag_in_all_64_bits, 0,
        SETUPS);
    tcase_add_loop_test(tests, messages_of_one_tag_keep_their_order, 0, SETUPS);
    tcase_add_loop_test(tests, a_thousand_messages_can_be_under_way, 0, SETUPS);
    tcase_add_loop_test(tests,
                        a_receive_that_is_too_short_fails_and_writes_no_further,
                        0, SETUPS);
    tcase_add_loop_test(
        tests, after_a_receive_that_is_too_short_the_next_message_arrives, 0,
        SETUPS);
    tcase_add_loop_test(tests, a_cancelled_receive_fails_and_takes_no_message,
                        0, SETUPS);
    tcase_add_loop_test(tests, close_ends_the_receives_that_are_pending, 0,
                        SETUPS);
    tcase_add_loop_test(tests, what_was_sent_before_close_arrives, 0, SETUPS);
    tcase_add_loop_test(tests, close_sees_to_the_sends_that_are_pending, 0,
                        SETUPS);
    tcase_add_loop_test(tests, a_killed_peer_fails_sends_and_is_reported_once,
                        0, SETUPS);
    tcase_add_loop_test(tests, a_stopped_peer_does_not_hold_close_up, 0,
                        SETUPS);
    return tests;
}

static TCase *particular(void)
{
    TCase *tests = tcase_create("UCX");

    tcase_set_timeout(tests, TEST_SECONDS_MAX);
    tcase_add_loop_test(tests, ucx_patches_no_code_and_catches_no_signals, 0,
                        SETUPS);
    tcase_add_loop_test(
        tests, twenty_rounds_of_load_open_close_unload_keep_no_file_open, 0,
        SETUPS);
    tcase_add_loop_test(tests, who_waits_on_the_descriptor_is_woken, 0, SETUPS);
    tcase_add_test(tests, what_cannot_be_is_refused_with_a_sentence);
    tcase_add_test(tests,
                   an_older_ucx_in_the_process_is_refused_with_both_versions);
    tcase_add_test(tests,
                   the_version_in_use_is_told_and_nothing_else_is_exported);
    tcase_add_test(tests, devices_that_the_settings_leave_are_listed);
    tcase_add_test(tests, an_older_host_is_refused_and_a_newer_one_is_served);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("transport ucx");

    suite_add_tcase(suite, conformance());
    suite_add_tcase(suite, particular());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

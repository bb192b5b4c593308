// SPDX-License-Identifier: BSD-3-Clause
// Tests of libtally-ofi.so over libfabric's own providers: what every tagged
// transport must do, and what is particular to it. What needs a provider that
// this machine lacks is in test_transport_ofi_made_up.c.
#include <check.h>
#include <dlfcn.h>
#include <rdma/fabric.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conformance/tagged.h"
#include "core/error.h"
#include "harness/process_state.h"
#include "harness/side.h"

#define LIBRARIES BUILD_FOLDER "/.libs"
#define OLD_LIBFABRIC                                                          \
    BUILD_FOLDER "/tests/harness/backends/.libs/libfabric.so.1"
// A guard against hangs, generous: it includes valgrind and a busy machine.
#define TEST_SECONDS_MAX 120

#define TEXT(number) #number
#define VERSION(major, minor) TEXT(major) "." TEXT(minor)
#define OFI_BUILT VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION)

// Loopback only, whatever else the machine has.
static const char *const rxm[] = {"TALLY_OFI_PROVIDER", "tcp;ofi_rxm",
                                  "TALLY_OFI_DOMAIN", "lo", NULL};
static const char *const net[] = {"TALLY_OFI_PROVIDER", "net",
                                  "TALLY_OFI_DOMAIN", "lo", NULL};
static const char *const shm[] = {"TALLY_OFI_PROVIDER", "shm", NULL};

static const struct side_setup setups[] = {
    {"ofi", LIBRARIES, shm},
    {"ofi", LIBRARIES, rxm},
    {"ofi", LIBRARIES, net},
};

// What some providers of libfabric 1.17 do not hold to: after a receive that is
// too short a stream is closed; net reads no further where too much has come
// that nobody has asked for.
enum { STREAMS = 1, NET = 2 };

#define SETUPS ((int)(sizeof(setups) / sizeof(setups[0])))

// libfabric 1.17 leaks in its net provider, whose own copies of an fi_info it
// forgets. What the backend itself leaves open is counted by the made-up one.
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libfabric.so.1\n";
}

static void run(int setup, int32_t size,
                void (*body)(struct processes_member *member))
{
    ck_assert_int_eq(processes_run(size, body, &setups[setup], NULL), 0);
}

// Rank 1 is killed on the way.
static void run_with_loss(int setup, int32_t size,
                          void (*body)(struct processes_member *member))
{
    static const enum processes_end ends[] = {
        PROCESSES_RETURNS, PROCESSES_IS_KILLED, PROCESSES_RETURNS};

    ck_assert_int_eq(processes_run(size, body, &setups[setup], ends), 0);
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

START_TEST(libfabric_patches_no_code_and_catches_no_signals)
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
        // libfabric stays; our own library goes.
        EXPECT(dlopen(LIBRARIES "/libtally-ofi.so", RTLD_NOW | RTLD_NOLOAD) ==
               NULL);
        processes_barrier(member);
    }
    EXPECT(process_open_files() == files);
    if (member->rank == 0)
        fprintf(stderr, "%s: %d rounds: resident memory grew by %ld KiB\n",
                setup->settings[1], ROUNDS - WARM_UP,
                process_resident_kib() - kib);
}

START_TEST(twenty_rounds_of_load_open_close_unload_keep_no_file_open)
{
    run(_i, 2, load_and_unload);
}
END_TEST

START_TEST(who_waits_on_the_descriptor_is_woken_where_there_is_one)
{
    run(_i, 2, tagged_wait_on_descriptor);
}
END_TEST

static void expect_no_open(struct side *side, const char *const *settings,
                           const char *sentence)
{
    const struct side_setup setup = {"ofi", LIBRARIES, settings};
    const struct side_setup *before = side->setup;
    tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .world_size = 1,
    };
    tally_transport_t *transport;

    side->setup = &setup;
    EXPECT(side->ops->open(&side->host, &params, &transport) ==
           TALLY_ERR_TRANSPORT);
    EXPECT(strcmp(core_error_text(), sentence) == 0);
    side->setup = before;
}

// The operations refuse what cannot be, with a sentence.
static void refuse(struct processes_member *member)
{
    static const char *const nonsense[] = {"TALLY_OFI_PROVIDER", "nonsense",
                                           NULL};
    static const char *const nowhere[] = {"TALLY_OFI_PROVIDER", "net",
                                          "TALLY_OFI_DOMAIN", "lo0", NULL};
    char address[8] = "strange";
    size_t bytes = sizeof(address);
    tally_endpoint_t *endpoint;
    struct side side;

    side_open(&side, member->argument);
    EXPECT(side.ops->address(side.transport, address, &bytes) ==
           TALLY_ERR_MEMORY);
    EXPECT(strstr(core_error_text(), "the room 8") != NULL);
    EXPECT(bytes == sizeof(address));
    EXPECT(side.ops->connect(side.transport, 3, address, bytes, &endpoint) ==
           TALLY_ERR_MISMATCH);
    EXPECT(strcmp(core_error_text(), "the address of rank 3 is not one of "
                                     "libtally-ofi.so") == 0);
    expect_no_open(&side, nonsense,
                   "libfabric has no provider of tagged messages "
                   "(TALLY_OFI_PROVIDER=\"nonsense\", TALLY_OFI_DOMAIN=\"\"): "
                   "No data available");
    expect_no_open(&side, nowhere,
                   "libfabric has no provider of tagged messages "
                   "(TALLY_OFI_PROVIDER=\"net\", TALLY_OFI_DOMAIN=\"lo0\"): "
                   "No data available");
    side_close(&side);
}

START_TEST(what_cannot_be_is_refused_with_a_sentence)
{
    run(0, 1, refuse);
}
END_TEST

// Ranks that chose differently are told so, rather than left to time out.
static void meet_another_provider(struct processes_member *member)
{
    struct side ours, theirs;
    char address[1024];
    size_t bytes = sizeof(address);
    tally_endpoint_t *endpoint;

    (void)member;
    side_open(&ours, &setups[STREAMS]);
    side_open(&theirs, &setups[NET]);
    EXPECT(theirs.ops->address(theirs.transport, address, &bytes) == TALLY_OK);
    EXPECT(ours.ops->connect(ours.transport, 5, address, bytes, &endpoint) ==
           TALLY_ERR_MISMATCH);
    EXPECT(strncmp(core_error_text(), "rank 5 uses libfabric's net ", 28) == 0);
    side_close(&theirs);
    side_close(&ours);
}

START_TEST(a_peer_with_another_provider_is_refused_by_name)
{
    run(0, 1, meet_another_provider);
}
END_TEST

static void meet_an_old_libfabric(struct processes_member *member)
{
    struct transport_backend *backend = NULL;
    struct side side;

    EXPECT(dlopen(OLD_LIBFABRIC, RTLD_NOW | RTLD_LOCAL) != NULL);
    side_prepare(&side, member->argument);
    EXPECT(transport_load("ofi", LIBRARIES, &side.host, &backend) ==
           TALLY_ERR_TRANSPORT);
    EXPECT(strcmp(core_error_text(),
                  LIBRARIES "/libtally-ofi.so refused: libtally-ofi.so was "
                            "built against libfabric " OFI_BUILT ", the "
                            "library loaded is 1.8") == 0);
    EXPECT(backend == NULL);
}

START_TEST(an_older_libfabric_in_the_process_is_refused_with_both_versions)
{
    run(0, 1, meet_an_old_libfabric);
}
END_TEST

static void see_the_table(struct processes_member *member)
{
    struct side side;

    side_open(&side, member->argument);
    EXPECT(strncmp(side.backend->version, "libfabric ", 10) == 0);
    EXPECT(strcmp(side.ops->version, "built against libfabric " OFI_BUILT) ==
           0);
    EXPECT(dlsym(side.backend->library, "ofi_worker_open") == NULL);
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
    EXPECT(strcmp(text, "tcp;ofi_rxm lo\n") == 0);
    EXPECT(side.ops->devices(&side.host, none, sizeof(none)) == TALLY_OK);
    EXPECT(strlen(none) < sizeof(none));
    side_close(&side);
}

START_TEST(devices_that_the_settings_leave_are_listed)
{
    run(STREAMS, 1, list_devices);
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
    EXPECT(strcmp(core_error_text(), "libtally-ofi.so needs transport ABI 1, "
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
        NET);
    tcase_add_loop_test(tests, messages_of_one_tag_keep_their_order, 0, SETUPS);
    tcase_add_loop_test(tests, a_thousand_messages_can_be_under_way, 0, SETUPS);
    tcase_add_loop_test(tests,
                        a_receive_that_is_too_short_fails_and_writes_no_further,
                        0, SETUPS);
    tcase_add_loop_test(
        tests, after_a_receive_that_is_too_short_the_next_message_arrives, 0,
        STREAMS);
    tcase_add_loop_test(tests, a_cancelled_receive_fails_and_takes_no_message,
                        0, SETUPS);
    tcase_add_loop_test(tests, close_ends_the_receives_that_are_pending, 0,
                        SETUPS);
    tcase_add_loop_test(tests, what_was_sent_before_close_arrives, 0, SETUPS);
    tcase_add_loop_test(tests, close_sees_to_the_sends_that_are_pending, 0,
                        SETUPS);
    tcase_add_loop_test(
        tests, a_killed_peer_harms_nobody_else_and_holds_nothing_up, 0, SETUPS);
    tcase_add_loop_test(tests, a_stopped_peer_does_not_hold_close_up, 0,
                        SETUPS);
    return tests;
}

static TCase *particular(void)
{
    TCase *tests = tcase_create("libfabric");

    tcase_set_timeout(tests, TEST_SECONDS_MAX);
    tcase_add_loop_test(tests, libfabric_patches_no_code_and_catches_no_signals,
                        0, SETUPS);
    tcase_add_loop_test(
        tests, twenty_rounds_of_load_open_close_unload_keep_no_file_open, 0,
        SETUPS);
    tcase_add_loop_test(tests,
                        who_waits_on_the_descriptor_is_woken_where_there_is_one,
                        0, SETUPS);
    tcase_add_test(tests, what_cannot_be_is_refused_with_a_sentence);
    tcase_add_test(tests, a_peer_with_another_provider_is_refused_by_name);
    tcase_add_test(
        tests, an_older_libfabric_in_the_process_is_refused_with_both_versions);
    tcase_add_test(tests,
                   the_version_in_use_is_told_and_nothing_else_is_exported);
    tcase_add_test(tests, devices_that_the_settings_leave_are_listed);
    tcase_add_test(tests, an_older_host_is_refused_and_a_newer_one_is_served);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("transport ofi");

    suite_add_tcase(suite, conformance());
    suite_add_tcase(suite, particular());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of libtally-ofi.so over libfabric's own providers: what every tagged
// transport must do, and what is particular to it. What needs a provider that
// this machine lacks is in test_transport_ofi_made_up.c.
#include <check.h>
#include <dlfcn.h>
#include <rdma/fabric.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/tagged_suite.h"
#include "core/error.h"
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

static const struct tagged_backend tested = {
    .library = LIBRARIES "/libtally-ofi.so",
    .setups = setups,
    .setup_count = SETUPS,
    .keep_unexpected = NET,
    .go_on_after_short = STREAMS,
};

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

static TCase *particular(void)
{
    TCase *tests = tcase_create("libfabric");

    tcase_set_timeout(tests, TEST_SECONDS_MAX);
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

    suite_add_tcase(suite, tagged_suite(&tested));
    suite_add_tcase(suite, particular());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

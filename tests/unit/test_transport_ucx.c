// SPDX-License-Identifier: BSD-3-Clause
// Tests of libtally-ucx.so: what every tagged transport must do, over several
// of UCX's own transports, and what is particular to it.
#include <check.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <ucp/api/ucp_version.h>
#include <unistd.h>

#include "conformance/tagged_suite.h"
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

static const struct tagged_backend tested = {
    .library = LIBRARIES "/libtally-ucx.so",
    .setups = setups,
    .setup_count = SETUPS,
    .keep_unexpected = SETUPS,
    .go_on_after_short = SETUPS,
    .tells_of_a_loss = true,
};

static void run(int setup, int32_t size,
                void (*body)(struct processes_member *member))
{
    ck_assert_int_eq(processes_run(size, body, &setups[setup], NULL), 0);
}

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
    EXPECT(strcmp(none, "") == 0); // there is no room for it
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

// UCX accepts in a thread of its own.
static void turn_for_a_while(struct side *side)
{
    for (int i = 0; i < 100; i++) {
        EXPECT(side->ops->progress(side->transport) >= 0);
        usleep(1000);
    }
}

static int connections(void)
{
    int found = 0;

    for (int fd = 0; fd < 256; fd++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t bytes = sizeof(peer);

        found += getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0 &&
                 peer.ss_family == AF_INET;
    }
    return found;
}

struct own_address {
    size_t bytes;
    uint8_t text[512];
};

static tally_status_t connect_to(struct side *side, int32_t peer,
                                 const struct own_address *addresses)
{
    return side->ops->connect(side->transport, peer, addresses[peer].text,
                              addresses[peer].bytes, &side->peers[peer]);
}

static void send_to(struct side *side, int32_t peer,
                    const struct own_address *addresses,
                    tally_request_t *request)
{
    EXPECT(connect_to(side, peer, addresses) == TALLY_OK);
    EXPECT(side->ops->tsend(side->peers[peer], 1, "lost", 4, request) ==
           TALLY_OK);
    turn_for_a_while(side);
}

// Rank 0 talks to rank 2. Rank 1 connects to rank 0, and is killed with
// something unread, so that its connection is reset: rank 0 has accepted that,
// and does not know yet.
static void connect_to_who_died(struct processes_member *member)
{
    struct own_address own = {.bytes = sizeof(own.text)};
    struct own_address addresses[3];
    tally_request_t request;
    struct side side;

    side_open(&side, member->argument);
    EXPECT(side.ops->address(side.transport, own.text, &own.bytes) == TALLY_OK);
    processes_exchange(member, &own, addresses, sizeof(own));
    if (member->rank == 0)
        send_to(&side, 2, addresses, &request);
    processes_barrier(member);
    if (member->rank == 1)
        send_to(&side, 0, addresses, &request);
    processes_barrier(member);
    if (member->rank == 0)
        turn_for_a_while(&side);
    EXPECT(member->rank != 0 || connections() == 2);
    processes_barrier(member);
    if (member->rank == 1)
        raise(SIGKILL);
    if (member->rank == 0) {
        while (connections() == 2)
            usleep(1000);
        tally_status_t status = connect_to(&side, 1, addresses);
        EXPECT(status == TALLY_OK || status == TALLY_ERR_TRANSPORT);
        while (status == TALLY_OK && side.losses[1] == 0)
            EXPECT(side.ops->progress(side.transport) >= 0);
    }
    side_close(&side);
}

START_TEST(who_died_after_it_connected_is_told_as_lost)
{
    static const enum processes_end ends[] = {
        PROCESSES_RETURNS, PROCESSES_IS_KILLED, PROCESSES_RETURNS};

    ck_assert_int_eq(processes_run(3, connect_to_who_died, &setups[0], ends),
                     0);
}
END_TEST

static TCase *particular(void)
{
    TCase *tests = tcase_create("UCX");

    tcase_set_timeout(tests, TEST_SECONDS_MAX);
    tcase_add_test(tests, what_cannot_be_is_refused_with_a_sentence);
    tcase_add_test(tests,
                   an_older_ucx_in_the_process_is_refused_with_both_versions);
    tcase_add_test(tests,
                   the_version_in_use_is_told_and_nothing_else_is_exported);
    tcase_add_test(tests, devices_that_the_settings_leave_are_listed);
    tcase_add_test(tests, an_older_host_is_refused_and_a_newer_one_is_served);
    tcase_add_test(tests, who_died_after_it_connected_is_told_as_lost);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("transport ucx");

    suite_add_tcase(suite, tagged_suite(&tested));
    suite_add_tcase(suite, particular());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

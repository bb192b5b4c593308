// SPDX-License-Identifier: BSD-3-Clause
// Tests of libtally-ofi.so over a libfabric of the tests' own: providers that
// this machine lacks, want registered memory, have no room, or fail.
#include <check.h>
#include <dlfcn.h>
#include <limits.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_errno.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/pattern.h"
#include "core/error.h"
#include "harness/side.h"
#include "made_up/libfabric.h"

#define LIBRARIES BUILD_FOLDER "/.libs"
#define MADE_UP BUILD_FOLDER "/tests/harness/made_up/.libs/libfabric.so.1"
#define PEER 3
#define BYTES_MAX ((size_t)64 << 10)

static const struct side_setup by_itself = {"ofi", LIBRARIES, NULL};

// In the process of a test: loads the made-up library first.
static struct made_up *made_up_load(void)
{
    void *library = dlopen(MADE_UP, RTLD_NOW | RTLD_LOCAL);

    EXPECT(library != NULL);
    struct made_up *made_up = dlsym(library, MADE_UP_SYMBOL);
    EXPECT(made_up != NULL);
    if (made_up->providers != NULL)
        return made_up; // again
    made_up->providers = " efa ";
    made_up->inject_size = 64;
    made_up->tag_format = UINT64_MAX;
    return made_up;
}

// Opens, and connects to itself as rank PEER.
static void open_loop(struct side *side)
{
    char address[1024];
    size_t bytes = sizeof(address);

    side_open(side, &by_itself);
    EXPECT(side->ops->address(side->transport, address, &bytes) == TALLY_OK);
    EXPECT(side->ops->connect(side->transport, PEER, address, bytes,
                              &side->peers[PEER]) == TALLY_OK);
}

static void close_loop(struct side *side, const struct made_up *made_up)
{
    side_close(side);
    EXPECT(made_up->violations == 0);
    EXPECT(made_up->open_objects == 0);
}

static void post_send(struct side *side, uint64_t tag, const void *buffer,
                      size_t bytes, tally_request_t *request)
{
    EXPECT(side->ops->tsend(side->peers[PEER], tag, buffer, bytes, request) ==
           TALLY_OK);
}

static void alone(void (*body)(struct processes_member *member))
{
    ck_assert_int_eq(processes_run(1, body, NULL, NULL), 0);
}

// An address begins with the provider's name.
static void expect_choice(const char *providers, const char *named,
                          const char *chosen)
{
    const char *settings[] = {"TALLY_OFI_PROVIDER", named, NULL};
    const struct side_setup setup = {"ofi", LIBRARIES, settings};
    tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .world_size = 1,
    };
    struct made_up *made_up = made_up_load();
    struct side side;
    char address[1024];
    size_t bytes = sizeof(address);

    made_up->providers = providers;
    side_prepare(&side, &setup);
    EXPECT(transport_load("ofi", LIBRARIES, &side.host, &side.backend) ==
           TALLY_OK);
    side.ops = side.backend->ops;
    tally_status_t status =
        side.ops->open(&side.host, &params, &side.transport);
    if (chosen == NULL) {
        EXPECT(status == TALLY_ERR_TRANSPORT);
        EXPECT(strstr(core_error_text(), "nothing there") != NULL);
        transport_unload(side.backend);
    } else {
        EXPECT(status == TALLY_OK);
        EXPECT(side.ops->address(side.transport, address, &bytes) == TALLY_OK);
        EXPECT(strcmp(address, chosen) == 0);
        side_close(&side);
    }
    EXPECT(made_up->open_objects == 0);
}

static void choose(struct processes_member *member)
{
    (void)member;
    expect_choice(" tcp;ofi_rxm psm3 efa ", "", "efa");
    expect_choice(" tcp;ofi_rxm psm3 verbs;ofi_rxm cxi ", "", "cxi");
    expect_choice(" tcp;ofi_rxm psm3 verbs;ofi_rxm ", "", "verbs;ofi_rxm");
    expect_choice(" sockets shm tcp;ofi_rxm psm3 ", "", "psm3");
    expect_choice(" net sockets shm udp;ofi_rxd tcp;ofi_rxm ", "",
                  "tcp;ofi_rxm");
    expect_choice(" net sockets shm udp;ofi_rxd ", "", NULL);
    expect_choice(" efa sockets ", "sockets", "sockets");
    expect_choice(" efa shm ", "net", NULL);
}

START_TEST(the_preferred_provider_is_chosen_and_poor_ones_only_if_named)
{
    alone(choose);
}
END_TEST

static void see_narrow_tags(struct processes_member *member)
{
    (void)member;
    made_up_load()->tag_format = UINT64_MAX >> 16;
    expect_choice(" cxi ", "", NULL);
    expect_choice(" cxi ", "cxi", NULL);
    made_up_load()->tag_format = UINT64_MAX / 3; // fields of one bit, from 0
    expect_choice(" cxi ", "", "cxi");
}

START_TEST(a_provider_whose_tags_are_narrow_is_passed_over)
{
    alone(see_narrow_tags);
}
END_TEST

static void send_without_room(struct processes_member *member)
{
    enum { MESSAGES = 40, TAG = 9, REFUSALS = 100, BYTES = 100 };
    static unsigned char out[MESSAGES][BYTES], in[MESSAGES][BYTES];
    tally_request_t sends[MESSAGES], receives[MESSAGES];
    struct made_up *made_up = made_up_load();
    struct side side;

    (void)member;
    open_loop(&side);
    made_up->refusals = 1; // who comes later must not overtake
    // Small and large by turns: both wait their turn.
    for (unsigned i = 0; i < MESSAGES; i++) {
        pattern_fill(out[i], BYTES, i);
        post_send(&side, TAG, out[i], i % 2 == 0 ? BYTES : 8, &sends[i]);
        EXPECT(sends[i].status == TALLY_NOT_YET);
    }
    made_up->refusals = REFUSALS;
    for (unsigned i = 0; i < MESSAGES; i++)
        EXPECT(side.ops->trecv(side.transport, TAG, in[i], BYTES,
                               &receives[i]) == TALLY_OK);
    for (unsigned i = 0; i < MESSAGES; i++) {
        EXPECT(side_wait(&side, &sends[i]) == TALLY_OK);
        EXPECT(side_wait(&side, &receives[i]) == TALLY_OK);
        EXPECT(receives[i].bytes == (i % 2 == 0 ? BYTES : 8));
        EXPECT(pattern_holds(in[i], receives[i].bytes, i));
    }
    EXPECT(made_up->refusals == 0);
    close_loop(&side, made_up);
}

START_TEST(messages_wait_for_room_and_keep_their_order)
{
    alone(send_without_room);
}
END_TEST

static void cancel_what_waits(struct processes_member *member)
{
    enum { FIRST, CANCELLED, LAST, MESSAGES };
    tally_request_t sends[MESSAGES], receive;
    struct made_up *made_up = made_up_load();
    unsigned char got, out[MESSAGES] = {1, 2, 3};
    struct side side;

    (void)member;
    open_loop(&side);
    made_up->refusals = INT_MAX;
    for (unsigned i = 0; i < MESSAGES; i++)
        post_send(&side, i, &out[i], 1, &sends[i]);
    EXPECT(side.ops->trecv(side.transport, FIRST, &got, 1, &receive) ==
           TALLY_OK);
    side.ops->cancel(side.transport, &sends[CANCELLED]);
    EXPECT(sends[CANCELLED].status < TALLY_OK);
    side.ops->cancel(side.transport, &receive);
    EXPECT(receive.status < TALLY_OK);
    side.ops->cancel(side.transport, &receive); // again is nothing
    made_up->refusals = 0;
    EXPECT(side_wait(&side, &sends[FIRST]) == TALLY_OK);
    EXPECT(side_wait(&side, &sends[LAST]) == TALLY_OK);
    close_loop(&side, made_up);
}

START_TEST(what_waits_for_room_can_be_cancelled)
{
    alone(cancel_what_waits);
}
END_TEST

static void close_without_room(struct processes_member *member)
{
    tally_request_t send, receive;
    struct made_up *made_up = made_up_load();
    char byte = 1;
    struct side side;

    (void)member;
    open_loop(&side);
    EXPECT(side.ops->trecv(side.transport, 1, &byte, 1, &receive) == TALLY_OK);
    made_up->refusals = INT_MAX;
    post_send(&side, 1, &byte, 1, &send);
    close_loop(&side, made_up); // comes back: the test's limit is the guard
    EXPECT(send.status < TALLY_OK && receive.status < TALLY_OK);
}

START_TEST(close_gives_up_what_never_finds_room)
{
    alone(close_without_room);
}
END_TEST

static void use_registered_memory(int mr_mode)
{
    static const size_t sizes[] = {
        0,   1,    64,   65,   511,           512,
        513, 4096, 4097, 9000, BYTES_MAX - 1, BYTES_MAX};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), ROUNDS = 5 };
    struct made_up *made_up = made_up_load();
    unsigned char *out = malloc(BYTES_MAX);
    unsigned char *in = malloc(BYTES_MAX);
    tally_request_t send, receive;
    int registrations = 0;
    struct side side;

    made_up->mr_mode = mr_mode;
    made_up->registrations = 0;
    open_loop(&side);
    for (unsigned i = 0; i < ROUNDS * SIZES; i++) {
        size_t bytes = sizes[i % SIZES];
        memset(in, 0, BYTES_MAX);
        pattern_fill(out, bytes, i);
        EXPECT(side.ops->trecv(side.transport, i, in, BYTES_MAX, &receive) ==
               TALLY_OK);
        post_send(&side, i, out, bytes, &send);
        EXPECT(side_wait(&side, &send) == TALLY_OK);
        EXPECT(side_wait(&side, &receive) == TALLY_OK);
        EXPECT(receive.bytes == bytes && pattern_holds(in, bytes, i));
        EXPECT(bytes == BYTES_MAX || in[bytes] == 0);
        if (i == SIZES)
            registrations = made_up->registrations;
    }
    // The same few, again and again.
    EXPECT(registrations > 0 && made_up->registrations == registrations);
    close_loop(&side, made_up);
    free(out);
    free(in);
}

static void use_registered(struct processes_member *member)
{
    (void)member;
    use_registered_memory(FI_MR_LOCAL);
    use_registered_memory(FI_MR_LOCAL | FI_MR_ENDPOINT);
}

START_TEST(messages_pass_through_registered_memory_where_it_is_asked_for)
{
    alone(use_registered);
}
END_TEST

static void lose_the_peer(struct processes_member *member)
{
    enum { POSTED, WAITS, MESSAGES };
    static const char large[1000];
    tally_request_t sends[MESSAGES], later;
    struct made_up *made_up = made_up_load();
    struct side side;

    (void)member;
    open_loop(&side);
    made_up->send_error = FI_ECONNRESET;
    post_send(&side, 1, large, sizeof(large), &sends[POSTED]);
    made_up->refusals = INT_MAX;
    post_send(&side, 1, large, sizeof(large), &sends[WAITS]);
    EXPECT(side_wait(&side, &sends[POSTED]) == TALLY_ERR_PEER);
    EXPECT(strcmp(core_error_text(),
                  "a send to rank 3 failed: a made-up error") == 0);
    EXPECT(sends[WAITS].status == TALLY_ERR_PEER);
    EXPECT(side.losses[PEER] == 1);
    // From now on at once.
    EXPECT(side.ops->tsend(side.peers[PEER], 1, large, 1, &later) ==
           TALLY_ERR_PEER);
    EXPECT(strcmp(core_error_text(),
                  "rank 3 was lost before: a made-up error") == 0);
    EXPECT(side.losses[PEER] == 1);
    close_loop(&side, made_up);
}

START_TEST(a_send_that_fails_for_its_peer_ends_all_sends_to_it)
{
    alone(lose_the_peer);
}
END_TEST

static void fail_a_post(struct processes_member *member)
{
    tally_request_t request;
    struct made_up *made_up = made_up_load();
    char byte = 1;
    struct side side;

    (void)member;
    open_loop(&side);
    made_up->post_error = FI_EOPNOTSUPP;
    EXPECT(side.ops->tsend(side.peers[PEER], 1, &byte, 1, &request) ==
           TALLY_ERR_TRANSPORT);
    made_up->post_error = FI_ENOMEM;
    EXPECT(side.ops->trecv(side.transport, 1, &byte, 1, &request) ==
           TALLY_ERR_MEMORY);
    EXPECT(side.losses[PEER] == 0);
    // The transport goes on.
    side_send(&side, PEER, 2, &byte, 1);
    EXPECT(side_receive(&side, 2, &byte, 1) == 1);
    close_loop(&side, made_up);
}

START_TEST(a_post_that_fails_is_told_at_once_and_leaves_nothing)
{
    alone(fail_a_post);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport ofi, made up");
    TCase *tests = tcase_create("libfabric");

    tcase_set_timeout(tests, 120); // a guard against hangs
    tcase_add_test(
        tests, the_preferred_provider_is_chosen_and_poor_ones_only_if_named);
    tcase_add_test(tests, a_provider_whose_tags_are_narrow_is_passed_over);
    tcase_add_test(tests, messages_wait_for_room_and_keep_their_order);
    tcase_add_test(tests, what_waits_for_room_can_be_cancelled);
    tcase_add_test(tests, close_gives_up_what_never_finds_room);
    tcase_add_test(
        tests, messages_pass_through_registered_memory_where_it_is_asked_for);
    tcase_add_test(tests, a_send_that_fails_for_its_peer_ends_all_sends_to_it);
    tcase_add_test(tests, a_post_that_fails_is_told_at_once_and_leaves_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous and those who mean it harm, or are broken: whatever comes to
// the root's port, the ranks of the job come up, and nobody else does.
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap/link/socket.h"
#include "bootstrap/link/wire.h"
#include "bootstrap/secret.h"
#include "harness/random.h"
#include "harness/ranks.h"
#include "harness/rendezvous.h"

#define RANKS 8
#define RADIX 2 // so that rank 7 is a child of 3, and that of 1
#define SECRET "sesame"

// Guests that a host takes, and more than those.
#define GUESTS 64
#define CROWD 100

struct attack {
    uint16_t port;
    // What comes before the ranks; what it opens stays open.
    void (*begin)(struct attack *attack);
    bool secret;
    void (*again)(struct attack *attack); // until all are up; NULL: nothing
    atomic_bool begun;
    atomic_int up;
    int fds[CROWD];
    int count;
    struct random random;
};

// ------------------------------------------------------------------ by hand

// Connects, as soon as the root is there. -1: it listens no more, for all ranks
// are up.
static int reach(struct attack *attack)
{
    struct socket_place place, peer;
    const char *why;

    socket_resolve("127.0.0.1", attack->port, &place, 1, &why);
    while (atomic_load(&attack->up) < RANKS) {
        int fd = socket_connect(&place);
        struct pollfd poll_fd = {fd, POLLOUT, 0};

        if (fd >= 0 && poll(&poll_fd, 1, 1000) == 1 && socket_peer(fd, &peer))
            return fd;
        if (fd >= 0)
            close(fd);
        usleep(2000);
    }
    return -1;
}

static void keep(struct attack *attack, int fd)
{
    if (attack->count == CROWD)
        close(attack->fds[--attack->count]);
    if (fd >= 0)
        attack->fds[attack->count++] = fd;
}

static void say(int fd, const void *bytes, size_t count)
{
    (void)!send(fd, bytes, count, MSG_NOSIGNAL);
}

// Waits for so many bytes; false if the other side has closed before.
static bool hear(int fd, void *bytes, size_t count)
{
    size_t got = 0;

    while (got < count) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        ssize_t more;

        if (poll(&poll_fd, 1, 20000) != 1)
            return false;
        more = recv(fd, (char *)bytes + got, count - got, 0);
        if (more <= 0)
            return false;
        got += (size_t)more;
    }
    return true;
}

static bool hear_frame(int fd, struct wire_header *header, uint8_t *body,
                       size_t room)
{
    uint8_t raw[WIRE_HEADER_BYTES];

    return hear(fd, raw, sizeof(raw)) && wire_header_decode(raw, header) &&
           header->bytes <= room && hear(fd, body, header->bytes);
}

static void hear_challenge(int fd, struct wire_challenge *challenge)
{
    struct wire_header header;
    uint8_t body[64];

    ck_assert(hear_frame(fd, &header, body, sizeof(body)));
    ck_assert(wire_challenge_decode(body, header.bytes, challenge));
}

// A hello as rank `rank` would send it in answer to a nonce; its bytes.
static size_t hello_make(const struct attack *attack, int32_t rank,
                         const uint8_t nonce[WIRE_NONCE_BYTES],
                         const char *secret, uint8_t *out, size_t room)
{
    struct rendezvous like;
    struct wire_hello hello = {.rank = rank, .world_size = RANKS};
    struct wire_header header = {WIRE_HELLO, WIRE_PROTOCOL, 0};
    uint8_t *body = out + WIRE_HEADER_BYTES;

    rendezvous_prepare(&like, rank, RANKS, attack->port);
    hello.secured = secret != NULL;
    hello.abi = like.params.abi;
    hello.timeout_ms = hello.patience_ms = 20000;
    hello.port = 1;
    hello.job = (struct wire_text){"test", 4};
    hello.version = (struct wire_text){like.params.version,
                                       (uint32_t)strlen(like.params.version)};
    hello.settings = (struct wire_text){like.params.settings,
                                        (uint32_t)strlen(like.params.settings)};
    header.bytes =
        (uint32_t)wire_hello_encode(&hello, body, room - WIRE_HEADER_BYTES);
    if (secret != NULL)
        ck_assert(secret_mac(secret, strlen(secret), WIRE_HELLO, nonce,
                             body + WIRE_MAC_BYTES,
                             header.bytes - WIRE_MAC_BYTES, body));
    wire_header_encode(&header, out);
    rendezvous_close(&like);
    return WIRE_HEADER_BYTES + header.bytes;
}

static void reset(int fd)
{
    struct linger now = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

// --------------------------------------------------------------- a job under
// it

// The root says how many connections it had.
static void check_connections(void *context, tally_log_level_t level,
                              const char *line)
{
    int ranks, connections;

    (void)level;
    if (sscanf(line, "all %d ranks have come, at most %d connections", &ranks,
               &connections) != 2)
        return;
    ck_assert_int_le(connections, RADIX + GUESTS);
    *(bool *)context = true;
}

static void run_rank(struct attack *attack, struct ranks_member *member)
{
    struct rendezvous rendezvous;
    int32_t ranks[RANKS];
    struct exchange_group group = {ranks, RANKS, member->rank, "all", 0};
    bool checked = false;
    const struct core_log log = {TALLY_LOG_INFO, member->rank,
                                 check_connections, &checked};

    for (int32_t i = 0; i < RANKS; i++)
        ranks[i] = i;
    rendezvous_prepare(&rendezvous, member->rank, RANKS, attack->port);
    rendezvous.params.log = &log;
    rendezvous.params.radix = RADIX;
    rendezvous.params.timeout_us = 60000000;
    if (attack->secret) {
        rendezvous.params.secret = SECRET;
        rendezvous.params.secret_bytes = strlen(SECRET);
    }
    while (member->rank > 0 && !atomic_load(&attack->begun))
        usleep(1000);
    rendezvous_open(&rendezvous);
    ck_assert_str_eq(rendezvous.sentence, "");
    ck_assert(checked == (member->rank == 0));
    atomic_fetch_add(&attack->up, 1);
    ck_assert_int_eq(rendezvous_gather(&rendezvous, &group, 7), TALLY_OK);
    ranks_barrier(member);
    rendezvous_close(&rendezvous);
}

static void run_member(struct ranks_member *member)
{
    struct attack *attack = member->argument;

    if (member->rank < RANKS) {
        run_rank(attack, member);
        return;
    }
    attack->begin(attack);
    atomic_store(&attack->begun, true);
    while (attack->again != NULL && atomic_load(&attack->up) < RANKS)
        attack->again(attack);
    ranks_barrier(member);
}

static void run(void (*begin)(struct attack *), void (*again)(struct attack *),
                bool secret)
{
    struct attack attack = {
        .begin = begin, .again = again, .secret = secret, .random = {1}};
    int fd;

    attack.port = rendezvous_port(&fd);
    ranks_run(RANKS + 1, run_member, &attack);
    while (attack.count > 0)
        close(attack.fds[--attack.count]);
    close(fd);
}

// -------------------------------------------------------------------- attacks

// Every other one begins like a frame, and some are whole ones.
static void random_bytes(struct attack *attack)
{
    uint8_t bytes[256];
    int fd = reach(attack);

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_next(&attack->random);
    if (random_below(&attack->random, 2) == 0) {
        struct wire_header header = {
            (uint8_t)random_below(&attack->random, WIRE_TYPE_COUNT),
            WIRE_PROTOCOL, random_below(&attack->random, 2 * sizeof(bytes))};

        wire_header_encode(&header, bytes);
    }
    say(fd, bytes, 1 + random_below(&attack->random, sizeof(bytes)));
    keep(attack, fd);
}

static void twenty_times_random_bytes(struct attack *attack)
{
    for (int i = 0; i < 20; i++)
        random_bytes(attack);
}

START_TEST(random_bytes_do_no_harm)
{
    run(twenty_times_random_bytes, random_bytes, false);
}
END_TEST

static void silent_crowd(struct attack *attack)
{
    while (attack->count < CROWD)
        keep(attack, reach(attack));
}

START_TEST(a_silent_crowd_is_turned_out)
{
    run(silent_crowd, NULL, false);
}
END_TEST

// A byte of a hello at a time, on every connection; who is turned out comes
// again.
static void trickle(struct attack *attack)
{
    static const uint8_t nonce[WIRE_NONCE_BYTES];
    uint8_t hello[1024];

    hello_make(attack, 1, nonce, NULL, hello, sizeof(hello));
    for (int i = 0; i < attack->count; i++) {
        say(attack->fds[i], hello + random_below(&attack->random, 8), 1);
        if (recv(attack->fds[i], hello, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
            close(attack->fds[i]);
            attack->fds[i] = attack->fds[--attack->count];
            keep(attack, reach(attack));
        }
    }
    usleep(20000);
}

START_TEST(a_crowd_that_trickles_bytes_is_turned_out)
{
    run(silent_crowd, trickle, false);
}
END_TEST

static void too_long(struct attack *attack)
{
    static const uint32_t lengths[] = {WIRE_GUEST_BYTES_MAX + 1,
                                       WIRE_BODY_BYTES_MAX, UINT32_MAX};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct wire_header header = {WIRE_HELLO, WIRE_PROTOCOL, lengths[i]};
        uint8_t raw[WIRE_HEADER_BYTES];
        struct wire_challenge challenge;
        int fd = reach(attack);

        hear_challenge(fd, &challenge);
        wire_header_encode(&header, raw);
        say(fd, raw, sizeof(raw));
        // It is turned out at the header.
        ck_assert(!hear(fd, raw, 1));
        close(fd);
    }
}

START_TEST(a_length_beyond_any_hello_ends_the_connection)
{
    run(too_long, NULL, false);
}
END_TEST

// Says hello as a rank of the job, and is gone or says no more.
static void hello_then(struct attack *attack, int32_t rank, bool is_gone)
{
    struct wire_challenge challenge;
    uint8_t hello[1024];
    uint8_t raw[WIRE_HEADER_BYTES];
    int fd = reach(attack);

    hear_challenge(fd, &challenge);
    say(fd, hello,
        hello_make(attack, rank, challenge.nonce, NULL, hello, sizeof(hello)));
    if (!is_gone) {
        (void)hear(fd, raw, sizeof(raw)); // a child is welcomed
        keep(attack, fd);
    } else {
        usleep(20000); // or the hello is thrown away with the connection
        reset(fd);
    }
}

static void hello_of_a_child_then_reset(struct attack *attack)
{
    hello_then(attack, 1, true);
    hello_then(attack, 1, true);
}

static void hello_of_a_grandchild_then_reset(struct attack *attack)
{
    hello_then(attack, 3, true);
    hello_then(attack, 3, true);
}

static void hello_of_a_child_then_silence(struct attack *attack)
{
    hello_then(attack, 1, false);
}

START_TEST(a_hello_that_is_reset_does_not_keep_the_true_rank_out)
{
    run(_i == 0 ? hello_of_a_child_then_reset
                : hello_of_a_grandchild_then_reset,
        NULL, false);
}
END_TEST

START_TEST(a_hello_without_more_does_not_keep_the_true_rank_out)
{
    run(hello_of_a_child_then_silence, NULL, false);
}
END_TEST

#ifdef HAVE_CRYPTO
// The status of a refusal, or 0 if something else was said.
static int32_t refusal(int fd)
{
    struct wire_header header;
    struct wire_refuse refuse;
    uint8_t body[1024];

    if (!hear_frame(fd, &header, body, sizeof(body)) ||
        header.type != WIRE_REFUSE ||
        !wire_refuse_decode(body, header.bytes, &refuse) || !refuse.stranger)
        return 0;
    return refuse.status;
}

// A hello of somebody who knows the secret, in answer to another challenge.
static void replay(struct attack *attack)
{
    struct wire_challenge first, second;
    uint8_t hello[1024];
    int fds[2] = {reach(attack), reach(attack)};

    hear_challenge(fds[0], &first);
    hear_challenge(fds[1], &second);
    ck_assert_mem_ne(first.nonce, second.nonce, sizeof(first.nonce));
    size_t bytes =
        hello_make(attack, 1, first.nonce, SECRET, hello, sizeof(hello));
    say(fds[1], hello, bytes);
    ck_assert_int_eq(refusal(fds[1]), TALLY_ERR_MISMATCH);
    close(fds[0]);
    close(fds[1]);
}

START_TEST(a_hello_that_was_overheard_is_of_no_use)
{
    run(replay, NULL, true);
}
END_TEST

static void change_a_byte(struct attack *attack)
{
    for (int i = 0; i < 20; i++) {
        struct wire_challenge challenge;
        uint8_t hello[1024];
        int fd = reach(attack);

        hear_challenge(fd, &challenge);
        size_t bytes = hello_make(attack, 1, challenge.nonce, SECRET, hello,
                                  sizeof(hello));
        // The MAC, the nonce; not the lengths, which make it no hello.
        hello[WIRE_HEADER_BYTES +
              random_below(&attack->random,
                           WIRE_MAC_BYTES + WIRE_NONCE_BYTES)] ^= 0x10;
        say(fd, hello, bytes);
        ck_assert_int_eq(refusal(fd), TALLY_ERR_MISMATCH);
        close(fd);
    }
}

START_TEST(a_hello_with_a_byte_changed_is_turned_away)
{
    run(change_a_byte, NULL, true);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("bootstrap hostile");
    TCase *tests = tcase_create("hostile");

    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, random_bytes_do_no_harm);
    tcase_add_test(tests, a_silent_crowd_is_turned_out);
    tcase_add_test(tests, a_crowd_that_trickles_bytes_is_turned_out);
    tcase_add_test(tests, a_length_beyond_any_hello_ends_the_connection);
    tcase_add_loop_test(
        tests, a_hello_that_is_reset_does_not_keep_the_true_rank_out, 0, 2);
    tcase_add_test(tests, a_hello_without_more_does_not_keep_the_true_rank_out);
#ifdef HAVE_CRYPTO
    tcase_add_test(tests, a_hello_that_was_overheard_is_of_no_use);
    tcase_add_test(tests, a_hello_with_a_byte_changed_is_turned_away);
#endif
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

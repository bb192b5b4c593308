// SPDX-License-Identifier: BSD-3-Clause
// Frames of the rendezvous: what was written is read, what is cut is refused,
// and a MAC covers every byte.
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap/link/connection.h"
#include "bootstrap/secret.h"

static struct wire_text text_of(const char *string)
{
    return (struct wire_text){string, (uint32_t)strlen(string)};
}

START_TEST(a_hello_comes_back)
{
    struct wire_hello hello = {
        .mac = {1, 2, 3},
        .nonce = {4, 5},
        .secured = 1,
        .abi = 0x01020304,
        .rank = -7,
        .world_size = 65536,
        .patience_ms = 0xfffffffe,
        .port = 65535,
        .job = text_of("job"),
        .version = text_of(""),
        .settings = text_of("A=1\nB=2\n"),
    };
    uint8_t body[256];
    struct wire_hello again;
    size_t bytes = wire_hello_encode(&hello, NULL, 0);

    ck_assert_uint_le(bytes, sizeof(body));
    ck_assert_uint_eq(wire_hello_encode(&hello, body, sizeof(body)), bytes);
    ck_assert(wire_hello_decode(body, bytes, &again));
    ck_assert_mem_eq(again.mac, hello.mac, sizeof(hello.mac));
    ck_assert_mem_eq(again.nonce, hello.nonce, sizeof(hello.nonce));
    ck_assert_uint_eq(again.abi, hello.abi);
    ck_assert_int_eq(again.rank, -7);
    ck_assert_int_eq(again.world_size, 65536);
    ck_assert_uint_eq(again.patience_ms, hello.patience_ms);
    ck_assert_uint_eq(again.port, 65535);
    ck_assert_uint_eq(again.settings.length, 8);
    ck_assert_mem_eq(again.settings.bytes, "A=1\nB=2\n", 8);
    for (size_t cut = 0; cut < bytes; cut++)
        ck_assert(!wire_hello_decode(body, cut, &again));
    ck_assert(!wire_hello_decode(body, bytes + 1, &again));
}
END_TEST

START_TEST(numbers_are_little_endian)
{
    struct wire_news news = {0x01020304, WIRE_NEWS_LEFT};
    uint8_t body[8];

    ck_assert_uint_eq(wire_news_encode(&news, body, sizeof(body)), 5);
    ck_assert_mem_eq(body, ((uint8_t[]){4, 3, 2, 1, 1}), 5);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    struct wire_news news = {3, WIRE_NEWS_STATE_COUNT};
    struct wire_refuse refuse = {.status = 0};
    struct wire_failure failure = {.status = -8, .present = {"12345", 5}};
    uint8_t body[64];

    size_t bytes = wire_news_encode(&news, body, sizeof(body));
    ck_assert(!wire_news_decode(body, bytes, &news));
    bytes = wire_refuse_encode(&refuse, body, sizeof(body));
    ck_assert(!wire_refuse_decode(body, bytes, &refuse));
    bytes = wire_failure_encode(&failure, body, sizeof(body));
    ck_assert(!wire_failure_decode(body, bytes, &failure));
}
END_TEST

START_TEST(a_header_that_is_none_is_refused)
{
    struct wire_header header = {WIRE_GO, WIRE_PROTOCOL, 77};
    uint8_t raw[WIRE_HEADER_BYTES];
    struct wire_header again;

    wire_header_encode(&header, raw);
    ck_assert(wire_header_decode(raw, &again));
    ck_assert_uint_eq(again.bytes, 77);
    raw[2] = WIRE_TYPE_COUNT;
    ck_assert(!wire_header_decode(raw, &again));
    raw[3] = WIRE_PROTOCOL + 1; // of another protocol all may be different
    ck_assert(wire_header_decode(raw, &again));
    ck_assert(!wire_header_decode((const uint8_t *)"GET / HT", &again));
}
END_TEST

#ifdef HAVE_CRYPTO
START_TEST(a_mac_covers_secret_type_nonce_and_body)
{
    uint8_t nonce[WIRE_NONCE_BYTES] = {1};
    uint8_t mac[WIRE_MAC_BYTES];
    uint8_t other[WIRE_MAC_BYTES];

    ck_assert(secret_mac("key", 3, WIRE_HELLO, nonce, "body", 4, mac));
    ck_assert(secret_mac("key", 3, WIRE_HELLO, nonce, "body", 4, other));
    ck_assert(secret_mac_equal(mac, other));
    ck_assert(secret_mac("kez", 3, WIRE_HELLO, nonce, "body", 4, other));
    ck_assert(!secret_mac_equal(mac, other));
    ck_assert(secret_mac("key", 3, WIRE_WELCOME, nonce, "body", 4, other));
    ck_assert(!secret_mac_equal(mac, other));
    ck_assert(secret_mac("key", 3, WIRE_HELLO, nonce, "bodz", 4, other));
    ck_assert(!secret_mac_equal(mac, other));
    nonce[31] = 1;
    ck_assert(secret_mac("key", 3, WIRE_HELLO, nonce, "body", 4, other));
    ck_assert(!secret_mac_equal(mac, other));
}
END_TEST
#endif

// The kernel's, until the test's process ends.
static struct network *network(void)
{
    static struct network *kernel;

    if (kernel == NULL)
        kernel = network_open();
    ck_assert_ptr_nonnull(kernel);
    return kernel;
}

START_TEST(frames_pass_a_socket_in_pieces)
{
    int ends[2];
    struct connection_frame frame;
    size_t bytes = 300000;
    uint8_t *body = malloc(bytes);
    size_t waited = 0;

    for (size_t i = 0; i < bytes; i++)
        body[i] = (uint8_t)(i * 7);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
                     0);
    struct connection *a = connection_create_take(network(), ends[0]);
    struct connection *b = connection_create_take(network(), ends[1]);
    b->body_max = WIRE_BODY_BYTES_MAX;
    for (int i = 0; i < 3; i++)
        connection_send(a, WIRE_RESULT, body, bytes);
    connection_send(a, WIRE_GO, NULL, 0);
    ck_assert(connection_has_unsent(a));
    for (int i = 0; i < 4; i++) {
        while (connection_next(b, &frame) == CONNECTION_NOTHING) {
            connection_receive(b);
            connection_flush(a);
            ck_assert_uint_lt(waited++, 100000);
        }
        if (i < 3) {
            ck_assert_uint_eq(frame.header.bytes, bytes);
            ck_assert_mem_eq(frame.body, body, bytes);
        } else {
            ck_assert_uint_eq(frame.header.type, WIRE_GO);
        }
    }
    ck_assert(!connection_has_unsent(a));
    connection_free(a);
    connection_receive(b);
    ck_assert(b->broken);
    connection_free(b);
    free(body);
}
END_TEST

START_TEST(a_guest_may_not_send_much)
{
    int ends[2];
    struct connection_frame frame;
    uint8_t raw[WIRE_HEADER_BYTES];
    struct wire_header header = {WIRE_HELLO, WIRE_PROTOCOL,
                                 WIRE_GUEST_BYTES_MAX + 1};

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
                     0);
    struct connection *b = connection_create_take(network(), ends[1]);
    wire_header_encode(&header, raw);
    ck_assert_int_eq(write(ends[0], raw, sizeof(raw)), sizeof(raw));
    connection_receive(b);
    ck_assert_int_eq(connection_next(b, &frame), CONNECTION_GARBAGE);
    connection_free(b);
    close(ends[0]);
}
END_TEST

START_TEST(places_are_written_for_people)
{
    struct socket_place place[2];
    char text[SOCKET_TEXT_BYTES];
    const char *why;

    ck_assert_int_ge(socket_resolve("127.0.0.1", 80, place, 2, &why), 1);
    socket_place_text(&place[0], text);
    ck_assert_str_eq(text, "127.0.0.1:80");
    ck_assert(socket_place_is_loopback(&place[0]));
    ck_assert_int_ge(socket_resolve("fe80::1", 443, place, 2, &why), 1);
    socket_place_text(&place[0], text);
    ck_assert_str_eq(text, "[fe80::1]:443");
    ck_assert(!socket_place_is_loopback(&place[0]));
    ck_assert_int_ge(socket_resolve("::1", 443, place, 2, &why), 1);
    ck_assert(socket_place_is_loopback(&place[0]));
    ck_assert_int_eq(socket_resolve("no such host", 1, place, 2, &why), 0);
    ck_assert_str_ne(why, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap wire");
    TCase *tcase = tcase_create("frames");

    tcase_add_test(tcase, a_hello_comes_back);
    tcase_add_test(tcase, numbers_are_little_endian);
    tcase_add_test(tcase, what_makes_no_sense_is_refused);
    tcase_add_test(tcase, a_header_that_is_none_is_refused);
#ifdef HAVE_CRYPTO
    tcase_add_test(tcase, a_mac_covers_secret_type_nonce_and_body);
#endif
    tcase_add_test(tcase, frames_pass_a_socket_in_pieces);
    tcase_add_test(tcase, a_guest_may_not_send_much);
    tcase_add_test(tcase, places_are_written_for_people);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

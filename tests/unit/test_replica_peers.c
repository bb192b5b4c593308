// SPDX-License-Identifier: BSD-3-Clause
// What goes to the peers of a replica at once, and in which order: messages are
// packed, and packets are taken apart; and when a peer is late. The transport
// is an array here.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "harness/backends/backend.h"
#include "replica/loop/packets.h"
#include "replica/loop/peers.h"

#define SELF 1
#define HEARTBEAT_US 100000
#define PEERS 4
#define PACKETS 8
#define RECEIVES 64

struct tally_endpoint {
    tally_transport_t *transport;
    int32_t peer;
};

struct packet {
    int32_t peer; // it went to
    size_t bytes;
    uint8_t content[REPLICA_PACKET_MAX];
};

struct tally_transport {
    struct tally_endpoint endpoints[PEERS];
    int sent;
    struct packet packets[PACKETS];
    int received;
    struct {
        uint16_t from;
        uint8_t *buffer;
        tally_request_t *request;
    } receives[RECEIVES];
};

static tally_status_t connect_any(tally_transport_t *transport, int32_t peer,
                                  const void *address, size_t bytes,
                                  tally_endpoint_t **out)
{
    (void)address;
    (void)bytes;
    transport->endpoints[peer] = (struct tally_endpoint){transport, peer};
    *out = &transport->endpoints[peer];
    return TALLY_OK;
}

static tally_status_t send_any(tally_endpoint_t *endpoint, uint64_t tag,
                               const void *buffer, size_t bytes,
                               tally_request_t *request)
{
    struct tally_transport *transport = endpoint->transport;
    struct packet *packet = &transport->packets[transport->sent++];

    (void)tag;
    ck_assert_int_le(transport->sent, PACKETS);
    packet->peer = endpoint->peer;
    packet->bytes = bytes;
    memcpy(packet->content, buffer, bytes);
    request->status = TALLY_OK;
    return TALLY_OK;
}

static tally_status_t receive_later(tally_transport_t *transport, uint64_t tag,
                                    void *buffer, size_t bytes,
                                    tally_request_t *request)
{
    int at = transport->received++;

    ck_assert_int_lt(at, RECEIVES);
    ck_assert_uint_eq(bytes, REPLICA_PACKET_MAX);
    request->status = TALLY_NOT_YET;
    transport->receives[at].from = (uint16_t)tag;
    transport->receives[at].buffer = buffer;
    transport->receives[at].request = request;
    return TALLY_OK;
}

static const tally_transport_ops_t ops = {
    .name = "array",
    .address = backend_address,
    .connect = connect_any,
    .tsend = send_any,
    .trecv = receive_later,
    .cancel = backend_cancel,
    .message_max = REPLICA_PACKET_MAX,
};

// -------------------------------------------------------------------- a scene

struct scene {
    struct tally_transport transport;
    struct replica_peers *peers;
    char heard[64]; // the first byte of each message
    bool answers;   // a message with one to everybody
};

static void say(struct scene *scene, uint16_t peer, const char *word)
{
    replica_peers_send(scene->peers, peer, (const uint8_t *)word, strlen(word));
}

static void hear(void *context, const uint8_t *bytes, size_t length)
{
    struct scene *scene = context;

    ck_assert_uint_gt(length, 0);
    scene->heard[strlen(scene->heard)] = (char)bytes[0];
    if (!scene->answers)
        return;
    for (uint16_t peer = 0; peer < PEERS; peer++)
        say(scene, peer, "answer");
    replica_peers_flush(scene->peers);
}

static void know(struct scene *scene, uint16_t peer, uint64_t incarnation,
                 int64_t now_us)
{
    uint8_t address[REPLICA_ADDRESS_BYTES_MAX];
    size_t bytes = sizeof(address);

    ck_assert_int_eq(replica_peers_address(scene->peers, address, &bytes),
                     TALLY_OK);
    replica_peers_know(scene->peers, peer, incarnation, address, bytes, now_us);
}

// Of one who knows nobody yet.
static struct scene *scene_create(void)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    const struct replica_peers_params params = {
        .ops = &ops,
        .transport = &scene->transport,
        .self = {SELF, 0, 1},
        .count = PEERS,
        .layout = 7,
        .records = 1,
        .heartbeat_us = HEARTBEAT_US,
        .dead_after = 3,
        .receive = hear,
        .context = scene,
    };

    ck_assert_int_eq(replica_peers_create(&params, &scene->peers), TALLY_OK);
    return scene;
}

static struct scene *scene_begin(void)
{
    struct scene *scene = scene_create();

    for (uint16_t peer = 0; peer < PEERS; peer++)
        know(scene, peer, 1, 1);
    replica_peers_progress(scene->peers, 1);
    return scene;
}

static void scene_end(struct scene *scene)
{
    replica_peers_free(scene->peers);
    free(scene);
}

static void arrive(struct scene *scene, uint16_t from, const uint8_t *packet,
                   size_t bytes)
{
    struct tally_transport *transport = &scene->transport;
    int at = 0;

    while (transport->receives[at].from != from ||
           transport->receives[at].request->status != TALLY_NOT_YET)
        at++;
    memcpy(transport->receives[at].buffer, packet, bytes);
    transport->receives[at].request->bytes = (uint32_t)bytes;
    transport->receives[at].request->status = TALLY_OK;
    replica_peers_progress(scene->peers, 2);
}

START_TEST(what_goes_to_a_peer_at_once_is_one_packet)
{
    struct scene *scene = scene_begin();

    say(scene, 0, "first");
    say(scene, 2, "first");
    say(scene, 0, "second");
    say(scene, 0, "third");
    ck_assert_int_eq(scene->transport.sent, 0);
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 2);
    ck_assert_int_eq(scene->transport.packets[0].peer, 0);
    ck_assert_int_eq(scene->transport.packets[1].peer, 2);
    replica_peers_flush(scene->peers); // nothing is left
    ck_assert_int_eq(scene->transport.sent, 2);
    const struct packet *packet = &scene->transport.packets[0];
    arrive(scene, 3, packet->content, packet->bytes);
    ck_assert_str_eq(scene->heard, "fst");
    scene_end(scene);
}
END_TEST

START_TEST(what_does_not_fit_into_a_packet_goes_into_the_next)
{
    struct scene *scene = scene_begin();
    uint8_t message[REPLICA_MESSAGE_MAX];

    memset(message, 'm', sizeof(message));
    for (int i = 0; i < 3; i++)
        replica_peers_send(scene->peers, 0, message, sizeof(message));
    ck_assert_int_eq(scene->transport.sent, 2);
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 3);
    for (int i = 0; i < 3; i++)
        arrive(scene, 0, scene->transport.packets[i].content,
               scene->transport.packets[i].bytes);
    ck_assert_str_eq(scene->heard, "mmm");
    scene_end(scene);
}
END_TEST

START_TEST(who_is_answered_gets_its_packet_first)
{
    static const uint8_t packet[] = {1, 0, 'q'};
    struct scene *scene = scene_begin();

    scene->answers = true;
    arrive(scene, 2, packet, sizeof(packet));
    ck_assert_int_eq(scene->transport.sent, PEERS - 1);
    ck_assert_int_eq(scene->transport.packets[0].peer, 2);
    ck_assert_int_eq(scene->transport.packets[1].peer, 0);
    scene_end(scene);
}
END_TEST

START_TEST(what_may_wait_goes_with_what_may_not)
{
    struct scene *scene = scene_begin();

    for (uint16_t peer = 0; peer < PEERS; peer++)
        replica_peers_hold(scene->peers, peer, (const uint8_t *)"later", 5);
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 0);
    say(scene, 2, "now");
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 1);
    const struct packet *packet = &scene->transport.packets[0];
    ck_assert_int_eq(packet->peer, 2);
    arrive(scene, 3, packet->content, packet->bytes);
    ck_assert_str_eq(scene->heard, "ln");
    ck_assert(replica_peers_holds(scene->peers));
    replica_peers_release(scene->peers);
    ck_assert_int_eq(scene->transport.sent, PEERS - 1);
    ck_assert(!replica_peers_holds(scene->peers));
    scene_end(scene);
}
END_TEST

START_TEST(the_rest_of_a_packet_that_is_not_whole_is_not_taken)
{
    static const uint8_t cut[] = {1, 0, 'a', 2, 0, 'b'};
    static const uint8_t no_length[] = {1, 0, 'c', 1};
    struct scene *scene = scene_begin();

    arrive(scene, 0, cut, sizeof(cut));
    arrive(scene, 0, no_length, sizeof(no_length));
    arrive(scene, 0, cut, 0);
    ck_assert_str_eq(scene->heard, "ac");
    scene_end(scene);
}
END_TEST

START_TEST(what_was_not_flushed_is_not_for_the_next_incarnation)
{
    struct scene *scene = scene_begin();

    say(scene, 0, "old");
    know(scene, 0, 2, 2);
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 0);
    say(scene, 0, "new");
    replica_peers_flush(scene->peers);
    ck_assert_int_eq(scene->transport.sent, 1);
    ck_assert_uint_eq(scene->transport.packets[0].content[2], 'n');
    scene_end(scene);
}
END_TEST

START_TEST(a_peer_is_late_at_the_moment_that_was_said)
{
    struct scene *scene = scene_create();
    const int64_t known_us = 1000;
    int64_t now_us = known_us;

    know(scene, 2, 1, known_us);
    ck_assert_uint_eq(replica_peers_check(scene->peers, now_us), 0);
    if (_i != 0)
        replica_peers_hint(scene->peers, 2);
    // Heartbeats, until it is late itself.
    int64_t late_us = known_us + (3 - _i) * HEARTBEAT_US + 1;
    uint64_t dead = 0;
    while (dead == 0) {
        int64_t due_us = replica_peers_due(scene->peers);
        ck_assert_int_gt(due_us, now_us);
        ck_assert_int_le(due_us, now_us + HEARTBEAT_US);
        now_us = due_us;
        dead = replica_peers_check(scene->peers, now_us);
        ck_assert_int_le(now_us, late_us);
    }
    ck_assert_uint_eq(dead, 1u << 2);
    ck_assert_int_eq(now_us, late_us);
    // Nobody else is awaited.
    ck_assert_int_gt(replica_peers_due(scene->peers), now_us);
    scene_end(scene);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica peers");
    TCase *tcase = tcase_create("peers");

    tcase_add_test(tcase, what_goes_to_a_peer_at_once_is_one_packet);
    tcase_add_test(tcase, what_does_not_fit_into_a_packet_goes_into_the_next);
    tcase_add_test(tcase, who_is_answered_gets_its_packet_first);
    tcase_add_test(tcase, what_may_wait_goes_with_what_may_not);
    tcase_add_test(tcase, the_rest_of_a_packet_that_is_not_whole_is_not_taken);
    tcase_add_test(tcase, what_was_not_flushed_is_not_for_the_next_incarnation);
    tcase_add_loop_test(tcase, a_peer_is_late_at_the_moment_that_was_said, 0,
                        2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// When the loop of a replica forces a lineage: what it waits for, and what it
// makes of a register that refuses. There is no thread, no network and no
// register here: a test says what time it is, who is heard and what is
// answered.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "harness/backends/backend.h"
#include "harness/replica_node.h"
#include "quorum/quorum.h"
#include "replica/loop/packets.h"
#include "replica/loop/state.h"

#define SECOND_US INT64_C(1000000)
#define HEARTBEAT_US (SECOND_US / 10)
#define FORCE_US (2 * SECOND_US)
// Longer than anything that the loop waits for.
#define LONG_US (60 * SECOND_US)
#define LAYOUT 7
#define REPLICAS 3
#define PEERS 5 // all of them acceptors, those after the replicas witnesses
#define WITNESS 3

// ---------------------------------------------------------------- a transport

// What was sent last, to anybody; and where what comes from a peer goes to.
struct tally_transport {
    uint8_t sent[REPLICA_PACKET_MAX];
    size_t bytes;
    struct {
        void *buffer;
        tally_request_t *request;
    } receives[PEERS];
};

static tally_status_t send_any(tally_endpoint_t *endpoint, uint64_t tag,
                               const void *buffer, size_t bytes,
                               tally_request_t *request)
{
    struct tally_transport *transport = (struct tally_transport *)endpoint;

    (void)tag;
    memcpy(transport->sent, buffer, bytes);
    transport->bytes = bytes;
    request->status = TALLY_OK;
    return TALLY_OK;
}

static tally_status_t receive_later(tally_transport_t *transport, uint64_t tag,
                                    void *buffer, size_t bytes,
                                    tally_request_t *request)
{
    uint16_t from = (uint16_t)tag;

    (void)bytes;
    ck_assert_uint_lt(from, PEERS);
    request->status = TALLY_NOT_YET;
    transport->receives[from].buffer = buffer;
    transport->receives[from].request = request;
    return TALLY_OK;
}

static const tally_transport_ops_t ops = {
    .name = "by hand",
    .address = backend_address,
    .connect = backend_connect_any,
    .tsend = send_any,
    .trecv = receive_later,
    .cancel = backend_cancel,
    .message_max = REPLICA_PACKET_MAX,
};

// -------------------------------------------------------------------- a scene

struct scene {
    struct tally_transport transport;
    struct core_log log;
    struct quorum *quorum;
    struct replica_position position;
    struct replica_loop *loop;
    int64_t now_us;
    int forces, refusals, stops; // lines that said so
};

static struct replica_peers *open_peers(struct tally_transport *transport,
                                        uint16_t self)
{
    const struct replica_peers_params params = {
        .ops = &ops,
        .transport = transport,
        .self = {self, 0, 1u + self},
        .count = PEERS,
        .layout = LAYOUT,
        .records = 1,
        .heartbeat_us = HEARTBEAT_US,
        .dead_after = 3,
    };
    struct replica_peers *peers;

    ck_assert_int_eq(replica_peers_create(&params, &peers), TALLY_OK);
    return peers;
}

static void know(struct replica_peers *peers, struct replica_peers *other,
                 uint16_t number)
{
    uint8_t address[REPLICA_ADDRESS_BYTES_MAX];
    size_t bytes = sizeof(address);

    ck_assert_int_eq(replica_peers_address(other, address, &bytes), TALLY_OK);
    replica_peers_know(peers, number, 1u + number, address, bytes, 1);
}

// The replica hears the heartbeat of one other process.
static void hear(struct scene *scene, uint16_t number)
{
    struct tally_transport its = {.bytes = 0};
    struct replica_peers *other = open_peers(&its, number);

    know(scene->loop->peers, other, number);
    know(other, scene->loop->peers, 0);
    replica_peers_beat(other, (struct replica_peers_beat){1, 1});
    replica_peers_check(other, 1);
    ck_assert_uint_gt(its.bytes, 0);
    tally_request_t *request = scene->transport.receives[number].request;
    memcpy(scene->transport.receives[number].buffer, its.sent, its.bytes);
    request->bytes = (uint32_t)its.bytes;
    request->status = TALLY_OK;
    replica_peers_progress(scene->loop->peers, 1);
    replica_peers_free(other);
}

static void read_line(void *context, tally_log_level_t level, const char *line)
{
    struct scene *scene = context;

    (void)level;
    scene->forces += strstr(line, "forces an end of lineage 1") != NULL;
    scene->refusals += strstr(line, "continue one that has applied") != NULL;
    scene->stops += strstr(line, "nothing can be decided") != NULL;
}

static struct replica_position all_of_them(void)
{
    struct replica_position position = {.next = {.index = 1}};
    struct replica_epoch *epoch = &position.epoch;

    epoch->lineage = 1;
    epoch->number = 1;
    epoch->members = (1u << REPLICAS) - 1;
    epoch->acceptor_count = PEERS;
    for (uint16_t peer = 0; peer < PEERS; peer++) {
        epoch->acceptors[peer] = (struct replica_name){peer, 0, 1u + peer};
        if (peer < REPLICAS)
            epoch->incarnations[peer] = 1u + peer;
    }
    return position;
}

static tally_status_t nowhere(void *context, const tally_member_t *self)
{
    (void)context;
    (void)self;
    return TALLY_OK;
}

static tally_status_t
nobody(void *context, void (*tell)(void *tally, const tally_member_t *member),
       void *tally)
{
    (void)context;
    (void)tell;
    (void)tally;
    return TALLY_OK;
}

static const char *no_setting(void *context, const char *name)
{
    (void)context;
    (void)name;
    return NULL;
}

// Membership that is not announced, so it has no thread.
static struct quorum *open_quorum(void)
{
    tally_membership_t membership = TALLY_INIT(tally_membership_t);
    const struct quorum_params params = {.provider = "callback",
                                         .job = "",
                                         .peers = PEERS,
                                         .setting = no_setting,
                                         .membership = &membership};
    struct quorum *quorum;

    membership.announce = nowhere;
    membership.look = nobody;
    ck_assert_int_eq(quorum_open(&params, &quorum), TALLY_OK);
    return quorum;
}

// Replica 0 of three, with two witnesses. It has heard nobody yet, nor looked.
static void scene_begin(struct scene *scene)
{
    struct replica_loop *loop = calloc(1, sizeof(*loop));

    *scene = (struct scene){
        .quorum = open_quorum(),
        .position = all_of_them(),
        .loop = loop,
        .now_us = LONG_US,
    };
    scene->log = (struct core_log){TALLY_LOG_INFO, -1, read_line, scene};
    loop->params = (struct replica_loop_params){
        .ops = &ops,
        .transport = &scene->transport,
        .quorum = scene->quorum,
        .self = {0, 0, 1},
        .replicas = REPLICAS,
        .witnesses = PEERS - REPLICAS,
        .acceptors = PEERS,
        .records = 1,
        .minimum = 1,
        .heartbeat_us = HEARTBEAT_US,
        .dead_after = 3,
        .force_us = FORCE_US,
        .log = &scene->log,
    };
    loop->node =
        idle_node(loop->params.self, &scene->position, LONG_US, LONG_US);
    loop->peers = open_peers(&scene->transport, 0);
}

static void scene_end(struct scene *scene)
{
    replica_peers_free(scene->loop->peers);
    free(scene->loop->node);
    free(scene->loop);
    quorum_close(scene->quorum);
}

static void look(struct scene *scene, int64_t passed_us)
{
    scene->now_us += passed_us;
    scene->loop->now_us = scene->now_us;
    loop_consider_force(scene->loop);
}

// As the loop does, several times a heartbeat; until that many were forced, or
// for that long. Returns for how long.
static int64_t look_on(struct scene *scene, int forces, int64_t limit_us)
{
    int64_t begin_us = scene->now_us;

    while (scene->forces < forces && scene->now_us - begin_us < limit_us)
        look(scene, HEARTBEAT_US / 4);
    return scene->now_us - begin_us;
}

// ---------------------------------------------------------------------- tests

START_TEST(a_lineage_is_forced_once_no_quorum_was_heard_for_long_enough)
{
    struct scene scene;

    scene_begin(&scene);
    look(&scene, 0);
    int64_t silent_us = look_on(&scene, 1, LONG_US);
    ck_assert_int_eq(scene.forces, 1);
    ck_assert_int_eq(scene.stops, 1);
    ck_assert_int_ge(silent_us, FORCE_US - HEARTBEAT_US);
    ck_assert_int_le(silent_us, FORCE_US + HEARTBEAT_US);
    scene_end(&scene);
}
END_TEST

START_TEST(time_in_which_this_process_stood_still_is_no_silence_of_others)
{
    struct scene scene;

    scene_begin(&scene);
    look(&scene, 0);
    look(&scene, HEARTBEAT_US / 4);
    look(&scene, LONG_US);
    ck_assert_int_eq(scene.stops, 0);
    ck_assert_int_eq(scene.forces, 0);
    // From then on it is.
    int64_t silent_us = look_on(&scene, 1, LONG_US);
    ck_assert_int_eq(scene.forces, 1);
    ck_assert_int_ge(silent_us, FORCE_US - 3 * HEARTBEAT_US);
    scene_end(&scene);
}
END_TEST

// The witness is a survivor, and no acceptor of the list: of two peers one is.
START_TEST(a_lineage_that_was_refused_is_forced_again_by_other_survivors_only)
{
    const uint64_t published = 9;
    struct scene scene;
    struct loop_force *force;

    scene_begin(&scene);
    force = &scene.loop->force;
    hear(&scene, WITNESS);
    look_on(&scene, 1, LONG_US);
    ck_assert_int_eq(scene.forces, 1);
    ck_assert_uint_eq(replica_epoch_peers(&force->list), 1);
    ck_assert_uint_eq(force->survivors, 1 | replica_bit(WITNESS));
    // As if the swap had been on its way.
    force->request = 1;
    look_on(&scene, 2, LONG_US);
    ck_assert_int_eq(scene.forces, 1);
    const struct quorum_event answer = {
        .kind = QUORUM_ANSWER,
        .record.published.index = published,
        .request = force->request,
        .status = TALLY_ERR_MISMATCH,
        .sentence = "a checkpoint is published",
    };
    loop_answered(scene.loop, &answer);
    ck_assert_int_eq(scene.refusals, 1);
    look_on(&scene, 2, LONG_US);
    ck_assert_int_eq(scene.forces, 1);
    scene.loop->dead = replica_bit(WITNESS);
    look_on(&scene, 2, LONG_US);
    ck_assert_int_eq(scene.forces, 2);
    ck_assert_int_eq(scene.refusals, 1);
    scene_end(&scene);
}
END_TEST

// Who is later than another that forces a lineage asks again.
START_TEST(a_lineage_that_lost_to_another_is_forced_again)
{
    struct scene scene;

    scene_begin(&scene);
    look_on(&scene, 1, LONG_US);
    scene.loop->force.request = 1;
    const struct quorum_event answer = {
        .kind = QUORUM_ANSWER,
        .request = 1,
        .status = TALLY_ERR_MISMATCH,
        .sentence = "another lineage is there",
    };
    loop_answered(scene.loop, &answer);
    ck_assert_int_eq(scene.refusals, 0);
    look_on(&scene, 2, LONG_US);
    ck_assert_int_eq(scene.forces, 2);
    scene_end(&scene);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica force");
    TCase *tcase = tcase_create("force");

    tcase_add_test(
        tcase, a_lineage_is_forced_once_no_quorum_was_heard_for_long_enough);
    tcase_add_test(
        tcase, time_in_which_this_process_stood_still_is_no_silence_of_others);
    tcase_add_test(
        tcase,
        a_lineage_that_was_refused_is_forced_again_by_other_survivors_only);
    tcase_add_test(tcase, a_lineage_that_lost_to_another_is_forced_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

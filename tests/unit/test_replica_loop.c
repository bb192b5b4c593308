// SPDX-License-Identifier: BSD-3-Clause
// When the loop of a replica looks again: whom others wake its thread for.
// There is no network here, and a thread in two tests alone: the others say how
// long it would sleep. What becomes of a decision is test_step_replica's.
#include <check.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "harness/backends/backend.h"
#include "harness/replica_node.h"
#include "harness/replica_position.h"
#include "replica/loop/packets.h"
#include "replica/loop/state.h"

#define SECOND_US INT64_C(1000000)
// Far from any time that a test takes.
#define SLEEP_US (3600 * SECOND_US)
#define LATER_US (2 * SLEEP_US)
#define HEARTBEAT_US 100000
// After a thread that is deaf gets up.
#define LATER_MS 20
#define LAYOUT 7

struct tally_transport {
    tally_status_t waits; // what it says to who would sleep
    int fd;               // with it
    int sent;
};

static tally_status_t send_nowhere(tally_endpoint_t *endpoint, uint64_t tag,
                                   const void *buffer, size_t bytes,
                                   tally_request_t *request)
{
    (void)tag;
    (void)buffer;
    (void)bytes;
    ((struct tally_transport *)endpoint)->sent++;
    request->status = TALLY_OK;
    return TALLY_OK;
}

static tally_status_t wait_fd(tally_transport_t *transport, int *fd)
{
    *fd = transport->fd;
    return transport->waits;
}

static const tally_transport_ops_t ops = {
    .name = "silent",
    .address = backend_address,
    .connect = backend_connect_any,
    .tsend = send_nowhere,
    .trecv = backend_trecv_nothing,
    .progress = backend_progress,
    .wait_fd = wait_fd,
    .message_max = REPLICA_PACKET_MAX,
};

struct scene {
    struct tally_transport transport;
    struct replica_position position;
    struct replica_loop *loop;
};

static void open_peers(struct scene *scene, struct replica_peers **out)
{
    struct replica_peers_params params = {
        .ops = &ops,
        .transport = &scene->transport,
        .self = {0, 0, 1},
        .count = 3,
        .layout = LAYOUT,
        .records = 1,
        .heartbeat_us = HEARTBEAT_US,
        .dead_after = 3,
    };

    ck_assert_int_eq(replica_peers_create(&params, out), TALLY_OK);
}

// Replica 0 of two, whose thread sleeps for long, and nothing is due.
static void scene_begin(struct scene *scene)
{
    struct replica_loop *loop = calloc(1, sizeof(*loop));

    *scene = (struct scene){
        .transport = {.waits = TALLY_OK, .fd = eventfd(1, EFD_CLOEXEC)},
        .position = two_and_a_witness(),
        .loop = loop};
    loop->params = (struct replica_loop_params){
        .ops = &ops,
        .transport = &scene->transport,
        .self = {0, 0, 1},
        .replicas = 2,
        .witnesses = 1,
        .records = 1,
        .minimum = 1,
        .heartbeat_us = HEARTBEAT_US,
        .deadline_us = LATER_US,
        .decide_after_us = LATER_US,
    };
    pthread_mutex_init(&loop->lock, NULL);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(loop->wake_fd, 0);
    ck_assert(replica_ear_open(&loop->ear));
    loop->node =
        idle_node(loop->params.self, &scene->position, SECOND_US, LATER_US);
    open_peers(scene, &loop->peers);
    loop->timer_us = INT64_MAX;
    loop->check_us = INT64_MAX;
    loop->now_us = clock_now_us();
    loop->sleep_us = loop->now_us + SLEEP_US;
}

static void scene_end(struct scene *scene)
{
    replica_peers_free(scene->loop->peers);
    free(scene->loop->node);
    close(scene->loop->wake_fd);
    replica_ear_close(&scene->loop->ear);
    close(scene->transport.fd);
    pthread_mutex_destroy(&scene->loop->lock);
    free(scene->loop);
}

static bool was_woken(const struct scene *scene)
{
    uint64_t wakes;

    return read(scene->loop->wake_fd, &wakes, sizeof(wakes)) ==
           (ssize_t)sizeof(wakes);
}

static void contribute(struct scene *scene)
{
    const struct numeric_record record = {0};

    replica_loop_contribute(scene->loop, &record);
    ck_assert_int_eq(scene->loop->phase, LOOP_ENTERED);
}

static void suspect_the_other(struct scene *scene)
{
    struct replica_event event = {.kind = REPLICA_EVENT_SUSPECTS, .peers = 2};

    loop_lock(scene->loop);
    loop_handle(scene->loop, &event);
    loop_unlock(scene->loop);
}

START_TEST(who_contributes_lets_a_thread_sleep_that_is_up_in_time)
{
    struct scene scene;

    scene_begin(&scene);
    contribute(&scene);
    ck_assert(!was_woken(&scene));
    scene_end(&scene);
}
END_TEST

START_TEST(who_contributes_wakes_a_thread_that_would_lead_too_late)
{
    struct scene scene;

    scene_begin(&scene);
    suspect_the_other(&scene);
    contribute(&scene);
    ck_assert_int_lt(scene.loop->timer_us, scene.loop->now_us + SLEEP_US);
    ck_assert(was_woken(&scene));
    ck_assert_int_eq(scene.loop->sleep_us, 0); // once
    scene_end(&scene);
}
END_TEST

START_TEST(who_contributes_does_not_wake_a_thread_that_is_awake)
{
    struct scene scene;

    scene_begin(&scene);
    suspect_the_other(&scene);
    scene.loop->sleep_us = 0;
    contribute(&scene);
    ck_assert(!was_woken(&scene));
    scene_end(&scene);
}
END_TEST

START_TEST(a_thread_is_woken_for_what_is_not_out_yet)
{
    struct scene scene;

    scene_begin(&scene);
    scene.loop->listens = true;
    contribute(&scene);
    ck_assert(!was_woken(&scene));
    scene.transport.waits = TALLY_NOT_YET;
    replica_loop_vote(scene.loop, REPLICA_READY);
    ck_assert(was_woken(&scene));
    // One that does not listen comes by itself, soon.
    scene.loop->sleep_us = clock_now_us() + SLEEP_US;
    scene.loop->listens = false;
    replica_loop_vote(scene.loop, REPLICA_READY);
    ck_assert(!was_woken(&scene));
    scene_end(&scene);
}
END_TEST

START_TEST(a_thread_is_woken_for_a_deadline_before_it_is_up)
{
    struct scene scene;

    scene_begin(&scene);
    scene.loop->params.deadline_us = SECOND_US;
    replica_loop_vote(scene.loop, REPLICA_READY);
    ck_assert(was_woken(&scene));
    scene_end(&scene);
}
END_TEST

static bool is_over(void *context)
{
    (void)context;
    return true;
}

START_TEST(who_moved_the_loop_wakes_its_thread_for_what_is_due)
{
    struct scene scene;

    scene_begin(&scene);
    replica_loop_move(scene.loop, is_over, NULL, SECOND_US);
    ck_assert(!was_woken(&scene));
    scene.loop->timer_us = scene.loop->now_us + SECOND_US;
    replica_loop_move(scene.loop, is_over, NULL, SECOND_US);
    ck_assert(was_woken(&scene));
    scene_end(&scene);
}
END_TEST

static void thread_sleeps(struct scene *scene)
{
    ck_assert(replica_ear_listen(&scene->loop->ear, scene->transport.fd));
    scene->loop->listens = true;
}

// Something for the other replica waits until more goes to it.
static void something_waits(struct scene *scene)
{
    struct replica_peers *peers = scene->loop->peers;
    uint8_t address[REPLICA_ADDRESS_BYTES_MAX];
    size_t bytes = sizeof(address);

    ck_assert_int_eq(replica_peers_address(peers, address, &bytes), TALLY_OK);
    replica_peers_know(peers, 1, 2, address, bytes, scene->loop->now_us);
    replica_peers_hold(peers, 1, address, 1);
}

// Something has come: whether that wakes who sleeps.
static bool is_heard(const struct scene *scene)
{
    struct pollfd ear = {.fd = scene->loop->ear.fd, .events = POLLIN};

    return poll(&ear, 1, LATER_MS) == 1;
}

// That which the thread is to get up for by itself left out.
static bool message_is_heard(const struct scene *scene)
{
    struct pollfd ear = {.fd = scene->loop->ear.fd, .events = POLLIN};

    replica_ear_ring(&scene->loop->ear, 0);
    return poll(&ear, 1, 0) == 1;
}

static bool is_over_unheard(void *context)
{
    static int turns;

    return ++turns % 2 == 0 && !message_is_heard(context);
}

START_TEST(who_moves_takes_what_comes_and_the_thread_gets_up_after)
{
    struct scene scene;
    uint64_t count;

    scene_begin(&scene);
    thread_sleeps(&scene);
    ck_assert(is_heard(&scene));
    scene.loop->movers = 1; // another one, who goes on
    replica_loop_move(scene.loop, is_over_unheard, &scene, SLEEP_US);
    ck_assert(!message_is_heard(&scene));
    scene.loop->movers = 0;
    replica_loop_move(scene.loop, is_over_unheard, &scene, SLEEP_US);
    ck_assert_int_lt(scene.loop->sleep_us, clock_now_us() + SECOND_US);
    ck_assert(is_heard(&scene));
    ck_assert(!was_woken(&scene));
    // When it lies down again it hears what comes alone.
    ck_assert_int_gt(read(scene.transport.fd, &count, sizeof(count)), 0);
    ck_assert(replica_ear_listen(&scene.loop->ear, scene.transport.fd));
    ck_assert(!is_heard(&scene));
    scene_end(&scene);
}
END_TEST

static bool is_over_at_once(void *context)
{
    int *turns = context;

    return ++*turns % 2 == 0;
}

START_TEST(a_thread_that_hears_nothing_gets_up_if_who_moves_is_held_up)
{
    struct scene scene;
    int turns = 0;

    scene_begin(&scene);
    thread_sleeps(&scene);
    scene.loop->movers = 1; // is in a callback of the host program
    replica_loop_move(scene.loop, is_over_at_once, &turns, SLEEP_US);
    ck_assert(is_heard(&scene));
    ck_assert(!message_is_heard(&scene));
    scene_end(&scene);
}
END_TEST

// Who moves next has the thread sleep on.
START_TEST(one_move_after_the_other_lets_the_thread_sleep)
{
    struct scene scene;
    int turns = 0;

    scene_begin(&scene);
    thread_sleeps(&scene);
    replica_loop_move(scene.loop, is_over_at_once, &turns, SLEEP_US);
    ck_assert(scene.loop->rings_soon);
    scene.loop->movers = 1;
    replica_loop_move(scene.loop, is_over_at_once, &turns, SLEEP_US);
    ck_assert(!scene.loop->rings_soon);
    ck_assert(!message_is_heard(&scene));
    scene.loop->movers = 0;
    replica_loop_move(scene.loop, is_over_at_once, &turns, SLEEP_US);
    ck_assert(scene.loop->rings_soon);
    ck_assert(is_heard(&scene));
    scene_end(&scene);
}
END_TEST

// It would be sent alone otherwise, by who leaves.
START_TEST(a_thread_that_gets_up_soon_sends_what_waits)
{
    struct scene scene;

    scene_begin(&scene);
    something_waits(&scene);
    thread_sleeps(&scene);
    replica_loop_move(scene.loop, is_over_unheard, &scene, SLEEP_US);
    ck_assert_int_eq(scene.transport.sent, 0);
    ck_assert(is_heard(&scene));
    scene_end(&scene);
}
END_TEST

// As one that lies down meanwhile is deaf, and comes by itself, soon.
START_TEST(a_thread_that_was_deaf_is_let_be)
{
    struct scene scene;

    scene_begin(&scene);
    replica_loop_move(scene.loop, is_over, NULL, SECOND_US);
    ck_assert(!scene.loop->listens);
    ck_assert(!is_heard(&scene));
    ck_assert(!was_woken(&scene));
    scene_end(&scene);
}
END_TEST

// The thread sends it otherwise.
START_TEST(who_moved_the_loop_sends_what_waits_if_the_thread_sleeps_for_long)
{
    struct scene scene;

    scene_begin(&scene);
    something_waits(&scene);
    scene.loop->sleep_us = clock_now_us();
    replica_loop_move(scene.loop, is_over, NULL, SECOND_US);
    ck_assert_int_eq(scene.transport.sent, 0);
    scene.loop->sleep_us = clock_now_us() + SLEEP_US;
    replica_loop_move(scene.loop, is_over, NULL, SECOND_US);
    ck_assert_int_eq(scene.transport.sent, 1);
    ck_assert(!was_woken(&scene));
    scene_end(&scene);
}
END_TEST

// Who moves the loop would have to wake a thread that waits for its lock.
START_TEST(a_thread_stands_aside_while_others_move)
{
    struct scene scene;
    int64_t end_us = clock_now_us() + SECOND_US;

    scene_begin(&scene);
    scene.loop->sleep_us = 0;
    scene.loop->movers = 1;
    scene.loop->turned_us = end_us;
    loop_lock(scene.loop);
    ck_assert_int_eq(loop_start_thread(scene.loop), TALLY_OK);
    while (scene.loop->sleep_us == 0 && clock_now_us() < end_us)
        usleep(100);
    loop_unlock(scene.loop);
    ck_assert_int_gt(scene.loop->sleep_us, 0);
    replica_loop_stop(scene.loop);
    scene_end(&scene);
}
END_TEST

// By a callback of the host program, say, which may end its thread.
START_TEST(a_thread_moves_while_who_moves_is_held_up)
{
    struct scene scene;
    int64_t begun_us = clock_now_us();

    scene_begin(&scene);
    scene.loop->movers = 1;
    scene.loop->turned_us = begun_us;
    ck_assert_int_eq(loop_start_thread(scene.loop), TALLY_OK);
    while (scene.loop->turned_us == begun_us &&
           clock_now_us() < begun_us + SECOND_US)
        usleep(100);
    ck_assert_int_gt(scene.loop->turned_us, begun_us);
    replica_loop_stop(scene.loop);
    scene_end(&scene);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica loop");
    TCase *tcase = tcase_create("wakes");

    tcase_add_test(tcase,
                   who_contributes_lets_a_thread_sleep_that_is_up_in_time);
    tcase_add_test(tcase,
                   who_contributes_wakes_a_thread_that_would_lead_too_late);
    tcase_add_test(tcase, who_contributes_does_not_wake_a_thread_that_is_awake);
    tcase_add_test(tcase, a_thread_is_woken_for_what_is_not_out_yet);
    tcase_add_test(tcase, a_thread_is_woken_for_a_deadline_before_it_is_up);
    tcase_add_test(tcase, who_moved_the_loop_wakes_its_thread_for_what_is_due);
    tcase_add_test(
        tcase,
        who_moved_the_loop_sends_what_waits_if_the_thread_sleeps_for_long);
    tcase_add_test(tcase,
                   who_moves_takes_what_comes_and_the_thread_gets_up_after);
    tcase_add_test(tcase,
                   a_thread_that_hears_nothing_gets_up_if_who_moves_is_held_up);
    tcase_add_test(tcase, one_move_after_the_other_lets_the_thread_sleep);
    tcase_add_test(tcase, a_thread_that_gets_up_soon_sends_what_waits);
    tcase_add_test(tcase, a_thread_that_was_deaf_is_let_be);
    tcase_add_test(tcase, a_thread_stands_aside_while_others_move);
    tcase_add_test(tcase, a_thread_moves_while_who_moves_is_held_up);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

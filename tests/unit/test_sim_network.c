// SPDX-License-Identifier: BSD-3-Clause
// Tests of transport/sim/sim.h: what the model says of single messages.
#include <check.h>
#include <stdlib.h>

#include "harness/random.h"
#include "transport/sim/heap.h"
#include "transport/sim/sim.h"

#define RANKS 4

static const struct sim_options quick = {
    .seed = 1,
    .latency_ns = 1000,
    .send_overhead_ns = 100,
    .receive_overhead_ns = 200,
    .slow = SIM_NOBODY,
};

struct net {
    struct sim_network *network;
    tally_transport_t *transports[RANKS];
    tally_endpoint_t *endpoints[RANKS][RANKS]; // [from][to]
};

static struct net net;

static void net_open(const struct sim_options *options)
{
    const struct tally_transport_ops *ops = sim_network_ops();

    ck_assert_int_eq(sim_network_create(RANKS, options, &net.network),
                     TALLY_OK);
    for (int32_t i = 0; i < RANKS; i++)
        ck_assert_int_eq(sim_network_open(net.network, i, &net.transports[i]),
                         TALLY_OK);
    for (int32_t i = 0; i < RANKS * RANKS; i++) {
        int32_t from = i / RANKS;
        int32_t to = i % RANKS;
        unsigned char address[8];
        size_t bytes = sizeof(address);

        ck_assert_int_eq(ops->address(net.transports[to], address, &bytes),
                         TALLY_OK);
        ck_assert_int_eq(ops->connect(net.transports[from], to, address, bytes,
                                      &net.endpoints[from][to]),
                         TALLY_OK);
    }
}

static void net_close(void)
{
    sim_network_free(net.network);
}

static void take(void *context, int32_t rank)
{
    (void)context;
    sim_network_ops()->progress(net.transports[rank]);
}

static void run(void)
{
    while (sim_network_step(net.network, take, NULL))
        continue;
}

static void send_bytes(int32_t from, int32_t to, uint64_t tag,
                       const void *buffer, size_t bytes)
{
    tally_request_t request = {.status = TALLY_NOT_YET};

    ck_assert_int_eq(sim_network_ops()->tsend(net.endpoints[from][to], tag,
                                              buffer, bytes, &request),
                     TALLY_OK);
    ck_assert_int_eq(request.status, TALLY_OK);
}

static void send_number(int32_t from, int32_t to, uint64_t tag, int32_t number)
{
    send_bytes(from, to, tag, &number, sizeof(number));
}

static void receive_number(int32_t rank, uint64_t tag, int32_t *number,
                           tally_request_t *request)
{
    *number = -1;
    ck_assert_int_eq(sim_network_ops()->trecv(net.transports[rank], tag, number,
                                              sizeof(*number), request),
                     TALLY_OK);
}

// ------------------------------------------------------------------------ time

START_TEST(a_message_costs_both_processors_and_takes_the_latency)
{
    net_open(&quick);
    send_number(0, 1, 7, 1);
    send_number(0, 1, 7, 2);
    ck_assert_int_eq(sim_network_rank_now(net.network, 0), 200);
    ck_assert(sim_network_step(net.network, take, NULL));
    ck_assert_int_eq(sim_network_now(net.network), 1100);
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 1300);
    run();
    // It came at 1200, when the first was still being looked at.
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 1500);
    ck_assert_int_eq(sim_network_rank_now(net.network, 0), 200);
    net_close();
}
END_TEST

START_TEST(cards_send_and_receive_one_message_after_the_other)
{
    static const unsigned char kilobyte[1000];
    struct sim_options options = quick;

    options.bytes_per_us = 1000; // a microsecond each
    options.send_overhead_ns = 0;
    options.receive_overhead_ns = 0;
    net_open(&options);
    send_bytes(0, 1, 7, kilobyte, sizeof(kilobyte));
    send_bytes(0, 2, 7, kilobyte, sizeof(kilobyte));
    run();
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 2000);
    ck_assert_int_eq(sim_network_rank_now(net.network, 2), 3000);
    // Two at once to one.
    ck_assert_int_eq(sim_network_timer(net.network, 1, 10000), TALLY_OK);
    ck_assert_int_eq(sim_network_timer(net.network, 2, 10000), TALLY_OK);
    run();
    send_bytes(1, 3, 7, kilobyte, sizeof(kilobyte));
    send_bytes(2, 3, 7, kilobyte, sizeof(kilobyte));
    run();
    ck_assert_int_eq(sim_network_rank_now(net.network, 3), 13000);
    net_close();
}
END_TEST

START_TEST(a_slow_rank_alone_pays_more)
{
    struct sim_options options = quick;

    options.slow = 1;
    options.slow_ns = 5000;
    net_open(&options);
    send_number(0, 1, 7, 1);
    send_number(1, 0, 7, 1);
    ck_assert_int_eq(sim_network_rank_now(net.network, 0), 100);
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 5100);
    run();
    ck_assert_int_eq(sim_network_rank_now(net.network, 0), 6300);
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 10300);
    net_close();
}
END_TEST

START_TEST(a_timer_wakes_its_rank_at_its_time)
{
    net_open(&quick);
    ck_assert_int_eq(sim_network_timer(net.network, 2, 5000), TALLY_OK);
    ck_assert_int_eq(sim_network_timer(net.network, 1, 3000), TALLY_OK);
    ck_assert(sim_network_step(net.network, take, NULL));
    ck_assert_int_eq(sim_network_rank_now(net.network, 1), 3000);
    ck_assert_int_eq(sim_network_rank_now(net.network, 2), 0);
    run();
    ck_assert_int_eq(sim_network_rank_now(net.network, 2), 5000);
    ck_assert(!sim_network_step(net.network, take, NULL));
    net_close();
}
END_TEST

// ----------------------------------------------------------------------- order

#define MESSAGES 200

START_TEST(messages_of_a_pair_keep_their_order_whatever_the_jitter)
{
    struct sim_options options = quick;
    int32_t got[MESSAGES];
    tally_request_t requests[MESSAGES];

    options.seed = (uint64_t)_i;
    options.jitter_ns = 100000;
    net_open(&options);
    // Half of the receives are there before the messages.
    for (int32_t i = 0; i < MESSAGES / 2; i++)
        receive_number(1, 7, &got[i], &requests[i]);
    for (int32_t i = 0; i < MESSAGES; i++)
        send_number(0, 1, 7, i);
    run();
    for (int32_t i = MESSAGES / 2; i < MESSAGES; i++)
        receive_number(1, 7, &got[i], &requests[i]);
    for (int32_t i = 0; i < MESSAGES; i++) {
        ck_assert_int_eq(requests[i].status, TALLY_OK);
        ck_assert_int_eq(got[i], i);
    }
    net_close();
}
END_TEST

START_TEST(messages_of_different_pairs_overtake_each_other)
{
    struct sim_options options = quick;
    int32_t first_of[RANKS] = {0};

    options.jitter_ns = 100000;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        int32_t got;
        tally_request_t request;

        options.seed = seed;
        net_open(&options);
        receive_number(0, 7, &got, &request);
        for (int32_t i = 1; i < RANKS; i++)
            send_number(i, 0, 7, i);
        run();
        ck_assert_int_eq(request.status, TALLY_OK);
        first_of[got]++;
        net_close();
    }
    for (int32_t i = 1; i < RANKS; i++)
        ck_assert_int_gt(first_of[i], 10);
}
END_TEST

START_TEST(what_happens_comes_earliest_first_and_else_in_the_order_of_pushing)
{
    struct random random = random_seeded((uint64_t)_i);
    struct sim_heap heap = {.events = NULL};
    struct sim_event event;
    int64_t time_ns = -1;
    uint64_t order = 0;

    for (int32_t i = 0; i < 1000; i++)
        ck_assert(sim_heap_push(
            &heap, (struct sim_event){.time_ns = random_below(&random, 50)}));
    for (int32_t i = 0; i < 1000; i++) {
        ck_assert(sim_heap_pop(&heap, &event));
        ck_assert(event.time_ns > time_ns ||
                  (event.time_ns == time_ns && event.order > order));
        time_ns = event.time_ns;
        order = event.order;
    }
    ck_assert(!sim_heap_pop(&heap, &event));
    sim_heap_free(&heap);
}
END_TEST

// -------------------------------------------------------------------- requests

START_TEST(tags_are_compared_whole_and_lengths_told)
{
    unsigned char room[8] = {0};
    tally_request_t requests[2];
    const struct tally_transport_ops *ops = sim_network_ops();

    net_open(&quick);
    ops->trecv(net.transports[1], 1ull << 63 | 5, room, 8, &requests[0]);
    ops->trecv(net.transports[1], 5, room + 4, 2, &requests[1]);
    send_bytes(0, 1, 1ull << 63 | 5, "abc", 3);
    send_bytes(2, 1, 5, "defg", 4);
    run();
    ck_assert_int_eq(requests[0].status, TALLY_OK);
    ck_assert_int_eq(requests[0].bytes, 3);
    ck_assert_int_eq(requests[1].status, TALLY_ERR_TRANSPORT); // too long
    ck_assert_mem_eq(room, "abc\0de\0\0", 8);
    net_close();
}
END_TEST

START_TEST(a_cancelled_receive_ends_and_leaves_its_message_to_the_next)
{
    int32_t got[2];
    tally_request_t requests[2];

    net_open(&quick);
    receive_number(1, 7, &got[0], &requests[0]);
    receive_number(1, 7, &got[1], &requests[1]);
    sim_network_ops()->cancel(net.transports[1], &requests[0]);
    ck_assert_int_eq(requests[0].status, TALLY_ERR_TRANSPORT);
    send_number(0, 1, 7, 3);
    run();
    ck_assert_int_eq(requests[1].status, TALLY_OK);
    ck_assert_int_eq(got[1], 3);
    ck_assert_int_eq(got[0], -1);
    net_close();
}
END_TEST

START_TEST(a_cut_loses_what_leaves_after_its_time_and_nothing_else)
{
    net_open(&quick);
    ck_assert_int_eq(sim_network_cut(net.network, 0, 1, 200), TALLY_OK);
    ck_assert_int_eq(sim_network_cut(net.network, SIM_ANYBODY, 3, 0), TALLY_OK);
    send_number(0, 1, 7, 1); // leaves at 100
    send_number(0, 1, 7, 2); // at 200
    send_number(0, 2, 7, 3);
    send_number(1, 0, 7, 4);
    send_number(2, 3, 7, 5);
    run();
    ck_assert_int_eq(sim_network_counts(net.network, 1).received, 1);
    ck_assert_int_eq(sim_network_counts(net.network, 2).received, 1);
    ck_assert_int_eq(sim_network_counts(net.network, 0).received, 1);
    ck_assert_int_eq(sim_network_counts(net.network, 3).received, 0);
    ck_assert_int_eq(sim_network_counts(net.network, 0).sent, 3);
    ck_assert_int_eq(sim_network_counts(net.network, 0).lost, 1);
    ck_assert_int_eq(sim_network_counts(net.network, 2).lost, 1);
    net_close();
}
END_TEST

START_TEST(messages_to_a_rank_that_closed_go_nowhere)
{
    net_open(&quick);
    send_number(0, 1, 7, 1);
    sim_network_ops()->close(net.transports[1]);
    run();
    ck_assert_int_eq(sim_network_now(net.network), 1100);
    net_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim network");
    TCase *tests = tcase_create("messages");

    tcase_add_test(tests,
                   a_message_costs_both_processors_and_takes_the_latency);
    tcase_add_test(tests, cards_send_and_receive_one_message_after_the_other);
    tcase_add_test(tests, a_slow_rank_alone_pays_more);
    tcase_add_test(tests, a_timer_wakes_its_rank_at_its_time);
    tcase_add_loop_test(
        tests, messages_of_a_pair_keep_their_order_whatever_the_jitter, 1, 6);
    tcase_add_test(tests, messages_of_different_pairs_overtake_each_other);
    tcase_add_loop_test(
        tests,
        what_happens_comes_earliest_first_and_else_in_the_order_of_pushing, 1,
        11);
    tcase_add_test(tests, tags_are_compared_whole_and_lengths_told);
    tcase_add_test(tests,
                   a_cancelled_receive_ends_and_leaves_its_message_to_the_next);
    tcase_add_test(tests,
                   a_cut_loses_what_leaves_after_its_time_and_nothing_else);
    tcase_add_test(tests, messages_to_a_rank_that_closed_go_nowhere);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

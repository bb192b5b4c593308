// SPDX-License-Identifier: BSD-3-Clause
// Tests of the all-reduce between leaders (collective/leaders.h) over a network
// that delays and reorders. What happens when one fails is in
// test_collective_lost.c.
#include <check.h>
#include <stdlib.h>

#include "core/error.h"
#include "harness/collective_job.h"

static struct collective_job job;

static void job_race(void)
{
    for (size_t i = 0; i < job.reducer_count; i++) {
        struct collective_race race = {
            .size = job.size,
            .ranks = job.ranks,
            .allreduces = job.allreduces[i],
            .shape = job.reducers[i].shape,
            .reductions = job.reducers[i].reductions,
            .seed = i * 1000 + (uint64_t)job.size,
        };

        collective_race_run(&race);
    }
}

// A network on which sends, arrivals and completions all take their time.
static struct fake_options options_slow(uint64_t seed)
{
    struct fake_options options = fake_options_calm(seed);

    options.send_delay_max = 3;
    options.send_lag_max = 20;
    options.arrival_delay_max = 6;
    return options;
}

// ------------------------------------------------------------- every plan

static const struct collective_reducer every_radix[] = {
    {2, {1, 0}, 40}, {3, {1, 3}, 40}, {4, {1, 0}, 40}, {8, {1, 1}, 40},
    {0, {1, 0}, 40}, {2, {64, 7}, 4}, {3, {64, 0}, 4}, {4, {64, 1}, 4},
    {8, {64, 0}, 4}, {0, {64, 2}, 4},
};

#define EVERY_RADIX (sizeof(every_radix) / sizeof(every_radix[0]))

START_TEST(leaders_get_the_serial_sum_to_the_bit_for_every_radix)
{
    struct fake_options options = fake_options_calm((uint64_t)_i);

    collective_job_open(&job, _i, &options, layout_each, every_radix,
                        EVERY_RADIX);
    job_race();
    collective_job_close(&job);
}
END_TEST

START_TEST(delays_and_a_random_order_change_no_bit)
{
    struct fake_options options = options_slow((uint64_t)_i);

    collective_job_open(&job, _i, &options, layout_each, every_radix,
                        EVERY_RADIX);
    job_race();
    collective_job_close(&job);
}
END_TEST

struct node_case {
    collective_layout_fn layout;
    int32_t size;
};

static const struct node_case node_cases[] = {
    {layout_two, 2},    {layout_two, 3},     {layout_two, 8},
    {layout_two, 17},   {layout_uneven, 3},  {layout_uneven, 4},
    {layout_uneven, 6}, {layout_uneven, 13}, {layout_uneven, 20},
};

START_TEST(ranks_that_share_nodes_get_the_same_sum)
{
    const struct node_case *nodes = &node_cases[_i];
    struct fake_options options = options_slow((uint64_t)_i);

    collective_job_open(&job, nodes->size, &options, nodes->layout, every_radix,
                        EVERY_RADIX);
    job_race();
    collective_job_close(&job);
}
END_TEST

// ---------------------------------------------------- one after the other

static const struct collective_reducer one_reducer[] = {{0, {1, 2}, 1000}};

START_TEST(many_reductions_back_to_back_do_not_mix)
{
    static const int32_t sizes[] = {2, 5, 12};
    struct fake_options options = options_slow(7);

    collective_job_open(&job, sizes[_i], &options, layout_each, one_reducer, 1);
    job_race();
    collective_job_close(&job);
}
END_TEST

static bool turn(int32_t rank)
{
    tally_status_t status = collective_job_move(&job, rank);

    if (status != TALLY_OK && status != TALLY_NOT_YET)
        ck_abort_msg("rank %d: %s", (int)rank, core_error_text());
    return status == TALLY_OK;
}

START_TEST(a_rank_begins_the_next_reduction_before_others_have_left_the_last)
{
    struct fake_options options = fake_options_calm(1);

    collective_job_open(&job, 3, &options, layout_each, one_reducer, 1);
    for (int32_t rank = 0; rank < 3; rank++)
        collective_job_start(&job, rank, 1);
    for (int32_t rank = 0; rank < 3; rank++)
        turn(rank); // sends
    ck_assert(turn(0));
    ck_assert(collective_job_right(&job, 0, 1));
    collective_job_start(&job, 0, 2);
    ck_assert(!turn(0)); // its message of 2 is on the way
    for (int32_t rank = 1; rank < 3; rank++) {
        ck_assert(turn(rank));
        ck_assert(collective_job_right(&job, rank, 1));
    }
    ck_assert(!turn(0));
    for (int32_t rank = 1; rank < 3; rank++)
        collective_job_start(&job, rank, 2);
    for (int32_t i = 0; i < 3; i++)
        for (int32_t rank = 0; rank < 3; rank++)
            turn(rank);
    for (int32_t rank = 0; rank < 3; rank++)
        ck_assert(collective_job_right(&job, rank, 2));
    collective_job_close(&job);
}
END_TEST

// Completions lag far behind: the third reduction may not use the buffer of
// the first.
START_TEST(a_send_buffer_is_used_again_only_when_it_is_free)
{
    struct fake_options options = fake_options_calm(1);
    uint64_t sequence = 1;

    options.send_lag_max = 10000;
    collective_job_open(&job, 2, &options, layout_each, one_reducer, 1);
    for (; sequence <= 2; sequence++) {
        collective_job_start(&job, 0, sequence);
        collective_job_start(&job, 1, sequence);
        ck_assert(!turn(0));
        ck_assert(turn(1));
        ck_assert(turn(0));
    }
    collective_job_start(&job, 0, sequence);
    collective_job_start(&job, 1, sequence);
    for (int32_t i = 0; i < 100; i++)
        ck_assert(!turn(0) && !turn(1));
    ck_assert_int_eq(collective_job_counts(&job, 0).sent, 2);
    ck_assert_int_eq(allreduce_awaited(job.allreduces[0][0]), 1);
    for (bool first = false, second = false; !first || !second;) {
        first = turn(0);
        second = turn(1);
    }
    ck_assert(collective_job_right(&job, 0, sequence));
    ck_assert(collective_job_right(&job, 1, sequence));
    collective_job_close(&job);
}
END_TEST

// ------------------------------------------------------ more on one network

static const struct collective_reducer two_reducers[] = {{2, {1, 0}, 0},
                                                         {2, {1, 0}, 0}};

START_TEST(reductions_of_two_steps_on_one_transport_do_not_mix)
{
    const struct lanes_shape *shape = &two_reducers[0].shape;
    struct fake_options options = options_slow(3);
    int64_t lanes[8];

    collective_job_open(&job, 4, &options, layout_each, two_reducers, 2);
    for (int32_t rank = 0; rank < 4; rank++)
        for (size_t i = 0; i < 2; i++) {
            // Some begin with the one, some with the other.
            size_t which = (i + (size_t)rank) % 2;

            lanes_fill(shape, rank, which + 1, lanes);
            allreduce_start(job.allreduces[which][rank], lanes);
        }
    for (int32_t i = 0; i < 1000; i++)
        for (size_t which = 0; which < 2; which++)
            collective_progress(&job.ranks[i % 4],
                                job.allreduces[which][i % 4]);
    for (int32_t rank = 0; rank < 4; rank++)
        for (size_t which = 0; which < 2; which++) {
            struct allreduce *allreduce = job.allreduces[which][rank];

            ck_assert_int_eq(allreduce_progress(allreduce), TALLY_OK);
            lanes_expect(shape, 4, which + 1, lanes);
            ck_assert(
                lanes_equal(shape, allreduce_result_borrow(allreduce), lanes));
        }
    collective_job_close(&job);
}
END_TEST

START_TEST(a_leader_connects_to_its_partners_only_and_sends_each_a_message)
{
    static const struct collective_reducer reducers[] = {{2, {1, 0}, 10}};
    struct fake_options options = fake_options_calm(1);

    collective_job_open(&job, 16, &options, layout_each, reducers, 1);
    for (int32_t rank = 0; rank < 16; rank++)
        ck_assert_int_eq(collective_job_counts(&job, rank).connected, 0);
    job_race();
    for (int32_t rank = 0; rank < 16; rank++) {
        ck_assert_int_eq(collective_job_counts(&job, rank).connected, 4);
        ck_assert_int_eq(collective_job_counts(&job, rank).sent, 40);
        ck_assert_int_eq(collective_job_counts(&job, rank).posted, 0);
    }
    collective_job_close(&job);
}
END_TEST

START_TEST(a_member_of_a_node_sends_nothing)
{
    static const struct collective_reducer reducers[] = {{0, {1, 0}, 5}};
    struct fake_options options = fake_options_calm(1);

    collective_job_open(&job, 6, &options, layout_two, reducers, 1);
    job_race();
    for (int32_t rank = 0; rank < 6; rank++)
        ck_assert_int_eq(collective_job_counts(&job, rank).sent,
                         rank < 2 ? 5 : 0);
    collective_job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective leaders");
    TCase *tests = tcase_create("leaders");

    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(
        tests, leaders_get_the_serial_sum_to_the_bit_for_every_radix, 1, 18);
    tcase_add_loop_test(tests, delays_and_a_random_order_change_no_bit, 2, 18);
    tcase_add_loop_test(tests, ranks_that_share_nodes_get_the_same_sum, 0,
                        sizeof(node_cases) / sizeof(node_cases[0]));
    tcase_add_loop_test(tests, many_reductions_back_to_back_do_not_mix, 0, 3);
    tcase_add_test(
        tests,
        a_rank_begins_the_next_reduction_before_others_have_left_the_last);
    tcase_add_test(tests, a_send_buffer_is_used_again_only_when_it_is_free);
    tcase_add_test(tests, reductions_of_two_steps_on_one_transport_do_not_mix);
    tcase_add_test(
        tests, a_leader_connects_to_its_partners_only_and_sends_each_a_message);
    tcase_add_test(tests, a_member_of_a_node_sends_nothing);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

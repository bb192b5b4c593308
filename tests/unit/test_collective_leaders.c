// SPDX-License-Identifier: BSD-3-Clause
// Tests of the all-reduce between leaders (collective/leaders.h) over a network
// that delays and reorders. What happens when one fails is in
// test_collective_lost.c.
#include <check.h>
#include <stdlib.h>

#include "core/error.h"
#include "harness/collective.h"

#define RANKS_MAX 20
#define REDUCERS_MAX 10

struct reducer {
    uint32_t radix;
    struct lanes_shape shape;
    uint64_t reductions;
};

// Some ranks with the same reducers, opened together.
struct job {
    collective_layout_fn layout;
    const struct reducer *reducers;
    size_t reducer_count;
    struct fake_network *network;
    struct collective_rank ranks[RANKS_MAX];
    struct allreduce *allreduces[REDUCERS_MAX][RANKS_MAX];
};

static struct job job;

static void job_open_one(struct ranks_member *member)
{
    struct collective_rank *rank = &job.ranks[member->rank];

    collective_open(rank, ranks_allgather, member, member->rank, member->size,
                    job.layout, job.network);
    for (size_t i = 0; i < job.reducer_count; i++)
        job.allreduces[i][member->rank] =
            collective_allreduce(rank, &job.reducers[i].shape,
                                 job.reducers[i].radix, (uint16_t)(i + 1));
}

static void job_open(int32_t size, const struct fake_options *options,
                     collective_layout_fn layout,
                     const struct reducer *reducers, size_t count)
{
    job.layout = layout;
    job.reducers = reducers;
    job.reducer_count = count;
    job.network = fake_network_create(size, options);
    ranks_run(size, job_open_one, NULL);
}

static struct fake_counts counts_of(int32_t rank)
{
    return fake_transport_counts(job.ranks[rank].transport);
}

static void job_close(int32_t size)
{
    for (int32_t rank = 0; rank < size; rank++) {
        ck_assert_int_eq(counts_of(rank).overwritten, 0);
        for (size_t i = 0; i < job.reducer_count; i++)
            allreduce_free(job.allreduces[i][rank]);
        collective_close(&job.ranks[rank]);
    }
    fake_network_free(job.network);
}

static void job_race(int32_t size)
{
    for (size_t i = 0; i < job.reducer_count; i++) {
        struct collective_race race = {
            .size = size,
            .ranks = job.ranks,
            .allreduces = job.allreduces[i],
            .shape = job.reducers[i].shape,
            .reductions = job.reducers[i].reductions,
            .seed = i * 1000 + (uint64_t)size,
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

static const struct reducer every_radix[] = {
    {2, {1, 0}, 40}, {3, {1, 3}, 40}, {4, {1, 0}, 40}, {8, {1, 1}, 40},
    {0, {1, 0}, 40}, {2, {64, 7}, 4}, {3, {64, 0}, 4}, {4, {64, 1}, 4},
    {8, {64, 0}, 4}, {0, {64, 2}, 4},
};

#define EVERY_RADIX (sizeof(every_radix) / sizeof(every_radix[0]))

START_TEST(leaders_get_the_serial_sum_to_the_bit_for_every_radix)
{
    struct fake_options options = fake_options_calm((uint64_t)_i);

    job_open(_i, &options, layout_each, every_radix, EVERY_RADIX);
    job_race(_i);
    job_close(_i);
}
END_TEST

START_TEST(delays_and_a_random_order_change_no_bit)
{
    struct fake_options options = options_slow((uint64_t)_i);

    job_open(_i, &options, layout_each, every_radix, EVERY_RADIX);
    job_race(_i);
    job_close(_i);
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

    job_open(nodes->size, &options, nodes->layout, every_radix, EVERY_RADIX);
    job_race(nodes->size);
    job_close(nodes->size);
}
END_TEST

// ---------------------------------------------------- one after the other

static const struct reducer one_reducer[] = {{0, {1, 2}, 2000}};

START_TEST(many_reductions_back_to_back_do_not_mix)
{
    static const int32_t sizes[] = {2, 5, 12};
    struct fake_options options = options_slow(7);

    job_open(sizes[_i], &options, layout_each, one_reducer, 1);
    job_race(sizes[_i]);
    job_close(sizes[_i]);
}
END_TEST

static bool turn(int32_t rank)
{
    tally_status_t status =
        collective_progress(&job.ranks[rank], job.allreduces[0][rank]);

    if (status != TALLY_OK && status != TALLY_NOT_YET)
        ck_abort_msg("rank %d: %s", (int)rank, core_error_text());
    return status == TALLY_OK;
}

static void start(int32_t rank, uint64_t sequence)
{
    int64_t lanes[2 * 8 + 2];

    lanes_fill(&job.reducers[0].shape, rank, sequence, lanes);
    allreduce_start(job.allreduces[0][rank], lanes);
}

static void assert_result(int32_t rank, int32_t size, uint64_t sequence)
{
    int64_t lanes[2 * 8 + 2];

    lanes_expect(&job.reducers[0].shape, size, sequence, lanes);
    ck_assert(lanes_equal(&job.reducers[0].shape,
                          allreduce_result_borrow(job.allreduces[0][rank]),
                          lanes));
}

START_TEST(a_rank_begins_the_next_reduction_before_others_have_left_the_last)
{
    struct fake_options options = fake_options_calm(1);

    job_open(3, &options, layout_each, one_reducer, 1);
    for (int32_t rank = 0; rank < 3; rank++)
        start(rank, 1);
    for (int32_t rank = 0; rank < 3; rank++)
        turn(rank); // sends
    ck_assert(turn(0));
    assert_result(0, 3, 1);
    start(0, 2);
    ck_assert(!turn(0)); // its message of 2 is on the way
    for (int32_t rank = 1; rank < 3; rank++) {
        ck_assert(turn(rank));
        assert_result(rank, 3, 1);
    }
    ck_assert(!turn(0));
    for (int32_t rank = 1; rank < 3; rank++)
        start(rank, 2);
    for (int32_t i = 0; i < 3; i++)
        for (int32_t rank = 0; rank < 3; rank++)
            turn(rank);
    for (int32_t rank = 0; rank < 3; rank++)
        assert_result(rank, 3, 2);
    job_close(3);
}
END_TEST

// Completions lag far behind: the third reduction may not use the buffer of
// the first.
START_TEST(a_send_buffer_is_used_again_only_when_it_is_free)
{
    struct fake_options options = fake_options_calm(1);
    uint64_t sequence = 1;

    options.send_lag_max = 10000;
    job_open(2, &options, layout_each, one_reducer, 1);
    for (; sequence <= 2; sequence++) {
        start(0, sequence);
        start(1, sequence);
        ck_assert(!turn(0));
        ck_assert(turn(1));
        ck_assert(turn(0));
    }
    start(0, sequence);
    start(1, sequence);
    for (int32_t i = 0; i < 100; i++)
        ck_assert(!turn(0) && !turn(1));
    ck_assert_int_eq(counts_of(0).sent, 2);
    ck_assert_int_eq(allreduce_awaited(job.allreduces[0][0]), 1);
    for (bool first = false, second = false; !first || !second;) {
        first = turn(0);
        second = turn(1);
    }
    assert_result(0, 2, sequence);
    assert_result(1, 2, sequence);
    job_close(2);
}
END_TEST

// ------------------------------------------------------ more on one network

static const struct reducer two_reducers[] = {{2, {1, 0}, 0}, {2, {1, 0}, 0}};

START_TEST(reductions_of_two_steps_on_one_transport_do_not_mix)
{
    const struct lanes_shape *shape = &two_reducers[0].shape;
    struct fake_options options = options_slow(3);
    int64_t lanes[8];

    job_open(4, &options, layout_each, two_reducers, 2);
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
    job_close(4);
}
END_TEST

START_TEST(a_leader_connects_to_its_partners_only_and_sends_each_a_message)
{
    static const struct reducer reducers[] = {{2, {1, 0}, 10}};
    struct fake_options options = fake_options_calm(1);

    job_open(16, &options, layout_each, reducers, 1);
    for (int32_t rank = 0; rank < 16; rank++)
        ck_assert_int_eq(counts_of(rank).connected, 0);
    job_race(16);
    for (int32_t rank = 0; rank < 16; rank++) {
        ck_assert_int_eq(counts_of(rank).connected, 4);
        ck_assert_int_eq(counts_of(rank).sent, 40);
        ck_assert_int_eq(counts_of(rank).posted, 0);
    }
    job_close(16);
}
END_TEST

START_TEST(a_member_of_a_node_sends_nothing)
{
    static const struct reducer reducers[] = {{0, {1, 0}, 5}};
    struct fake_options options = fake_options_calm(1);

    job_open(6, &options, layout_two, reducers, 1);
    job_race(6);
    for (int32_t rank = 0; rank < 6; rank++)
        ck_assert_int_eq(counts_of(rank).sent, rank < 2 ? 5 : 0);
    job_close(6);
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

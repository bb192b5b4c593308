// SPDX-License-Identifier: BSD-3-Clause
// Tests of transport/sim/job.h where messages are lost: it ends in errors at
// the ranks concerned, by their deadlines, and the simulation ends, too.
#include <check.h>
#include <stdlib.h>

#include "harness/sim_lanes.h"
#include "transport/sim/job.h"

static const int64_t timeout_ns = 1000000;

static const struct sim_options calm = {
    .seed = 1,
    .latency_ns = 1000,
    .send_overhead_ns = 100,
    .receive_overhead_ns = 100,
    .slow = SIM_NOBODY,
};

static const struct lanes_shape shape = {.records = 1};

static struct sim_job *job;
static struct sim_lanes lanes;

static void job_open(int32_t size, uint32_t radix)
{
    const struct sim_job_params params = {
        .size = size,
        .network = calm,
        .records = shape.records,
        .radix = radix,
    };

    ck_assert_int_eq(sim_job_create(&params, &job), TALLY_OK);
    sim_lanes_open(&lanes, &shape, size);
}

static void job_close(void)
{
    sim_job_free(job);
    sim_lanes_close(&lanes);
}

static void job_cut(int32_t source, int32_t destination, int64_t from_ns)
{
    ck_assert_int_eq(
        sim_network_cut(sim_job_network(job), source, destination, from_ns),
        TALLY_OK);
}

static struct sim_job_result job_run(uint64_t reductions)
{
    const struct sim_job_run run = {
        .reductions = reductions,
        .fill = sim_lanes_fill,
        .done = sim_lanes_check,
        .context = &lanes,
        .late = SIM_NOBODY,
        .timeout_ns = timeout_ns,
    };

    return sim_job_run(job, &run);
}

// 0 lacks what 1 says, 2 and 4 lack 0, and 6 lacks 2; odd ranks need none of
// them.
START_TEST(a_dropped_link_ends_in_timeouts_at_the_ranks_that_depend_on_it)
{
    static const int32_t awaited[] = {1, -1, 0, -1, 0, -1, 2, -1};

    job_open(8, 2);
    job_cut(1, 0, 0);
    ck_assert_int_eq(job_run(1).failed, 4);
    for (int32_t rank = 0; rank < 8; rank++) {
        ck_assert_int_eq(sim_job_status(job, rank),
                         rank % 2 == 0 ? TALLY_ERR_TIMEOUT : TALLY_OK);
        if (rank % 2 == 0)
            ck_assert_int_eq(sim_job_awaited(job, rank), awaited[rank]);
    }
    ck_assert_int_eq(lanes.checked, 4);
    // All began at 0, and none waited longer than it should.
    ck_assert_int_eq(sim_network_now(sim_job_network(job)), timeout_ns);
    job_close();
}
END_TEST

START_TEST(a_link_that_drops_later_leaves_the_reductions_before_whole)
{
    job_open(8, 2);
    ck_assert_int_eq(job_run(3).failed, 0);
    ck_assert_int_eq(lanes.checked, 24);
    job_cut(1, 0, sim_network_now(sim_job_network(job)));
    ck_assert_int_eq(job_run(1).failed, 4);
    ck_assert_int_eq(lanes.checked, 28);
    // Who is left waits for who is not.
    ck_assert_int_eq(job_run(1).failed, 8);
    ck_assert_int_eq(lanes.checked, 28);
    ck_assert_int_eq(job_run(1).failed, 8);
    job_close();
}
END_TEST

// Whenever the link drops and whatever the radix, it ends.
START_TEST(a_link_that_drops_in_the_midst_never_hangs_the_simulation)
{
    job_open(33, 2 + (uint32_t)_i % 15);
    for (int32_t i = 0; i < 33; i++)
        job_cut(i, _i % 33, (int64_t)700 * _i);
    struct sim_job_result result = job_run(20);
    ck_assert_int_eq(sim_job_status(job, _i % 33), TALLY_ERR_TIMEOUT);
    ck_assert_int_ge(result.failed, 1);
    // At worst one after the other.
    ck_assert_int_le(sim_network_now(sim_job_network(job)), 33 * timeout_ns);
    job_close();
}
END_TEST

START_TEST(a_rank_whose_word_is_lost_everywhere_is_missed_by_all_others)
{
    job_open(10, 0);
    job_cut(3, SIM_ANYBODY, 0);
    ck_assert_int_eq(job_run(1).failed, 9);
    for (int32_t rank = 0; rank < 10; rank++)
        ck_assert_int_eq(sim_job_status(job, rank),
                         rank == 3 ? TALLY_OK : TALLY_ERR_TIMEOUT);
    job_close();
}
END_TEST

START_TEST(a_deadline_is_that_of_each_reduction_and_not_of_all)
{
    job_open(8, 2);
    // Far more than a deadline together.
    ck_assert_int_eq(job_run(1000).failed, 0);
    ck_assert_int_gt(sim_network_now(sim_job_network(job)), 2 * timeout_ns);
    job_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim lost");
    TCase *tests = tcase_create("losses");

    tcase_set_timeout(tests, 60);
    tcase_add_test(
        tests, a_dropped_link_ends_in_timeouts_at_the_ranks_that_depend_on_it);
    tcase_add_test(tests,
                   a_link_that_drops_later_leaves_the_reductions_before_whole);
    tcase_add_loop_test(
        tests, a_link_that_drops_in_the_midst_never_hangs_the_simulation, 0,
        60);
    tcase_add_test(
        tests, a_rank_whose_word_is_lost_everywhere_is_missed_by_all_others);
    tcase_add_test(tests, a_deadline_is_that_of_each_reduction_and_not_of_all);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

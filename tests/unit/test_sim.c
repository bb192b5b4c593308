// SPDX-License-Identifier: BSD-3-Clause
// Tests of transport/sim/job.h: the all-reduce that ships, over a simulated
// network. Times here are virtual, so they can be asserted.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "harness/sim_lanes.h"
#include "transport/sim/job.h"

static const int64_t timeout_ns = 1000000000;

static struct sim_options options_rough(uint64_t seed)
{
    return (struct sim_options){
        .seed = seed,
        .latency_ns = 15000,
        .jitter_ns = 30000,
        .send_overhead_ns = 900,
        .receive_overhead_ns = 700,
        .bytes_per_us = 12500,
        .slow = SIM_NOBODY,
    };
}

static struct sim_job *job_open(int32_t size, uint32_t radix,
                                const struct sim_options *options,
                                struct sim_lanes *lanes)
{
    const struct lanes_shape shape = {.records = 2, .max_lanes = 1};
    const struct sim_job_params params = {
        .size = size,
        .network = *options,
        .records = shape.records,
        .max_lanes = shape.max_lanes,
        .radix = radix,
    };
    struct sim_job *job = NULL;

    ck_assert_int_eq(sim_job_create(&params, &job), TALLY_OK);
    sim_lanes_open(lanes, &shape, size);
    return job;
}

static void job_close(struct sim_job *job, struct sim_lanes *lanes)
{
    sim_job_free(job);
    sim_lanes_close(lanes);
}

static struct sim_job_run run_of(struct sim_lanes *lanes, uint64_t reductions)
{
    return (struct sim_job_run){
        .reductions = reductions,
        .fill = sim_lanes_fill,
        .done = sim_lanes_check,
        .context = lanes,
        .late = SIM_NOBODY,
        .timeout_ns = timeout_ns,
    };
}

static int64_t job_run(struct sim_job *job, const struct sim_job_run *run)
{
    struct sim_job_result result = sim_job_run(job, run);

    ck_assert_int_eq(result.failed, 0);
    return result.time_ns;
}

// ------------------------------------------------------------------------ bits

static const int32_t sizes[] = {1, 2, 3, 5, 8, 16, 33, 1000};
static const uint32_t radices[] = {0, 2, 3, 4, 16};

#define SEEDS 30
#define SEEDS_LARGE 5

START_TEST(every_rank_gets_the_serial_sum_to_the_bit_for_every_seed)
{
    int32_t size = sizes[_i];
    uint64_t seeds = size < 100 ? SEEDS : SEEDS_LARGE;

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct sim_options options = options_rough(seed);
        struct sim_lanes lanes;
        uint32_t radix = radices[seed % 5];
        struct sim_job *job = job_open(size, radix, &options, &lanes);
        struct sim_job_run run = run_of(&lanes, 4);

        job_run(job, &run);
        // Again: objects live on.
        run.reductions = 1;
        job_run(job, &run);
        ck_assert_int_eq(lanes.checked, (int64_t)5 * size);
        job_close(job, &lanes);
    }
}
END_TEST

// ----------------------------------------------------------------------- trace

static uint64_t digest_of(uint64_t seed, int64_t *time_ns)
{
    struct sim_options options = options_rough(seed);
    struct sim_lanes lanes;
    struct sim_job *job = job_open(33, 3, &options, &lanes);
    struct sim_job_run run = run_of(&lanes, 3);

    *time_ns = job_run(job, &run);
    uint64_t digest = sim_network_digest(sim_job_network(job));
    job_close(job, &lanes);
    return digest;
}

START_TEST(the_same_seed_gives_the_same_trace_and_another_seed_another)
{
    int64_t time_ns;
    int64_t again_ns;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t digest = digest_of(seed, &time_ns);

        ck_assert_uint_eq(digest_of(seed, &again_ns), digest);
        ck_assert_int_eq(again_ns, time_ns);
        ck_assert_uint_ne(digest_of(seed + 1, &again_ns), digest);
    }
}
END_TEST

// ---------------------------------------------------------------------- growth

// The smallest n with base^n >= value.
static int32_t log_ceiling(int64_t value, int64_t base)
{
    int64_t power = 1;
    int32_t n = 0;

    for (; power < value; n++)
        power *= base;
    return n;
}

struct growth {
    int32_t size;
    uint32_t radix;
};

static const struct growth growths[] = {
    {2, 2},    {3, 2},     {17, 2},    {100, 2},  {1000, 2}, {4096, 2},
    {5000, 2}, {2, 4},     {17, 4},    {100, 4},  {1000, 4}, {4096, 4},
    {5000, 4}, {17, 8},    {511, 8},   {4096, 8}, {5000, 8}, {17, 16},
    {100, 16}, {1000, 16}, {5000, 16},
};

START_TEST(messages_and_time_grow_with_the_logarithm)
{
    struct sim_options options = options_rough(1);
    int32_t size = growths[_i].size;
    int32_t radix = (int32_t)growths[_i].radix;
    int32_t rounds = log_ceiling(size, radix);
    int32_t bound = (radix - 1) * rounds + 2;
    int64_t overheads_ns =
        options.send_overhead_ns + options.receive_overhead_ns;
    struct sim_lanes lanes;
    struct sim_job *job = job_open(size, growths[_i].radix, &options, &lanes);
    struct sim_job_run run = run_of(&lanes, 1);
    int64_t time_ns = job_run(job, &run);

    for (int32_t rank = 0; rank < size; rank++) {
        struct sim_counts counts =
            sim_network_counts(sim_job_network(job), rank);

        if ((int32_t)counts.sent > bound || counts.connected > bound ||
            counts.received > (uint32_t)bound || counts.posted != 0)
            ck_abort_msg("rank %d sends %u", (int)rank, counts.sent);
    }
    // No rank hears of all the others in fewer rounds.
    ck_assert_int_ge(time_ns, rounds * (options.latency_ns + overheads_ns));
    // A round: what each sends, what is on its way, what each receives. Not
    // more rounds than a value and a factor too many.
    ck_assert_int_le(time_ns,
                     (rounds + 2) * (options.latency_ns + options.jitter_ns +
                                     (radix - 1) * (overheads_ns + 100)));
    job_close(job, &lanes);
}
END_TEST

START_TEST(a_plan_that_is_given_is_followed)
{
    struct sim_options options = options_rough(1);
    struct sim_lanes lanes;
    struct sim_job *job = NULL;
    // One round of all with all, which the cost model would not choose.
    const struct schedule_plan plan = {
        .leaders = 12,
        .core = 12,
        .factor_count = 1,
        .factors = {12},
        .stages = 1,
    };
    const struct sim_job_params params = {
        .size = 12,
        .network = options,
        .records = 2,
        .max_lanes = 1,
        .plan = &plan,
    };
    const struct lanes_shape shape = {.records = 2, .max_lanes = 1};

    ck_assert_int_eq(sim_job_create(&params, &job), TALLY_OK);
    sim_lanes_open(&lanes, &shape, 12);
    struct sim_job_run run = run_of(&lanes, 1);
    job_run(job, &run);
    for (int32_t rank = 0; rank < 12; rank++)
        ck_assert_int_eq(sim_network_counts(sim_job_network(job), rank).sent,
                         11);
    job_close(job, &lanes);
}
END_TEST

// ------------------------------------------------------------------ stragglers

START_TEST(a_slow_rank_delays_the_others_but_changes_no_bit)
{
    struct sim_options options = options_rough((uint64_t)_i);
    int64_t times_ns[2];

    for (int slow = 0; slow < 2; slow++) {
        struct sim_lanes lanes;

        options.slow = slow ? _i : SIM_NOBODY;
        options.slow_ns = 1000000;
        struct sim_job *job = job_open(16, 2, &options, &lanes);
        struct sim_job_run run = run_of(&lanes, 3);
        times_ns[slow] = job_run(job, &run);
        ck_assert_int_eq(lanes.checked, 48);
        job_close(job, &lanes);
    }
    // It sends and receives four messages a reduction.
    ck_assert_int_ge(times_ns[1],
                     times_ns[0] + 24 * options.slow_ns - options.slow_ns);
}
END_TEST

START_TEST(a_rank_that_comes_late_is_waited_for)
{
    struct sim_options options = options_rough((uint64_t)_i);
    struct sim_lanes lanes;
    struct sim_job *job = job_open(33, 4, &options, &lanes);
    struct sim_job_run run = run_of(&lanes, 2);

    run.late = _i;
    run.late_ns = timeout_ns / 2;
    ck_assert_int_gt(job_run(job, &run), timeout_ns / 2);
    ck_assert_int_eq(lanes.checked, 66);
    job_close(job, &lanes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim");
    TCase *tests = tcase_create("reductions");

    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(
        tests, every_rank_gets_the_serial_sum_to_the_bit_for_every_seed, 0,
        sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_test(tests,
                   the_same_seed_gives_the_same_trace_and_another_seed_another);
    tcase_add_loop_test(tests, messages_and_time_grow_with_the_logarithm, 0,
                        sizeof(growths) / sizeof(growths[0]));
    tcase_add_test(tests, a_plan_that_is_given_is_followed);
    tcase_add_loop_test(tests, a_slow_rank_delays_the_others_but_changes_no_bit,
                        0, 16);
    tcase_add_loop_test(tests, a_rank_that_comes_late_is_waited_for, 0, 33);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

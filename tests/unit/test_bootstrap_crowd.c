// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous' code as it ships, in virtual time: what comes to the root as
// jobs grow.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/bootstrap.h"
#include "bootstrap/sim/crowd.h"

// A child for each of the radix, and guests: src/bootstrap/tree/admit.c.
#define GUESTS 64

static struct crowd_params params_of(int32_t size, int64_t spread_ns)
{
    return (struct crowd_params){
        .size = size,
        .seed = (uint64_t)size,
        .one_way_ns = 25000,
        .jitter_ns = 5000,
        .call_ns = 1500,
        .backlog = 4096,
        .spread_ns = spread_ns,
        .timeout_us = 60000000,
    };
}

static struct crowd_result run(struct crowd_params params)
{
    struct crowd_result result = {0};

    ck_assert_int_eq(crowd_run(&params, &result), TALLY_OK);
    ck_assert_int_eq(result.up, params.size);
    return result;
}

static const int32_t sizes[] = {2, 31, 32, 33, 34, 100, 1057, 1058, 5000};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

// The least L with 1 + 32 + ... + 32^L >= size.
static int32_t depth_least(int32_t size)
{
    int64_t level = 1, all = 1;
    int32_t depth = 0;

    while (all < size) {
        level *= BOOTSTRAP_RADIX_MAX;
        all += level;
        depth++;
    }
    return depth;
}

static void assert_root_is_bounded(struct crowd_result result, int32_t size,
                                   int32_t visits)
{
    ck_assert_int_le(result.connections, BOOTSTRAP_RADIX_MAX + GUESTS);
    ck_assert_int_eq(result.depth, depth_least(size));
    // A hello each time that a rank comes, and the news of its arrival.
    ck_assert_int_ge(result.received, size - 1);
    ck_assert_int_le(result.received, (visits + 1) * size);
    ck_assert_int_le(result.sent, 2 * (visits + 1) * size);
    ck_assert_int_le(result.accepted, visits * size);
}

START_TEST(all_at_once_come_up_and_the_root_has_few_connections)
{
    assert_root_is_bounded(run(params_of(sizes[_i], 0)), sizes[_i], 3);
}
END_TEST

START_TEST(one_after_the_other_come_up_and_the_root_has_few_connections)
{
    // Who waits comes again after pauses that grow to half a second.
    assert_root_is_bounded(run(params_of(sizes[_i], 3000000000)), sizes[_i],
                           12);
}
END_TEST

START_TEST(a_kernel_with_little_room_delays_but_loses_nobody)
{
    struct crowd_params params = params_of(500, 0);

    params.backlog = 8;
    struct crowd_result result = run(params);
    ck_assert_int_gt(result.turned_back, 0);
    ck_assert_int_ge(result.time_ns, 1000000000); // the first retry of TCP
    assert_root_is_bounded(result, params.size, 20);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_figures_and_another_seed_others)
{
    struct crowd_params params = params_of(300, 0);
    struct crowd_result first = run(params), again = run(params);

    ck_assert_mem_eq(&first, &again, sizeof(first));
    params.seed++;
    again = run(params);
    ck_assert_mem_ne(&first, &again, sizeof(first));
}
END_TEST

START_TEST(a_deadline_that_passes_ends_it)
{
    struct crowd_params params = params_of(200, 0);
    struct crowd_result result;

    params.spread_ns = 3000000000;
    params.timeout_us = 1000000;
    ck_assert_int_eq(crowd_run(&params, &result), TALLY_ERR_TIMEOUT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap crowd");
    TCase *tests = tcase_create("crowd");

    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(
        tests, all_at_once_come_up_and_the_root_has_few_connections, 0, SIZES);
    tcase_add_loop_test(
        tests, one_after_the_other_come_up_and_the_root_has_few_connections, 0,
        SIZES);
    tcase_add_test(tests, a_kernel_with_little_room_delays_but_loses_nobody);
    tcase_add_test(
        tests, the_same_seed_gives_the_same_figures_and_another_seed_others);
    tcase_add_test(tests, a_deadline_that_passes_ends_it);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

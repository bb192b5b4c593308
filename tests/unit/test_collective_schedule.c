// SPDX-License-Identifier: BSD-3-Clause
// Tests of collective/schedule.h, by carrying the plans out on numbers.
#include <check.h>
#include <stdlib.h>

#include "collective/schedule.h"
#include "harness/random.h"

#define LEADERS_MAX 200

static const struct schedule_costs both = {.latency_ns = 7000,
                                           .message_ns = 1500};
static const struct schedule_costs latency_alone = {.latency_ns = 1000,
                                                    .message_ns = 0};
static const struct schedule_costs messages_dear = {.latency_ns = 1000,
                                                    .message_ns = 100000};

static uint32_t radix_limit(uint32_t radix)
{
    return radix == 0 || radix > SCHEDULE_RADIX_MAX ? SCHEDULE_RADIX_MAX
                                                    : radix;
}

// The smallest n with base^n >= value.
static int32_t log_ceiling(int64_t value, int64_t base)
{
    int64_t power = 1;
    int32_t n = 0;

    for (; power < value; n++)
        power *= base;
    return n;
}

static bool sends(const struct schedule_step *step, int32_t leader)
{
    for (int32_t i = 0; i < step->send_count; i++)
        if (step->send_to[i] == leader)
            return true;
    return false;
}

// Asserts that pass cost a system call each: none in the inner loops.

// One stage for all leaders: every receive has its send, and none is left over.
static void stage_carry_out(const struct schedule_plan *plan, int32_t stage,
                            uint64_t *values)
{
    static uint64_t before[LEADERS_MAX];
    static struct schedule_step steps[LEADERS_MAX];
    int32_t sent = 0;
    int32_t received = 0;

    for (int32_t i = 0; i < plan->leaders; i++) {
        before[i] = values[i];
        schedule_step(plan, i, stage, &steps[i]);
        sent += steps[i].send_count;
        received += steps[i].receive_count;
    }
    ck_assert_int_eq(sent, received);
    for (int32_t i = 0; i < plan->leaders; i++) {
        const struct schedule_step *step = &steps[i];

        if (step->replaces)
            values[i] = 0;
        for (int32_t j = 0; j < step->receive_count; j++) {
            int32_t from = step->receive_from[j];

            if (from == i || !sends(&steps[from], i))
                ck_abort_msg("%d sends nothing to %d", (int)from, (int)i);
            values[i] += before[from];
        }
    }
}

// Random 64-bit values: a sum with one left out or taken twice is another.
static void plan_carry_out(const struct schedule_plan *plan)
{
    static uint64_t values[LEADERS_MAX];
    struct random random = random_seeded((uint64_t)plan->leaders);
    uint64_t total = 0;

    for (int32_t i = 0; i < plan->leaders; i++) {
        values[i] = random_next(&random);
        total += values[i];
    }
    for (int32_t stage = 0; stage < plan->stages; stage++)
        stage_carry_out(plan, stage, values);
    for (int32_t i = 0; i < plan->leaders; i++)
        if (values[i] != total)
            ck_abort_msg("leader %d of %d", (int)i, (int)plan->leaders);
}

START_TEST(every_leader_gets_every_value_once)
{
    struct schedule_plan plan;
    const struct schedule_costs *costs[] = {&both, &latency_alone,
                                            &messages_dear};

    for (int32_t leaders = 1; leaders <= LEADERS_MAX; leaders++) {
        for (uint32_t radix = 2; radix <= SCHEDULE_RADIX_MAX + 1; radix++) {
            uint32_t given = radix > SCHEDULE_RADIX_MAX ? 0 : radix;

            schedule_plan(leaders, given, costs[leaders % 3], &plan);
            plan_carry_out(&plan);
        }
    }
}
END_TEST

static void bounds_check(int32_t leaders, uint32_t radix, int32_t step_stride)
{
    int32_t limit = (int32_t)radix_limit(radix);
    int32_t bound = (limit - 1) * (log_ceiling(leaders, limit) + 1);
    int64_t core = 1;
    struct schedule_plan plan;
    struct schedule_step step;

    schedule_plan(leaders, radix, &both, &plan);
    ck_assert_int_eq(plan.leaders, leaders);
    ck_assert_int_eq(plan.core + plan.extras, leaders);
    for (int32_t i = 0; i < plan.factor_count; i++) {
        ck_assert_int_ge(plan.factors[i], 2);
        ck_assert_int_le(plan.factors[i], limit);
        core *= plan.factors[i];
    }
    ck_assert_int_eq(plan.core, core);
    for (int32_t leader = 0; leader < leaders; leader += step_stride) {
        int32_t sent = 0;

        for (int32_t stage = 0; stage < plan.stages; stage++) {
            schedule_step(&plan, leader, stage, &step);
            sent += step.send_count;
        }
        if (sent > bound)
            ck_abort_msg("leader %d of %d sends %d > %d", (int)leader,
                         (int)leaders, (int)sent, (int)bound);
    }
}

START_TEST(no_leader_sends_more_than_k_log_k_messages)
{
    static const int32_t many[] = {1000, 1023, 1024, 1025, 65536, 100000};

    for (int32_t leaders = 1; leaders <= 300; leaders++)
        for (uint32_t radix = 0; radix <= SCHEDULE_RADIX_MAX; radix++)
            if (radix != 1)
                bounds_check(leaders, radix, 1);
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        for (uint32_t radix = 0; radix <= 64; radix += 4)
            bounds_check(many[i], radix, 37);
}
END_TEST

static void factors_check(int32_t leaders, uint32_t radix,
                          const struct schedule_costs *costs, int32_t count,
                          const int32_t *factors, int32_t extras)
{
    struct schedule_plan plan;

    schedule_plan(leaders, radix, costs, &plan);
    ck_assert_int_eq(plan.factor_count, count);
    for (int32_t i = 0; i < count; i++)
        ck_assert_int_eq(plan.factors[i], factors[i]);
    ck_assert_int_eq(plan.extras, extras);
}

START_TEST(the_cheaper_plan_is_taken)
{
    static const int32_t sixteen[] = {16};
    static const int32_t four_four[] = {4, 4};
    static const int32_t two_four_times[] = {2, 2, 2, 2};
    static const int32_t three_two[] = {3, 2};

    factors_check(16, 0, &latency_alone, 1, sixteen, 0);
    factors_check(16, 0, &both, 2, four_four, 0);
    factors_check(16, 0, &messages_dear, 4, two_four_times, 0);
    factors_check(16, 2, &latency_alone, 4, two_four_times, 0);
    // One round more is better than extras, which cost two.
    factors_check(6, 4, &both, 2, three_two, 0);
    factors_check(5, 2, &both, 2, two_four_times, 1);
}
END_TEST

START_TEST(a_plan_costs_its_rounds_and_further_messages)
{
    struct schedule_plan plan;
    const struct schedule_costs costs = {.latency_ns = 1000, .message_ns = 10};

    schedule_plan(16, 4, &costs, &plan);
    ck_assert_int_eq(schedule_cost(&plan, &costs), 2 * 1000 + 4 * 10);
    schedule_plan(5, 2, &costs, &plan);
    ck_assert_int_eq(schedule_cost(&plan, &costs), 4 * 1000);
}
END_TEST

// Two factors and a share of extras, against what is found.
START_TEST(no_plan_of_two_factors_is_cheaper)
{
    for (int32_t leaders = 2; leaders <= 64; leaders++) {
        struct schedule_plan found;

        schedule_plan(leaders, 8, &both, &found);
        for (int32_t a = 2; a <= 8; a++) {
            for (int32_t b = 2; b <= 8 && a * b <= leaders; b++) {
                struct schedule_plan plan = {
                    .leaders = leaders,
                    .core = a * b,
                    .extras = leaders - a * b,
                    .factor_count = 2,
                    .factors = {a, b},
                    .stages = leaders > a * b ? 4 : 2,
                };

                if (plan.extras <= 7 * plan.core &&
                    schedule_cost(&found, &both) > schedule_cost(&plan, &both))
                    ck_abort_msg("%d: %d * %d", (int)leaders, (int)a, (int)b);
            }
        }
    }
}
END_TEST

START_TEST(one_leader_has_nothing_to_do)
{
    struct schedule_plan plan;

    schedule_plan(1, 0, &both, &plan);
    ck_assert_int_eq(plan.stages, 0);
    ck_assert_int_eq(plan.core, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective schedule");
    TCase *tests = tcase_create("plans");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, every_leader_gets_every_value_once);
    tcase_add_test(tests, no_leader_sends_more_than_k_log_k_messages);
    tcase_add_test(tests, the_cheaper_plan_is_taken);
    tcase_add_test(tests, a_plan_costs_its_rounds_and_further_messages);
    tcase_add_test(tests, no_plan_of_two_factors_is_cheaper);
    tcase_add_test(tests, one_leader_has_nothing_to_do);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

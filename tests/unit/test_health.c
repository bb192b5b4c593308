// SPDX-License-Identifier: BSD-3-Clause
// Tests of core/health.h.
#include <check.h>
#include <stdlib.h>

#include "core/health.h"

START_TEST(the_first_report_of_a_rank_stands)
{
    struct health *health;
    int64_t when = 0;

    ck_assert_int_eq(health_create(3, &health), TALLY_OK);
    ck_assert_uint_eq(health_version(health), 0);
    ck_assert_int_eq(health_rank(health, 1, &when), HEALTH_PRESENT);
    health_report(health, 1, HEALTH_DIED);
    health_report(health, 1, HEALTH_LEFT);
    ck_assert_uint_eq(health_version(health), 1);
    ck_assert_int_eq(health_rank(health, 1, &when), HEALTH_DIED);
    ck_assert_int_gt(when, 0);
    ck_assert_int_eq(health_rank(health, 2, NULL), HEALTH_PRESENT);
    health_free(health);
}
END_TEST

START_TEST(reports_of_ranks_outside_the_world_are_dropped)
{
    struct health *health;

    ck_assert_int_eq(health_create(2, &health), TALLY_OK);
    health_report(health, -1, HEALTH_DIED);
    for (int32_t rank = 2; rank < 10; rank++)
        health_report(health, rank, HEALTH_DIED);
    ck_assert_uint_eq(health_version(health), 0);
    health_free(health);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("health");
    TCase *tests = tcase_create("reports");

    tcase_add_test(tests, the_first_report_of_a_rank_stands);
    tcase_add_test(tests, reports_of_ranks_outside_the_world_are_dropped);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

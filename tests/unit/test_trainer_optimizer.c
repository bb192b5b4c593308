// SPDX-License-Identifier: BSD-3-Clause
// Tests of the example trainer's optimizer.
#include <check.h>
#include <stdlib.h>

#include "trainer/model/optimizer.h"

#define VALUES 3

START_TEST(sgd_goes_down_the_gradient)
{
    float parameters[VALUES] = {1, 2, 3};
    const double gradient[VALUES] = {0.5, -1, 0};
    struct optimizer sgd;

    ck_assert(optimizer_create(optimizer_rule_find("sgd"), 0.25, VALUES, &sgd));
    optimizer_apply(&sgd, parameters, gradient);
    ck_assert_float_eq(parameters[0], 0.875f);
    ck_assert_float_eq(parameters[1], 2.25f);
    ck_assert_float_eq(parameters[2], 3);
    optimizer_free(&sgd);
}
END_TEST

// A constant gradient moves a parameter by the learning rate in each step.
START_TEST(adam_steps_by_the_learning_rate_whatever_the_gradients_size)
{
    float parameters[VALUES] = {0, 0, 0};
    const double gradient[VALUES] = {1e-3, -1e2, 0};
    struct optimizer adam;

    ck_assert(
        optimizer_create(optimizer_rule_find("adam"), 0.01, VALUES, &adam));
    for (int step = 1; step <= 10; step++) {
        optimizer_apply(&adam, parameters, gradient);
        ck_assert_double_eq_tol((double)parameters[0], -0.01 * step, 1e-5);
        ck_assert_double_eq_tol((double)parameters[1], 0.01 * step, 1e-5);
        ck_assert_float_eq(parameters[2], 0);
    }
    optimizer_free(&adam);
}
END_TEST

START_TEST(an_unknown_rule_is_not_found)
{
    ck_assert_ptr_null(optimizer_rule_find("adamant"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer optimizer");
    TCase *optimizers = tcase_create("optimizer");

    tcase_add_test(optimizers, sgd_goes_down_the_gradient);
    tcase_add_test(optimizers,
                   adam_steps_by_the_learning_rate_whatever_the_gradients_size);
    tcase_add_test(optimizers, an_unknown_rule_is_not_found);
    suite_add_tcase(suite, optimizers);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

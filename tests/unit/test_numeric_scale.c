// SPDX-License-Identifier: BSD-3-Clause
// Tests of numeric/scale.h: the sum is the nearest double, and the mean and the
// scale are made of it by a fixed order of IEEE operations.
#include <config.h>

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/exact.h"
#include "numeric/scale.h"

#ifdef HAVE_MPFR
#include <mpfr.h>
#endif

#define ROUNDS 16
#define SUMS_OF_ROUND 40000
#define DOUBLE_BITS 53
#define FLOAT_BITS 24
#define LANES_BITS 96

// The nearest double, by the compiler's conversion of 128 bits; what follows is
// exact.
static double exact_sum(exact_t sum)
{
    return ldexp((double)sum, -NUMERIC_FRACTION_BITS);
}

static double sum_of(exact_t sum)
{
    int64_t hi;
    int64_t lo;

    exact_split(sum, &hi, &lo);
    return numeric_sum(hi, lo);
}

// Of any size, with more bits than a double holds: sometimes half-way between
// two doubles or next to that, sometimes close to the bounds.
static exact_t draw_sum(struct random *random)
{
    static const int64_t near[] = {-1, 0, 1};
    int64_t high = (int64_t)random_next(random);
    exact_t sum;

    switch (random_below(random, 4)) {
    case 0: // any
        sum = exact_lanes(high, exact_draw_bits(random, 32)) >>
              random_below(random, 96);
        break;
    case 1: // a tie of a double of 53 bits, or next to one
        sum = (exact_t)(1 + 2 * exact_draw_bits(random, DOUBLE_BITS)) *
              ((exact_t)1 << random_below(random, 41));
        sum += near[random_below(random, 3)];
        break;
    case 2: // all ones, all zeros
        sum =
            ((exact_t)1 << random_below(random, 95)) - random_below(random, 2);
        break;
    default: // the largest
        sum = EXACT_BOUND - 1 - exact_draw_bits(random, 40);
        break;
    }
    return random_below(random, 2) == 0 ? sum : -sum;
}

// -------------------------------------------------------------------- the sum

START_TEST(a_sum_is_its_integers_times_two_to_the_minus_40)
{
    ck_assert_double_eq(numeric_sum(0, 0), 0.0);
    ck_assert(!signbit(numeric_sum(0, 0)));
    ck_assert_double_eq(numeric_sum(0, 1), 0x1p-40);
    ck_assert_double_eq(numeric_sum(-1, 0xffffffff), -0x1p-40);
    ck_assert_double_eq(numeric_sum(NUMERIC_ONE_HI, 0), 1.0);
    ck_assert_double_eq(numeric_sum(-NUMERIC_ONE_HI, 0), -1.0);
    ck_assert_double_eq(numeric_sum(-1, 0), -0x1p-8);
    ck_assert_double_eq(numeric_sum(0, 0xffffffff), 0xffffffffp-40);
    ck_assert_double_eq(numeric_sum(INT64_MAX, 0), 0x1p55);
    ck_assert_double_eq(numeric_sum(INT64_MIN, 0), -0x1p55);
    ck_assert_double_eq(numeric_sum(INT64_MIN, 1), -0x1p55);
}
END_TEST

START_TEST(a_tie_goes_to_the_even_double)
{
    const exact_t two53 = (exact_t)1 << DOUBLE_BITS;

    for (int shift = 0; shift <= 41; shift++) {
        exact_t unit = (exact_t)1 << shift;
        double scaled = ldexp(1, shift - NUMERIC_FRACTION_BITS);
        ck_assert_double_eq(sum_of((two53 + 1) * unit), 0x1p53 * scaled);
        ck_assert_double_eq(sum_of((two53 + 3) * unit), (0x1p53 + 4) * scaled);
        ck_assert_double_eq(sum_of(-(two53 + 1) * unit), -0x1p53 * scaled);
        ck_assert_double_eq(sum_of(-(two53 + 3) * unit),
                            -(0x1p53 + 4) * scaled);
        if (shift == 0)
            continue;
        ck_assert_double_eq(sum_of((two53 + 1) * unit + 1),
                            (0x1p53 + 2) * scaled);
        ck_assert_double_eq(sum_of((two53 + 3) * unit - 1),
                            (0x1p53 + 2) * scaled);
        ck_assert_double_eq(sum_of(-(two53 + 1) * unit - 1),
                            -(0x1p53 + 2) * scaled);
    }
}
END_TEST

START_TEST(random_sums_are_the_nearest_doubles)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < SUMS_OF_ROUND; i++) {
        exact_t sum = draw_sum(&random);
        double got = sum_of(sum);
        if (got != exact_sum(sum))
            ck_abort_msg("seed %d, sum %d: %a, not %a", _i, i, got,
                         exact_sum(sum));
    }
}
END_TEST

// ----------------------------------------------------------- mean and scale

START_TEST(without_weight_there_is_no_mean_and_no_scale)
{
    ck_assert_double_eq(numeric_mean(3, 0), 0);
    ck_assert_double_eq(numeric_mean(3, -0.0), 0);
    ck_assert_double_eq(numeric_mean(3, -2), 0);
    ck_assert_double_eq(numeric_mean(3, 2), 1.5);
    ck_assert_double_eq(numeric_mean(-3, 2), -1.5);

    const int64_t none[][2] = {{0, 0},
                               {-1, 0xffffffff},
                               {-1, 0},
                               {-NUMERIC_ONE_HI, 0},
                               {INT64_MIN, 1}};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        float scale = numeric_scale(none[i][0], none[i][1], 1, 8);
        ck_assert_float_eq(scale, 0);
        ck_assert(!signbit(scale));
    }
}
END_TEST

START_TEST(the_smallest_weight_counts)
{
    ck_assert_float_eq(numeric_scale(0, 1, 1, 1), 0x1p40f);
    ck_assert_double_eq(numeric_mean(1, 0x1p-40), 0x1p40);
}
END_TEST

START_TEST(the_scale_is_coefficient_times_divisor_over_weight)
{
    ck_assert_float_eq(numeric_scale(3 * NUMERIC_ONE_HI, 0, 1, 1), 1 / 3.0f);
    ck_assert_float_eq(numeric_scale(5 * NUMERIC_ONE_HI, 0, 0.5, 8), 0.8f);
    ck_assert_float_eq(numeric_scale(2 * NUMERIC_ONE_HI, 0, -1, 4), -2);
    ck_assert_float_eq(numeric_scale(2 * NUMERIC_ONE_HI, 0, 0, 4), 0);
}
END_TEST

// Where divisor and weight are equal, the scale is the coefficient, here one
// that is half-way between two floats: any other order of operations, or floats
// in between, go to the wrong side now and then.
START_TEST(the_product_comes_first_and_the_float_last)
{
    int orders_differ = 0;
    int widths_differ = 0;
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < SUMS_OF_ROUND; i++) {
        volatile double coefficient =
            (double)(((int64_t)1 << FLOAT_BITS) +
                     2 * exact_draw_bits(&random, FLOAT_BITS - 1) + 1);
        volatile double weight = 1 + random_below(&random, 1000000);
        volatile double share = coefficient / weight;
        volatile double product = coefficient * weight;
        volatile float narrow = (float)product / (float)weight;
        float want = (float)coefficient;
        float got = numeric_scale((int64_t)weight * NUMERIC_ONE_HI, 0,
                                  coefficient, weight);
        if (got != want)
            ck_abort_msg("seed %d: %a * %a / %a is %a", _i, coefficient, weight,
                         weight, (double)got);
        orders_differ += (float)(share * weight) != want;
        widths_differ += narrow != want;
    }
    // So the formulas can be told apart.
    ck_assert_int_gt(orders_differ, 0);
    ck_assert_int_gt(widths_differ, 0);
}
END_TEST

#ifdef HAVE_MPFR
static void mpfr_set_sum(mpfr_t out, int64_t hi, int64_t lo)
{
    mpfr_set_prec(out, LANES_BITS);
    mpfr_set_si(out, hi, MPFR_RNDN);
    mpfr_mul_2si(out, out, 32, MPFR_RNDN);
    mpfr_add_ui(out, out, (unsigned long)lo, MPFR_RNDN);
    mpfr_mul_2si(out, out, -NUMERIC_FRACTION_BITS, MPFR_RNDN);
}

START_TEST(random_sums_are_those_of_mpfr)
{
    struct random random = random_seeded((uint64_t)_i);
    mpfr_t want;

    mpfr_init2(want, LANES_BITS);
    for (int i = 0; i < SUMS_OF_ROUND; i++) {
        int64_t hi;
        int64_t lo;
        exact_split(draw_sum(&random), &hi, &lo);
        mpfr_set_sum(want, hi, lo);
        if (numeric_sum(hi, lo) != mpfr_get_d(want, MPFR_RNDN))
            ck_abort_msg("seed %d: (%lld, %lld) is %a, not %a", _i,
                         (long long)hi, (long long)lo, numeric_sum(hi, lo),
                         mpfr_get_d(want, MPFR_RNDN));
    }
    mpfr_clear(want);
}
END_TEST

// Each operation of the formula with the roundings that IEEE asks of it.
START_TEST(random_scales_are_those_of_mpfr)
{
    struct random random = random_seeded((uint64_t)_i);
    mpfr_t weight;
    mpfr_t scale;
    mpfr_t factor;

    mpfr_inits2(DOUBLE_BITS, scale, factor, (mpfr_ptr)0);
    mpfr_init2(weight, LANES_BITS);
    for (int i = 0; i < SUMS_OF_ROUND; i++) {
        double coefficient = exact_draw_value(&random);
        double divisor = 1 + random_below(&random, 100000);
        int64_t hi;
        int64_t lo;
        exact_t sum = draw_sum(&random);
        exact_split(sum, &hi, &lo);
        mpfr_set_sum(weight, hi, lo);
        mpfr_prec_round(weight, DOUBLE_BITS, MPFR_RNDN);
        mpfr_set_d(scale, coefficient, MPFR_RNDN);
        mpfr_set_d(factor, divisor, MPFR_RNDN);
        mpfr_mul(scale, scale, factor, MPFR_RNDN);
        mpfr_div(scale, scale, weight, MPFR_RNDN);
        float want = sum > 0 ? mpfr_get_flt(scale, MPFR_RNDN) : 0;
        float got = numeric_scale(hi, lo, coefficient, divisor);
        if (memcmp(&got, &want, sizeof(got)) != 0)
            ck_abort_msg("seed %d: %a * %a / (%lld, %lld) is %a, not %a", _i,
                         coefficient, divisor, (long long)hi, (long long)lo,
                         (double)got, (double)want);
    }
    mpfr_clears(weight, scale, factor, (mpfr_ptr)0);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("numeric scale");
    TCase *sum = tcase_create("sum");
    TCase *scale = tcase_create("mean and scale");

    tcase_add_test(sum, a_sum_is_its_integers_times_two_to_the_minus_40);
    tcase_add_test(sum, a_tie_goes_to_the_even_double);
    tcase_add_loop_test(sum, random_sums_are_the_nearest_doubles, 0, ROUNDS);
    tcase_add_test(scale, without_weight_there_is_no_mean_and_no_scale);
    tcase_add_test(scale, the_smallest_weight_counts);
    tcase_add_test(scale, the_scale_is_coefficient_times_divisor_over_weight);
    tcase_add_loop_test(scale, the_product_comes_first_and_the_float_last, 0,
                        4);
#ifdef HAVE_MPFR
    tcase_add_loop_test(sum, random_sums_are_those_of_mpfr, 0, ROUNDS);
    tcase_add_loop_test(scale, random_scales_are_those_of_mpfr, 0, ROUNDS);
#else
    puts("skipped: random_sums_are_those_of_mpfr, "
         "random_scales_are_those_of_mpfr (built without MPFR)");
#endif
    tcase_set_timeout(sum, 60);
    tcase_set_timeout(scale, 60);
    suite_add_tcase(suite, sum);
    suite_add_tcase(suite, scale);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of numeric/maximum.h: the integers are in the order of the floats they
// stand for, and become them again.
#include <check.h>
#include <float.h>
#include <stdlib.h>

#include "harness/exact.h"
#include "numeric/maximum.h"

#define ROUNDS 16
#define VALUES_OF_ROUND 100000
#define BITS_INFINITY 0x7f800000u
#define BITS_SIGN 0x80000000u

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

// What all codes must do for the float of these bits and the next one upwards.
static void check_neighbours(uint32_t bits, uint32_t next)
{
    int64_t code = numeric_maximum_encode(float_of(bits));
    int64_t next_code = numeric_maximum_encode(float_of(next));

    if (bits_of(numeric_maximum_decode(code)) != bits)
        ck_abort_msg("%08x comes back as %08x", bits,
                     bits_of(numeric_maximum_decode(code)));
    if (code >= next_code)
        ck_abort_msg("%08x is not below %08x", bits, next);
    if (code <= NUMERIC_MAXIMUM_NONE || next_code >= NUMERIC_MAXIMUM_NAN)
        ck_abort_msg("%08x, %08x: code out of range", bits, next);
}

// The float of each exponent, one below it and one above, both signs: zero,
// denormal, normal and infinite.
START_TEST(neighbours_of_all_classes_keep_their_order)
{
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        const uint32_t first = exponent << 23;
        const uint32_t last = first | 0x7fffff;
        const uint32_t upward[] = {first, first + 1, last - 1, last};
        for (int i = 0; i < 4; i++) {
            check_neighbours(upward[i], upward[i] + 1);
            check_neighbours((upward[i] + 1) | BITS_SIGN,
                             upward[i] | BITS_SIGN);
        }
    }
    check_neighbours(BITS_SIGN, 0); // -0 is below +0
    ck_assert_uint_eq(
        bits_of(numeric_maximum_decode(numeric_maximum_encode(INFINITY))),
        BITS_INFINITY);
}
END_TEST

START_TEST(random_floats_keep_their_order)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < VALUES_OF_ROUND; i++) {
        uint64_t drawn = random_next(&random);
        float a = float_of((uint32_t)drawn);
        float b = float_of((uint32_t)(drawn >> 32));
        if (isnan(a) || isnan(b))
            continue;
        int64_t a_code = numeric_maximum_encode(a);
        int64_t b_code = numeric_maximum_encode(b);
        if ((a < b) != (a_code < b_code) && a != b)
            ck_abort_msg("seed %d: %a, %a", _i, (double)a, (double)b);
        if (bits_of(numeric_maximum_decode(a_code)) != bits_of(a))
            ck_abort_msg("seed %d: %a does not come back", _i, (double)a);
    }
}
END_TEST

START_TEST(nan_is_above_all_and_comes_back_quiet)
{
    static const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7f800001,
                                    0xff800001, 0x7fffffff, 0xffffffff};

    for (size_t i = 0; i < sizeof(nans) / sizeof(nans[0]); i++)
        ck_assert_int_eq(numeric_maximum_encode(float_of(nans[i])),
                         NUMERIC_MAXIMUM_NAN);
    ck_assert_int_lt(numeric_maximum_encode(INFINITY), NUMERIC_MAXIMUM_NAN);
    ck_assert_uint_eq(bits_of(numeric_maximum_decode(NUMERIC_MAXIMUM_NAN)),
                      0x7fc00000);
}
END_TEST

START_TEST(no_value_is_below_all_and_reads_as_minus_infinity)
{
    ck_assert_int_gt(numeric_maximum_encode(-INFINITY), NUMERIC_MAXIMUM_NONE);
    ck_assert_uint_eq(bits_of(numeric_maximum_decode(NUMERIC_MAXIMUM_NONE)),
                      BITS_INFINITY | BITS_SIGN);
}
END_TEST

START_TEST(the_maximum_of_codes_is_the_maximum_of_floats_in_any_order)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < 1000; i++) {
        int64_t code = NUMERIC_MAXIMUM_NONE;
        float want = -INFINITY;
        uint32_t count = random_below(&random, 50);
        for (uint32_t k = 0; k < count; k++) {
            float x = (float)exact_draw_value(&random);
            int64_t x_code = numeric_maximum_encode(x);
            want = fmaxf(want, x);
            code = x_code > code ? x_code : code;
        }
        ck_assert_float_eq(numeric_maximum_decode(code), want);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric maximum");
    TCase *tests = tcase_create("maximum");

    tcase_add_test(tests, neighbours_of_all_classes_keep_their_order);
    tcase_add_loop_test(tests, random_floats_keep_their_order, 0, ROUNDS);
    tcase_add_test(tests, nan_is_above_all_and_comes_back_quiet);
    tcase_add_test(tests, no_value_is_below_all_and_reads_as_minus_infinity);
    tcase_add_loop_test(
        tests, the_maximum_of_codes_is_the_maximum_of_floats_in_any_order, 0,
        ROUNDS);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

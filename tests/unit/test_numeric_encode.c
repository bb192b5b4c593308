// SPDX-License-Identifier: BSD-3-Clause
// Tests of numeric_encode: every double becomes the nearest multiple of 2^-40,
// or is refused, whatever mode the floating-point unit is in.
#include <config.h>

#include <check.h>
#include <fenv.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "harness/exact.h"

#ifdef HAVE_MPFR
#include <mpfr.h>
#endif

#define ROUNDS 16
#define VALUES_OF_ROUND 40000
#define UNTOUCHED 0x5a5a5a5a5a5a5a5a

static uint64_t bits_of(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

// Holds for x and -x; q is what x must become.
static void assert_encodes(double x, int64_t q)
{
    int64_t got = UNTOUCHED;

    ck_assert_msg(numeric_encode(x, &got), "%a is refused", x);
    ck_assert_msg(got == q, "%a becomes %lld, not %lld", x, (long long)got,
                  (long long)q);
    ck_assert_msg(numeric_encode(-x, &got), "%a is refused", -x);
    ck_assert_msg(got == -q, "%a becomes %lld, not %lld", -x, (long long)got,
                  (long long)-q);
}

static void assert_refused(uint64_t bits)
{
    int64_t got = UNTOUCHED;

    for (int sign = 0; sign < 2; sign++) {
        double x = exact_bits_value(bits ^ (uint64_t)sign << 63);
        ck_assert_msg(!numeric_encode(x, &got), "%a is taken", x);
        ck_assert_msg(got == UNTOUCHED, "%a is refused, yet q is set", x);
    }
}

START_TEST(zero_and_what_is_below_half_a_unit_become_zero)
{
    assert_encodes(0.0, 0);
    assert_encodes(DBL_TRUE_MIN, 0);
    assert_encodes(nextafter(DBL_MIN, 0), 0);
    assert_encodes(DBL_MIN, 0);
    assert_encodes(0x1p-95, 0);
    assert_encodes(0x1p-94, 0);
    assert_encodes(0x1p-93, 0);
    assert_encodes(nextafter(0x1p-41, 0), 0);
}
END_TEST

START_TEST(ties_go_to_the_even_neighbour)
{
    assert_encodes(0x1p-41, 0);
    assert_encodes(nextafter(0x1p-41, 1), 1);
    assert_encodes(nextafter(3 * 0x1p-41, 0), 1);
    assert_encodes(3 * 0x1p-41, 2);
    assert_encodes(5 * 0x1p-41, 2);
    assert_encodes(nextafter(5 * 0x1p-41, 1), 3);
    assert_encodes(7 * 0x1p-41, 4);
    // The largest ties: a double of 53 bits, the last one worth 2^-41.
    assert_encodes(0x1.ffffffffffffdp11, (1LL << 52) - 2);
    assert_encodes(0x1.fffffffffffffp11, 1LL << 52);
}
END_TEST

START_TEST(integers_and_fractions_are_exact)
{
    assert_encodes(0x1p-40, 1);
    assert_encodes(1.0, 1LL << 40);
    assert_encodes(0.5, 1LL << 39);
    assert_encodes(0x1p12, 1LL << 52);
    assert_encodes(nextafter(0x1p12, 0), (1LL << 52));
    assert_encodes(nextafter(0x1p13, 0), (1LL << 53) - 1);
    assert_encodes(4194303.0, 4194303LL << 40);
}
END_TEST

START_TEST(the_largest_value_is_just_below_2_to_the_22)
{
    assert_encodes(nextafter(0x1p22, 0), (1LL << 62) - (1LL << 9));
    assert_refused(bits_of(0x1p22));
    assert_refused(bits_of(nextafter(0x1p22, INFINITY)));
    assert_refused(bits_of(0x1p23));
    assert_refused(bits_of(DBL_MAX));
}
END_TEST

START_TEST(what_is_not_finite_is_refused)
{
    assert_refused(bits_of(INFINITY));
    assert_refused(0x7ff8000000000000); // quiet NaN
    assert_refused(0x7ff0000000000001); // signalling NaN
    assert_refused(0x7fffffffffffffff);
}
END_TEST

static double draw(struct random *random)
{
    if (random_below(random, 4) == 0)
        return exact_bits_value(random_next(random));
    return exact_draw_value(random);
}

START_TEST(random_values_are_those_of_long_double)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < VALUES_OF_ROUND; i++) {
        double x = draw(&random);
        int64_t want = UNTOUCHED;
        int64_t got = UNTOUCHED;
        bool taken = exact_encode(x, &want);
        if (numeric_encode(x, &got) != taken || got != want)
            ck_abort_msg("seed %d: %a becomes %lld, not %lld", _i, x,
                         (long long)got, (long long)want);
    }
}
END_TEST

START_TEST(every_float_is_taken_as_the_double_it_is)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < VALUES_OF_ROUND; i++) {
        uint32_t bits = (uint32_t)random_next(&random);
        int64_t want = UNTOUCHED;
        int64_t got = UNTOUCHED;
        float x;

        memcpy(&x, &bits, sizeof(x));
        bool taken = exact_encode((double)x, &want);
        if (numeric_encode((double)x, &got) != taken || got != want)
            ck_abort_msg("seed %d: %a becomes %lld, not %lld", _i, (double)x,
                         (long long)got, (long long)want);
    }
}
END_TEST

#ifdef HAVE_MPFR
START_TEST(random_values_are_those_of_mpfr)
{
    struct random random = random_seeded((uint64_t)_i);
    mpfr_t exact;

    mpfr_init2(exact, 64);
    for (int i = 0; i < VALUES_OF_ROUND; i++) {
        double x = exact_draw_value(&random);
        int64_t got = UNTOUCHED;

        mpfr_set_d(exact, x, MPFR_RNDN); // both are exact
        mpfr_mul_2si(exact, exact, NUMERIC_FRACTION_BITS, MPFR_RNDN);
        int64_t want = (int64_t)mpfr_get_si(exact, MPFR_RNDN);
        if (!numeric_encode(x, &got) || got != want)
            ck_abort_msg("seed %d: %a becomes %lld, not %lld", _i, x,
                         (long long)got, (long long)want);
    }
    mpfr_clear(exact);
}
END_TEST
#endif

// A mode of the floating-point unit: rounding, and whether denormal numbers
// count (which only SSE lets us choose here).
static void mode_set(int rounding, bool flush)
{
    fesetround(rounding);
#ifdef __SSE2__
    const unsigned flush_bits = 0x8040; // FTZ and DAZ
    _mm_setcsr(flush ? _mm_getcsr() | flush_bits : _mm_getcsr() & ~flush_bits);
#else
    (void)flush;
#endif
}

START_TEST(no_mode_of_the_floating_point_unit_changes_a_bit)
{
    static const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD,
                                   FE_TOWARDZERO};
    struct random random = random_seeded((uint64_t)_i);
    static double x[VALUES_OF_ROUND / 8];
    static int64_t want[VALUES_OF_ROUND / 8];
    static int64_t got[VALUES_OF_ROUND / 8];
    const int count = VALUES_OF_ROUND / 8;

    for (int i = 0; i < count; i++) {
        x[i] = draw(&random);
        want[i] = got[i] = UNTOUCHED;
        exact_encode(x[i], &want[i]);
    }
    for (int mode = 0; mode < 8; mode++) {
        mode_set(rounding[mode % 4], mode >= 4);
        for (int i = 0; i < count; i++)
            numeric_encode(x[i], &got[i]);
        mode_set(FE_TONEAREST, false);
        for (int i = 0; i < count; i++)
            if (got[i] != want[i])
                ck_abort_msg("seed %d, mode %d: %a becomes %lld, not %lld", _i,
                             mode, x[i], (long long)got[i], (long long)want[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric encode");
    TCase *given = tcase_create("given values");
    TCase *drawn = tcase_create("random values");

    tcase_add_test(given, zero_and_what_is_below_half_a_unit_become_zero);
    tcase_add_test(given, ties_go_to_the_even_neighbour);
    tcase_add_test(given, integers_and_fractions_are_exact);
    tcase_add_test(given, the_largest_value_is_just_below_2_to_the_22);
    tcase_add_test(given, what_is_not_finite_is_refused);
    suite_add_tcase(suite, given);
    tcase_add_loop_test(drawn, random_values_are_those_of_long_double, 0,
                        ROUNDS);
    tcase_add_loop_test(drawn, every_float_is_taken_as_the_double_it_is, 0,
                        ROUNDS);
    tcase_add_loop_test(drawn, no_mode_of_the_floating_point_unit_changes_a_bit,
                        0, ROUNDS);
#ifdef HAVE_MPFR
    tcase_add_loop_test(drawn, random_values_are_those_of_mpfr, 0, ROUNDS);
#else
    puts("skipped: random_values_are_those_of_mpfr (built without MPFR)");
#endif
    tcase_set_timeout(drawn, 60);
    suite_add_tcase(suite, drawn);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

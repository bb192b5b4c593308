// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels' numbers against long double.
#include <math.h>
#include <stdlib.h>

#include "gpu/tests.h"

#define TYPES 3

static const enum kernel_element types[] = {KERNEL_F32, KERNEL_BF16,
                                            KERNEL_F16};

int64_t test_rounds(int64_t plain)
{
    const char *epochs = getenv("EPOCHS");
    int64_t few = epochs != NULL ? atoll(epochs) : plain;

    return few > 0 && few < plain ? few : plain;
}

void run_and_check(const struct batch &batch, bool parallel)
{
    struct how how;
    how.way = WAY_LOSS;
    const struct outcome loss = batch_run(batch, how);
    batch_check(batch, loss);
    how.way = WAY_TWO;
    const struct outcome two = batch_run(batch, how);
    batch_check(batch, two);
    CHECK(outcome_equal(loss, two), "loss differs if parts are wanted");
    if (batch_fits_rows(batch)) {
        how.singles = 1;
        CHECK(outcome_equal(two, batch_run(batch, how)),
              "several rows a block differ from one");
        how.singles = -1;
    }
    if (batch_fits_fused(batch)) {
        how.way = WAY_FUSED;
        const struct outcome fused = batch_run(batch, how);
        batch_check(batch, fused);
        CHECK(outcome_equal(two, fused), "one pass differs from two");
    }
    if (parallel) {
        how.way = WAY_PARALLEL;
        batch_check(batch, batch_run(batch, how));
    }
}

static void losses_and_gradients_are_those_of_long_double()
{
    static const int64_t vocabs[] = {1,     7,     8,     31,     257,   32000,
                                     32768, 50257, 65544, 128256, 151936};

    for (size_t v = 0; v < sizeof(vocabs) / sizeof(vocabs[0]); v++)
        for (int t = 0; t < TYPES; t++) {
            if (vocabs[v] > 1000 && (int)(v + (size_t)t) % 3 != 0 &&
                test_rounds(100) < 100)
                continue;
            struct batch batch(types[t], vocabs[v], vocabs[v] > 1000 ? 1 : 5,
                               v * TYPES + (uint64_t)t);
            batch.wide = (v + (size_t)t) % 2 == 0;
            run_and_check(batch, vocabs[v] > 7);
            if (test_has_failed())
                return;
        }
}

static void the_longest_rows_are_right()
{
    struct batch batch(KERNEL_BF16, 524288, 1, 3);
    run_and_check(batch, false);
    // Thirty-two tiles are what a cluster holds.
    struct batch fits(KERNEL_F32, 262144, 1, 4);
    CHECK(batch_fits_fused(fits) || !machine_device().clusters,
          "262144 float32 do not fit");
    struct batch wide(KERNEL_F32, 524288, 1, 4);
    CHECK(!batch_fits_fused(wide), "524288 float32 fit");
    if (test_rounds(100) == 100)
        run_and_check(wide, false);
}

static void every_short_length_is_right()
{
    for (int64_t vocab = 1; vocab < test_rounds(70); vocab++) {
        struct batch batch(types[vocab % TYPES], vocab, 3, (uint64_t)vocab);
        batch.labels[0] = 0;
        batch.labels[1] = vocab - 1;
        run_and_check(batch, vocab > 10 && vocab % 5 == 0);
        if (test_has_failed())
            return;
    }
}

static void lengths_around_tiles_are_right()
{
    for (int t = 0; t < TYPES; t++) {
        const int64_t tile = ROW_TILE_BYTES / kernel_element_bytes(types[t]);
        static const int offsets[] = {-8, -1, 0, 1, 8, 9};
        for (int k = 0; k < test_rounds(6); k++) {
            struct batch batch(types[t], (1 + k % 2) * tile + offsets[k], 2,
                               (uint64_t)k);
            batch.labels[0] = batch.vocab - 1;
            batch.labels[1] = tile - 1 - (offsets[k] < 0 ? 8 : 0);
            run_and_check(batch, false);
            if (test_has_failed())
                return;
        }
    }
}

static void strides_and_addresses_of_all_kinds_are_right()
{
    for (int i = 0; i < test_rounds(32); i++) {
        const enum kernel_element type = types[i % TYPES];
        struct batch batch(type, 1000 + 37 * i, 3, (uint64_t)i);
        batch.stride = batch.vocab + i % 9;
        batch.gradient_stride = batch.vocab + i / 3 % 17;
        batch.shift = i % 16;
        batch.gradient_shift = i * 7 % 16;
        batch.labels[1] = JOB_IGNORE;
        run_and_check(batch, i % 4 == 0);
        if (test_has_failed())
            return;
    }
}

static void weight_scale_and_grad_scale_multiply_the_gradient()
{
    for (int t = 0; t < TYPES; t++) {
        struct batch batch(types[t], 264, 4, (uint64_t)t);
        batch.weights = {0.25f, -3, 0, 1};
        batch.has_scale = true;
        batch.scale = 0.125f;
        batch.has_grad_scale = true;
        batch.grad_scale = 1024;
        run_and_check(batch, true);
    }
}

// ------------------------------------------------------------------- accuracy

static void losses_are_within_two_millionths_and_gradients_within_an_ulp()
{
    for (int t = 0; t < TYPES; t++) {
        struct accuracy accuracy;
        for (int i = 0; i < test_rounds(4); i++) {
            struct batch batch(types[t], i % 2 == 0 ? 32000 : 128256, 1,
                               (uint64_t)(77 + i));
            batch.has_scale = true;
            batch.scale = 0x1p12f; // so that binary16 has normal numbers
            struct how how;
            how.way = batch_fits_fused(batch) ? WAY_FUSED : WAY_TWO;
            batch_check(batch, batch_run(batch, how), &accuracy);
            if (test_has_failed())
                return;
        }
        double exact = (double)accuracy.exact / (double)accuracy.elements;
        printf("     type %d: %.4f %% correctly rounded, %.3f ulp, loss %.3Lf "
               "of its bound, sum %.2Lg\n",
               t, 100 * exact, accuracy.worst_ulp, accuracy.worst_loss,
               accuracy.worst_sum);
        CHECK(exact >= 0.999, "type %d: %.5f exact", t, exact);
        CHECK(accuracy.worst_sum < (types[t] == KERNEL_F32 ? 1e-6L : 3e-3L),
              "type %d: gradients of a row sum to %Lg", t, accuracy.worst_sum);
    }
}

static void a_sure_target_keeps_the_digits_of_what_is_left()
{
    static const double sure[] = {0.9, 0.99, 0.999, 1 - 1e-6};

    for (int t = 0; t < TYPES; t++) {
        struct batch batch(types[t], 32000, 4, 9);
        for (int i = 0; i < 4; i++) {
            for (int64_t j = 0; j < batch.vocab; j++)
                batch.set(i, j, 0);
            double rest = (double)(batch.vocab - 1);
            batch.labels[(size_t)i] = 12345;
            batch.set(i, 12345, (float)log(sure[i] / (1 - sure[i]) * rest));
        }
        run_and_check(batch, true);
        struct how how;
        how.way = WAY_TWO;
        struct outcome out = batch_run(batch, how);
        for (int i = 0; i < 4; i++) {
            double x = (double)batch.logit(i, 12345);
            double others = (double)(batch.vocab - 1) * exp(-x);
            double want = -others / (1 + others);
            double got = (double)out.gradient[i * batch.vocab + 12345];
            double relative = types[t] == KERNEL_F32    ? 1e-6
                              : types[t] == KERNEL_BF16 ? 0.0040
                                                        : 0.0006;
            if (types[t] == KERNEL_F16 && -want < 6e-5)
                relative = 0.04; // denormal
            CHECK(fabs(got / want - 1) <= relative,
                  "type %d, p = %g: gradient %g, not %g", t, sure[i], got,
                  want);
        }
    }
}

static void numbers_far_apart_and_far_from_zero_are_right()
{
    static const float bases[] = {-60000, -700, 0, 3000, 60000};

    for (int t = 0; t < TYPES; t++)
        for (int b = 0; b < 5; b++) {
            struct batch batch(types[t], 1003, 2, (uint64_t)b);
            struct random random = random_seeded((uint64_t)b);
            for (int64_t j = 0; j < batch.vocab; j++) {
                batch.set(0, j,
                          bases[b] + (float)random_below(&random, 2000) / 20);
                batch.set(1, j, -(float)random_below(&random, 9000) / 97);
            }
            run_and_check(batch, true);
        }
}

static void a_maximum_that_grows_along_the_row_is_followed()
{
    for (int t = 0; t < TYPES; t++) {
        struct batch batch(types[t], 40000, 2, 1);
        for (int64_t j = 0; j < batch.vocab; j++) {
            batch.set(0, j, (float)j / 500 - 40);
            batch.set(1, j, 40 - (float)j / 500);
        }
        run_and_check(batch, false);
    }
}

static void equal_logits_lose_the_logarithm_of_v()
{
    static const int64_t vocabs[] = {1, 8, 257, 32000};
    static const float values[] = {0, -1e4f, 60000, -0.731f};

    for (int v = 0; v < 4; v++)
        for (int k = 0; k < 4; k++) {
            struct batch batch(types[k % TYPES], vocabs[v], 1, 1);
            for (int64_t j = 0; j < batch.vocab; j++)
                batch.set(0, j, values[k]);
            run_and_check(batch, false);
        }
}

// ----------------------------------------------------------------- not finite

// All ways, with one element of a row of its own replaced.
static void expect_row(struct batch batch, int64_t at, float x,
                       bool (*expected)(float nll), bool nan_gradient)
{
    batch.set(0, at, x);
    for (int way = WAY_LOSS; way <= WAY_PARALLEL; way++) {
        struct how how;
        how.way = (enum way)way;
        if (way == WAY_FUSED && !batch_fits_fused(batch))
            continue;
        struct outcome out = batch_run(batch, how);
        CHECK(expected(out.nll[0]), "way %d, logit %lld is %g: nll %g", way,
              (long long)at, (double)x, (double)out.nll[0]);
        CHECK(out.record.nonfinite == 1 && out.record.loss_hi == 0 &&
                  out.record.loss_lo == 0 && out.record.count == 1,
              "way %d: nonfinite %lld", way, (long long)out.record.nonfinite);
        for (int64_t j = 0; nan_gradient && way != WAY_LOSS && j < batch.vocab;
             j++)
            CHECK(isnan(out.gradient[j]), "way %d: gradient %g is a number",
                  way, (double)out.gradient[j]);
    }
}

static bool is_nan(float x)
{
    return isnan(x);
}
static bool is_infinite(float x)
{
    return x == INFINITY;
}

static void nan_or_infinity_anywhere_makes_the_row_nan()
{
    for (int t = 0; t < TYPES; t++)
        for (int64_t at = 0; at < 136; at += 15) {
            struct batch batch(types[t], at % 2 == 0 ? 136 : 131, 1, 1);
            batch.labels[0] = 45;
            expect_row(batch, at % 131, at % 4 == 0 ? NAN : -NAN, is_nan, true);
            expect_row(batch, at % 131, INFINITY, is_nan, true);
        }
}

static void minus_infinity_has_no_probability()
{
    for (int t = 0; t < TYPES; t++) {
        struct batch batch(types[t], 34001, 1, 2);
        for (int64_t j = 0; j < 33000; j++)
            batch.logit(0, j) = -INFINITY;
        batch.labels[0] = 34000;
        run_and_check(batch, true);
        struct batch own(types[t], 104, 1, 3);
        own.labels[0] = 7;
        expect_row(own, 7, -INFINITY, is_infinite, false);
        for (int64_t j = 0; j < 104; j++)
            own.logit(0, j) = -INFINITY;
        expect_row(own, 7, -INFINITY, is_nan, true);
    }
}

static void a_loss_of_2_to_the_22_is_not_a_number_that_counts()
{
    struct batch batch(KERNEL_F32, 4, 2, 1);

    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            batch.set(i, j,
                      j == 1 ? (i == 0 ? -4194304.f : -4194303.f)
                             : (j == 0 ? 0.f : -INFINITY));
    batch.labels = {1, 1};
    struct how how;
    struct outcome out = batch_run(batch, how);
    CHECK(out.record.nonfinite == 1 &&
              out.record.loss_hi == 4194303 * NUMERIC_ONE_HI &&
              out.record.count == 2,
          "nonfinite %lld", (long long)out.record.nonfinite);
}

static void a_scale_of_nan_poisons_the_gradient_but_not_the_loss()
{
    for (int way = WAY_FUSED; way <= WAY_PARALLEL; way++) {
        struct batch batch(KERNEL_BF16, 32, 2, 1);
        batch.labels[1] = JOB_IGNORE;
        batch.has_scale = true;
        batch.scale = NAN;
        struct how how;
        how.way = (enum way)way;
        struct outcome out = batch_run(batch, how);
        for (int64_t j = 0; j < 32; j++)
            CHECK(isnan(out.gradient[j]) && out.bits[32 + j] == 0,
                  "gradients %g and %g", (double)out.gradient[j],
                  (double)out.gradient[32 + j]);
        CHECK(isfinite(out.nll[0]) && out.record.nonfinite == 0, "nll %g",
              (double)out.nll[0]);
    }
}

const std::vector<struct test> tests_of_values = {
    TEST(every_short_length_is_right),
    TEST(losses_and_gradients_are_those_of_long_double),
    TEST(the_longest_rows_are_right),
    TEST(lengths_around_tiles_are_right),
    TEST(strides_and_addresses_of_all_kinds_are_right),
    TEST(weight_scale_and_grad_scale_multiply_the_gradient),
    TEST(losses_are_within_two_millionths_and_gradients_within_an_ulp),
    TEST(a_sure_target_keeps_the_digits_of_what_is_left),
    TEST(numbers_far_apart_and_far_from_zero_are_right),
    TEST(a_maximum_that_grows_along_the_row_is_followed),
    TEST(equal_logits_lose_the_logarithm_of_v),
    TEST(nan_or_infinity_anywhere_makes_the_row_nan),
    TEST(minus_infinity_has_no_probability),
    TEST(a_loss_of_2_to_the_22_is_not_a_number_that_counts),
    TEST(a_scale_of_nan_poisons_the_gradient_but_not_the_loss),
};

// SPDX-License-Identifier: BSD-3-Clause
// Tests of label smoothing, z-loss, soft-cap and temperature.
#include <math.h>

#include "gpu/tests.h"

static const struct kernel_shaping shapings[] = {
    {1, 0, 0, 0}, // {temperature_inverse, cap, smoothing, z_loss}
    {0.5f, 0, 0, 0},
    {1, 30, 0, 0},
    {1, 0, 0.1f, 0},
    {1, 0, 0, 1e-4f},
    {1.25f, 20, 0.1f, 1e-3f},
    {1, 1.5f, 0, 0}, // what is not a logit must not count as -1.5
};

static void every_shaping_is_that_of_long_double()
{
    for (int k = 0; k < 7; k++)
        for (int t = 0; t < 3; t++) {
            struct batch batch((enum kernel_element)t, k % 2 == 0 ? 1003 : 1000,
                               3, (uint64_t)k);
            batch.shaped = true;
            batch.shaping = shapings[k];
            batch.labels[0] = 1;
            batch.set(0, 1, 14); // sure
            batch.weights = {1, 0.5f, 2};
            run_and_check(batch, true);
            if (test_has_failed())
                return;
        }
}

static void under_a_cap_minus_infinity_has_no_probability()
{
    for (int t = 0; t < 3; t++) {
        struct batch batch((enum kernel_element)t, 1003, 2, 4);
        batch.shaped = true;
        batch.shaping = shapings[6];
        batch.labels[0] = 500;
        for (int64_t j = 0; j < 1003; j += 2)
            batch.set(0, j + (j == 500), -INFINITY);
        run_and_check(batch, true);
    }
}

static void shaped_rows_of_several_tiles_are_right()
{
    for (int t = 0; t < 3; t++) {
        struct batch batch((enum kernel_element)t, 70000, 2, 4);
        batch.shaped = true;
        batch.shaping = shapings[5];
        batch.labels[1] = 69999;
        run_and_check(batch, true);
    }
}

static void without_a_shaping_both_variants_are_the_same()
{
    for (int t = 0; t < 3; t++)
        for (int way = WAY_LOSS; way <= WAY_PARALLEL; way++) {
            struct batch batch((enum kernel_element)t, 1000, 3, 4);
            struct how how;
            how.way = (enum way)way;
            if (way == WAY_FUSED)
                continue;
            const struct outcome plain = batch_run(batch, how);
            batch.shaped = true;
            CHECK(outcome_equal(plain, batch_run(batch, how)),
                  "type %d, way %d: other bits", t, way);
        }
}

const std::vector<struct test> tests_of_variants = {
    TEST(every_shaping_is_that_of_long_double),
    TEST(under_a_cap_minus_infinity_has_no_probability),
    TEST(shaped_rows_of_several_tiles_are_right),
    TEST(without_a_shaping_both_variants_are_the_same),
};

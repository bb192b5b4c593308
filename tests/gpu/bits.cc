// SPDX-License-Identifier: BSD-3-Clause
// Tests that a row's nll and gradient have the same bits however it is read: at
// any address, by any cluster, in any order of threads, in place or not.
#include <math.h>
#include <string.h>

#include "gpu/tests.h"

static const enum kernel_element types[] = {KERNEL_F32, KERNEL_BF16,
                                            KERNEL_F16};

// Rows with everything in them.
static struct batch odd_batch(enum kernel_element type, int64_t vocab)
{
    struct batch batch(type, vocab, 4, (uint64_t)vocab);
    static const float odd[] = {0x1p-140f, -0.0f, -1e30f, -70.0f, -86.9f, 60};
    struct random random = random_seeded(5);

    batch.weights = {0.37f, -2, 100, 1};
    batch.has_scale = true;
    batch.scale = type == KERNEL_F16 ? 3.1f : 0.37f;
    batch.has_grad_scale = true;
    batch.grad_scale = 1.7f;
    for (int64_t j = 0; j < vocab; j++) {
        batch.set(1, j, -(float)random_below(&random, 9000) / 97);
        if (random_below(&random, 9) == 0)
            batch.set(2, j, odd[random_below(&random, 6)]);
    }
    batch.logit(3, vocab / 2) = INFINITY;
    return batch;
}

static void any_address_and_stride_gives_the_same_bits()
{
    for (int t = 0; t < 3; t++) {
        struct batch batch = odd_batch(types[t], 3001);
        struct how how;
        how.way = WAY_TWO;
        const struct outcome want = batch_run(batch, how);
        for (int shift = 1; shift < test_rounds(16); shift++) {
            batch.shift = shift;
            batch.gradient_shift = shift * 5 % 16;
            batch.stride = 3001 + shift % 4;
            batch.gradient_stride = 3001 + shift % 3;
            CHECK(outcome_equal(batch_run(batch, how), want),
                  "type %d, %d bytes off: other bits", t, shift);
        }
    }
}

static void any_cluster_gives_the_same_bits()
{
    for (int t = 0; t < 3; t++) {
        struct batch batch = odd_batch(types[t], t == 0 ? 50009 : 100009);
        struct how how;
        how.cluster = 1;
        const struct outcome want = batch_run(batch, how);
        if (!machine_device().clusters)
            continue;
        for (int64_t cluster = 2; cluster <= 8; cluster++) {
            how.cluster = cluster;
            how.seed = (uint64_t)cluster;
            CHECK(outcome_equal(batch_run(batch, how), want),
                  "type %d, clusters of %d: other bits", t, (int)cluster);
        }
    }
}

// Several rows a cluster, of which some do not count: the fused kernel goes
// round. On a GPU the seed is whatever it does.
static void any_order_of_threads_gives_the_same_bits()
{
    static const int64_t vocabs[] = {264, 32776, 70000, 140000};

    for (int v = 0; v < 4; v++) {
        struct batch batch(KERNEL_BF16, vocabs[v], v == 0 ? 60 : 9, 3);
        for (int64_t i = 0; i < batch.tokens; i++)
            if (i % 5 == 1 || i % 7 == 3)
                batch.labels[(size_t)i] = i % 2 == 0 ? JOB_IGNORE : -1;
        struct how how;
        how.way = WAY_TWO;
        const struct outcome want = batch_run(batch, how);
        CHECK(batch_fits_fused(batch) || !machine_device().clusters,
              "%lld logits do not fit", (long long)vocabs[v]);
        for (int seed = 1; seed <= test_rounds(6); seed++) {
            how.seed = (uint64_t)seed;
            how.way = WAY_TWO;
            CHECK(outcome_equal(batch_run(batch, how), want),
                  "%lld logits, seed %d: other bits from two passes",
                  (long long)vocabs[v], seed);
            how.way = WAY_FUSED;
            if (batch_fits_fused(batch))
                CHECK(outcome_equal(batch_run(batch, how), want),
                      "%lld logits, seed %d: other bits from one pass",
                      (long long)vocabs[v], seed);
        }
    }
}

static void a_gradient_in_place_is_the_one_beside()
{
    static const int64_t vocabs[] = {1, 7, 264, 3001, 32776, 70000};

    for (int v = 0; v < 6; v++)
        for (int t = 0; t < 3; t++) {
            struct batch batch = odd_batch(types[t], vocabs[v]);
            batch.labels[1] = JOB_IGNORE;
            batch.shift = v % 2 == 0 ? 0 : 2 * t;
            for (int way = WAY_FUSED; way <= WAY_PARALLEL; way++) {
                struct how how;
                how.way = (enum way)way;
                if ((way == WAY_FUSED && !batch_fits_fused(batch)) ||
                    (way == WAY_PARALLEL && vocabs[v] < 7))
                    continue;
                const struct outcome beside = batch_run(batch, how);
                how.in_place = true;
                const struct outcome in_place = batch_run(batch, how);
                CHECK(outcome_equal(beside, in_place) && beside.untouched &&
                          in_place.untouched,
                      "type %d, %lld logits, way %d: not the same in place", t,
                      (long long)vocabs[v], way);
            }
        }
}

const std::vector<struct test> tests_of_bits = {
    TEST(any_address_and_stride_gives_the_same_bits),
    TEST(any_cluster_gives_the_same_bits),
    TEST(any_order_of_threads_gives_the_same_bits),
    TEST(a_gradient_in_place_is_the_one_beside),
};

// SPDX-License-Identifier: BSD-3-Clause
// Tests that the kernel which gives a block several short rows gives them the
// bits that a block a row does, however rows are dealt out to blocks.
#include <math.h>
#include <string.h>

#include "gpu/tests.h"

// Both ways of the forward pass, with all that it writes.
static bool same_bits(const struct batch &batch, struct how how)
{
    how.cluster = 1;
    const struct outcome alone = batch_run(batch, how);
    how.cluster = 0;
    const struct outcome together = batch_run(batch, how);

    return outcome_equal(alone, together) && alone.parts == together.parts &&
           together.untouched;
}

// So many of a hundred rows do not count, for one reason or another.
static void do_not_count(struct batch *batch, uint32_t percent,
                         struct random *random)
{
    static const int64_t not_labels[] = {JOB_IGNORE, JOB_IGNORE, -1, INT32_MAX};

    for (int64_t i = 0; i < batch->tokens; i++)
        if (random_below(random, 100) < percent) {
            batch->labels[(size_t)i] = not_labels[random_below(random, 4)];
            for (int64_t j = 0; j < batch->vocab; j++)
                batch->logit(i, j) = NAN;
        }
}

static int64_t random_vocab(struct random *random)
{
    static const int64_t about[] = {1, 8, 264, 2048, 16384, 32768 - 8};
    const int64_t vocab = about[random_below(random, 6)];

    return vocab + random_below(random, 8);
}

static struct batch random_batch(struct random *random)
{
    static const uint32_t percents[] = {0, 0, 70, 100};
    const int64_t vocab = random_vocab(random);
    const enum kernel_element type =
        random_below(random, 2) == 0 ? KERNEL_BF16 : KERNEL_F16;
    struct batch batch(type, vocab, random_below(random, vocab > 8000 ? 9 : 33),
                       random_next(random));

    batch.wide = random_below(random, 2) == 0;
    batch.stride = (vocab + 7) / 8 * 8 + 8 * random_below(random, 3);
    do_not_count(&batch, percents[random_below(random, 4)], random);
    for (int64_t i = 0; i < batch.tokens && vocab % 2 == 0; i++)
        batch.weights.push_back((float)random_below(random, 9) / 7 - 0.5f);
    return batch;
}

static void rows_of_any_shape_have_the_same_bits()
{
    for (int round = 0; round < test_rounds(60); round++) {
        struct random random = random_seeded((uint64_t)round);
        const struct batch batch = random_batch(&random);
        struct how how;
        how.way = random_below(&random, 2) == 0 ? WAY_LOSS : WAY_TWO;
        how.singles = random_below(&random, (uint32_t)batch.tokens + 3);
        how.without_nll = random_below(&random, 4) == 0;
        how.without_record = random_below(&random, 4) == 0;
        how.seed = random_next(&random);
        CHECK(batch_fits_rows(batch), "%lld logits do not fit",
              (long long)batch.vocab);
        CHECK(same_bits(batch, how),
              "round %d: %lld rows of %lld logits, %lld by themselves: other "
              "bits",
              round, (long long)batch.tokens, (long long)batch.vocab,
              (long long)how.singles);
    }
}

static void rows_are_dealt_out_to_blocks_in_any_way()
{
    for (int64_t tokens = 0; tokens <= 14; tokens++) {
        struct batch batch(KERNEL_BF16, 40, tokens, 7);
        struct how how;
        for (int64_t i = 5; i < tokens; i += 3)
            batch.labels[(size_t)i] = JOB_IGNORE;
        for (how.singles = 0; how.singles <= tokens; how.singles++)
            CHECK(same_bits(batch, how), "%lld rows, %lld by themselves",
                  (long long)tokens, (long long)how.singles);
    }
}

static void ranks_of_a_vocabulary_have_the_same_bits()
{
    static const int64_t vocabs[] = {24, 25, 3000, 49153};

    for (int64_t vocab : vocabs) {
        struct batch batch(KERNEL_F16, vocab, 6, (uint64_t)vocab);
        struct how how;
        how.way = WAY_PARALLEL;
        how.singles = 2;
        batch.stride = (vocab + 7) / 8 * 8;
        batch.labels[0] = 0;
        batch.labels[1] = vocab - 1;
        batch.labels[2] = JOB_IGNORE;
        CHECK(same_bits(batch, how), "%lld logits: other bits",
              (long long)vocab);
    }
}

// As an H200 is.
static void it_is_launched_where_it_pays()
{
    const struct kernel_device device = {132, 1};
    alignas(16) static char logits[16];
    struct kernel_job job = {};

    job.labels.tokens = 8192;
    job.logits = logits;
    job.stride = job.width = 32000;
    const struct kernel_shape shape = kernel_loss_rows_shape(&device, 8192);
    CHECK(kernel_loss_rows_pays(&device, KERNEL_BF16, &job) &&
              kernel_loss_rows_pays(&device, KERNEL_F16, &job),
          "not launched for 8192 rows of 32000");
    CHECK(shape.blocks == 1784 + 1056 &&
              kernel_loss_rows_many(8192, shape.blocks) == 1784,
          "%u blocks", shape.blocks);
    CHECK(!kernel_loss_rows_pays(&device, KERNEL_F32, &job), "float32");
    job.width = 32776;
    CHECK(!kernel_loss_rows_pays(&device, KERNEL_BF16, &job), "three tiles");
    job.width = 32000;
    job.stride = 32004;
    CHECK(!kernel_loss_rows_pays(&device, KERNEL_BF16, &job), "not aligned");
    job.stride = 32000;
    job.logits = logits + 8;
    CHECK(!kernel_loss_rows_pays(&device, KERNEL_BF16, &job), "not aligned");
    job.logits = logits;
    job.labels.tokens = 3167;
    CHECK(!kernel_loss_rows_pays(&device, KERNEL_BF16, &job), "too few rows");
    job.labels.tokens = 3168;
    CHECK(kernel_loss_rows_pays(&device, KERNEL_BF16, &job), "rows enough");
}

static void rows_that_do_not_count_are_not_read()
{
    for (int64_t vocab = 12288; vocab <= 24576; vocab += 12288)
        for (int round = 0; round < test_rounds(6); round++) {
            struct random random = random_seeded((uint64_t)round);
            struct batch batch(KERNEL_BF16, vocab, 9, 3);
            struct how how;
            do_not_count(&batch, 60, &random);
            how.counting_alone = true;
            how.way = WAY_LOSS;
            const struct outcome want = batch_run(batch, how);
            how.singles = round;
            CHECK(outcome_equal(batch_run(batch, how), want), "other bits");
            how.way = WAY_TWO;
            CHECK(outcome_equal(batch_run(batch, how), want), "other bits");
            how.way = WAY_FUSED;
            if (batch_fits_fused(batch))
                CHECK(outcome_equal(batch_run(batch, how), want), "other bits");
        }
}

const std::vector<struct test> tests_of_rows = {
    TEST(rows_of_any_shape_have_the_same_bits),
    TEST(rows_are_dealt_out_to_blocks_in_any_way),
    TEST(ranks_of_a_vocabulary_have_the_same_bits),
    TEST(it_is_launched_where_it_pays),
    TEST(rows_that_do_not_count_are_not_read),
};

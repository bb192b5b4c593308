// SPDX-License-Identifier: BSD-3-Clause
// Tests of which tokens count: labels and weights, in every kernel.
#include <math.h>
#include <string.h>

#include "gpu/tests.h"

// The count kernel by itself.
static struct numeric_record count(const struct batch &batch)
{
    const struct kernel_device device = machine_device();
    const size_t bytes = (size_t)batch.tokens * (batch.wide ? 8 : 4);
    std::vector<int32_t> narrow(batch.labels.begin(), batch.labels.end());
    const void *host = batch.wide ? (const void *)batch.labels.data()
                                  : (const void *)narrow.data();
    struct numeric_record record = {};
    void *labels = machine_alloc(bytes);
    void *weights = machine_alloc(batch.weights.size() * 4);
    void *at = machine_alloc(sizeof(record));

    machine_put(labels, host, bytes);
    machine_put(weights, batch.weights.data(), batch.weights.size() * 4);
    machine_put(at, &record, sizeof(record));
    struct kernel_count params = {
        {labels, batch.weights.empty() ? NULL : (const float *)weights,
         batch.tokens, batch.vocab, batch.ignore_index, batch.wide, 0},
        (struct numeric_record *)at};
    machine_run({RUN_COUNT, batch.type, false}, &params, sizeof(params),
                kernel_count_shape(&device, batch.tokens), 1);
    machine_get(&record, at, sizeof(record));
    machine_free(labels);
    machine_free(weights);
    machine_free(at);
    return record;
}

// All see the same tokens.
static void count_and_check(const struct batch &batch)
{
    struct numeric_record counted = count(batch);
    struct how how;
    struct outcome out = batch_run(batch, how);

    CHECK(counted.count == out.record.count &&
              counted.bad_labels == out.record.bad_labels &&
              counted.weight_hi == out.record.weight_hi &&
              counted.weight_lo == out.record.weight_lo &&
              counted.loss_hi == 0 && counted.loss_lo == 0 &&
              counted.nonfinite == 0,
          "count %lld, loss %lld", (long long)counted.count,
          (long long)out.record.count);
    run_and_check(batch, batch.vocab > 3);
}

static void ignored_and_bad_labels_do_not_count()
{
    static const int64_t bad[] = {-1,
                                  104,
                                  105,
                                  -101,
                                  INT32_MAX,
                                  INT32_MIN,
                                  (int64_t)1 << 40,
                                  ((int64_t)1 << 32) + 5,
                                  INT64_MAX,
                                  INT64_MIN};

    for (int wide = 0; wide < 2; wide++) {
        int all = wide ? 10 : 6;
        struct batch batch(wide ? KERNEL_F16 : KERNEL_BF16, 104, all + 6, 1);
        batch.wide = wide != 0;
        batch.labels[0] = 0;
        batch.labels[1] = 103;
        batch.labels[3] = JOB_IGNORE;
        for (int i = 0; i < all; i++)
            batch.labels[(size_t)i + 4] = bad[i];
        count_and_check(batch);
        batch.ignore_index = 103;
        count_and_check(batch);
        for (int64_t &label : batch.labels)
            label = 103;
        count_and_check(batch);
    }
}

static void no_tokens_are_nothing()
{
    struct batch batch(KERNEL_BF16, 100, 0, 1);

    count_and_check(batch);
}

static void weights_that_are_no_numbers_make_bad_labels()
{
    for (int type = 0; type < 3; type++) {
        struct batch batch((enum kernel_element)type, 104, 12, 1);
        batch.wide = type == 1;
        batch.weights = {NAN,      INFINITY, -INFINITY, 4194304,
                         -4194304, 1e30f,    NAN,       1,
                         0,        -0.0f,    -2.5f,     0x1.fffffep21f};
        batch.labels[6] = JOB_IGNORE; // its weight is nobody's business
        count_and_check(batch);
    }
}

static void nothing_leaks_from_rows_that_do_not_count()
{
    for (int type = 0; type < 3; type++) {
        struct batch batch((enum kernel_element)type, 104, 6, 1);
        batch.labels = {5, JOB_IGNORE, -1, 104, 7, 8};
        batch.weights = {1, 1, 1, 1, 1, INFINITY};
        for (int64_t i = 0; i < 6; i++)
            for (int64_t j = 0; i % 4 != 0 && j < 104; j++)
                batch.logit(i, j) = NAN;
        count_and_check(batch);
    }
}

// What both ways give: none of the rows counts, all do, one of those at an end,
// or some, and some labels are bad.
static void zeros_and_check(struct batch batch, int which)
{
    const int64_t last = batch.tokens - 1;
    struct how how;

    for (int64_t i = 0; i <= last; i++)
        if (which == 0 || (which == 2 && i < last) || (which == 3 && i > 0) ||
            (which == 4 && i % 3 != 1))
            batch.labels[(size_t)i] = i % 4 == 3 ? -1 : JOB_IGNORE;
    how.way = WAY_TWO;
    const struct outcome want = batch_run(batch, how);
    for (int in_place = 0; in_place < 2; in_place++) {
        how.way = WAY_FUSED;
        how.in_place = in_place != 0;
        how.seed++;
        const struct outcome got = batch_run(batch, how);
        CHECK(outcome_equal(got, want) && got.untouched,
              "%lld logits, %lld tokens, case %d: not as in two passes",
              (long long)batch.vocab, (long long)batch.tokens, which);
    }
}

static void rows_that_do_not_count_get_zeros_and_no_others_do()
{
    static const int64_t tokens[] = {1, 15, 16, 17, 33, 67};
    // By a block, by clusters, by clusters of long rows; the last vector is of
    // a tile of its own.
    static const int64_t vocabs[] = {104, 32776, 262152};

    for (int v = 0; v < 3; v++)
        for (int t = 0; t < (v == 0 ? 6 : v == 1 ? 5 : 4); t++)
            for (int which = 0; which < 5; which++) {
                const enum kernel_element type =
                    which % 2 == t % 2 ? KERNEL_BF16 : KERNEL_F32;
                struct batch batch(type, vocabs[v], tokens[t], 1);
                batch.stride += 8;
                batch.gradient_stride += 16;
                if (batch_fits_fused(batch) && !test_has_failed())
                    zeros_and_check(batch, which);
            }
}

static void rows_fit_that_a_launch_has_blocks_for()
{
    static const int64_t vocabs[] = {8, 32776, 128256, 524288};
    const struct kernel_device device = {132, 1};

    for (int64_t vocab : vocabs) {
        const int64_t cluster = kernel_loss_grad_cluster(KERNEL_BF16, vocab);
        int64_t fits = 0;
        struct kernel_job job = {};
        job.width = vocab;
        job.stride = vocab;
        job.gradient_stride = vocab;
        for (int64_t bit = (int64_t)1 << 32; bit > 0; bit /= 2) {
            job.labels.tokens = fits + bit;
            if (kernel_loss_grad_fits(&device, KERNEL_BF16, &job))
                fits += bit;
        }
        const int64_t blocks =
            kernel_loss_grad_shape(KERNEL_BF16, vocab, fits).blocks;
        CHECK(blocks % cluster == 0 && blocks >= fits * cluster &&
                  blocks <= INT32_MAX && blocks > INT32_MAX - 3 * cluster,
              "%lld blocks for %lld rows of %lld", (long long)blocks,
              (long long)fits, (long long)vocab);
    }
}

static void many_labels_are_counted()
{
    const int64_t tokens = machine_is_emulated() ? 20001 : 3000001;
    struct batch batch(KERNEL_BF16, 3, 1, 1);
    int64_t want = 0;

    batch.tokens = tokens;
    batch.labels.resize((size_t)tokens);
    batch.weights.resize((size_t)tokens);
    int64_t weight = 0; // in units of 1/16
    for (int64_t i = 0; i < tokens; i++) {
        batch.labels[(size_t)i] =
            i % 7 != 0 ? i % 3 : (i % 2 == 0 ? JOB_IGNORE : 3);
        batch.weights[(size_t)i] = (float)(i % 13) / 16;
        want += i % 7 != 0;
        weight += i % 7 != 0 ? i % 13 : 0;
    }
    for (int wide = 0; wide < 2; wide++) {
        batch.wide = wide != 0;
        struct numeric_record record = count(batch);
        numeric_record_fold(&record);
        CHECK(record.count == want, "%lld of %lld", (long long)record.count,
              (long long)want);
        CHECK(record.weight_hi == weight * NUMERIC_ONE_HI / 16 &&
                  record.weight_lo == weight * (NUMERIC_ONE_HI % 16),
              "weight %lld", (long long)record.weight_hi);
    }
}

static void outputs_that_are_not_wanted_are_left_out()
{
    struct batch batch(KERNEL_BF16, 264, 5, 1);

    for (int way = WAY_LOSS; way <= WAY_TWO; way++) {
        struct how how;
        how.way = (enum way)way;
        struct outcome all = batch_run(batch, how);
        how.without_nll = true;
        struct outcome no_nll = batch_run(batch, how);
        how.without_nll = false;
        how.without_record = true;
        struct outcome no_record = batch_run(batch, how);
        struct numeric_record none = {};
        CHECK(no_nll.untouched && no_record.untouched, "way %d writes", way);
        CHECK(memcmp(&no_nll.record, &all.record, sizeof(none)) == 0,
              "way %d: another record", way);
        CHECK(memcmp(&no_record.record, &none, sizeof(none)) == 0,
              "way %d: a record", way);
        CHECK(no_nll.bits == all.bits && no_record.bits == all.bits,
              "way %d: another gradient", way);
        for (float nll : no_nll.nll)
            CHECK(nll != nll || fabsf(nll) > 1e15f, "way %d: nll %g", way,
                  (double)nll);
    }
}

const std::vector<struct test> tests_of_tokens = {
    TEST(ignored_and_bad_labels_do_not_count),
    TEST(no_tokens_are_nothing),
    TEST(weights_that_are_no_numbers_make_bad_labels),
    TEST(nothing_leaks_from_rows_that_do_not_count),
    TEST(rows_that_do_not_count_get_zeros_and_no_others_do),
    TEST(rows_fit_that_a_launch_has_blocks_for),
    TEST(many_labels_are_counted),
    TEST(outputs_that_are_not_wanted_are_left_out),
};

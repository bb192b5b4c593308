// SPDX-License-Identifier: BSD-3-Clause
// Tests of the step object's numbers: every token counted once, in both orders,
// on every rank. What happens when it is misused is test_step_misuse.c.
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define VOCAB 7
#define TOKENS_MAX 64
#define MICRO_BATCHES 3

// What one rank holds in one micro-batch: ragged, with ignored tokens.
struct batch {
    int64_t tokens;
    int64_t labels[TOKENS_MAX];
    float weights[TOKENS_MAX];
    float logits[TOKENS_MAX * VOCAB];
};

static void fill_batch(struct batch *batch, int32_t rank, int32_t index)
{
    unsigned seed = (unsigned)(rank * 131 + index * 17 + 1);

    batch->tokens = (rank * 13 + index * 7) % TOKENS_MAX;
    for (int64_t t = 0; t < batch->tokens; t++) {
        batch->labels[t] =
            rand_r(&seed) % 3 == 0 ? -100 : rand_r(&seed) % VOCAB;
        batch->weights[t] = (float)(rand_r(&seed) % 1000) / 997.0f;
        for (int v = 0; v < VOCAB; v++)
            batch->logits[t * VOCAB + v] =
                (float)(rand_r(&seed) % 2000) / 250.0f - 4.0f;
    }
}

static tally_logits_t logits_of(const struct batch *batch)
{
    tally_logits_t logits = TALLY_INIT(tally_logits_t);

    logits.type = TALLY_F32;
    logits.values = batch->logits;
    return logits;
}

static tally_labels_t labels_of(const struct batch *batch, bool weighted)
{
    tally_labels_t labels = job_labels(batch->labels, batch->tokens);

    labels.weights = weighted ? batch->weights : NULL;
    return labels;
}

// Runs one epoch in either order and returns its result.
static tally_channel_result_t run_epoch(tally_step_t *step, tally_order_t order,
                                        const struct batch *batches,
                                        int32_t count, bool weighted)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    ck_assert_int_eq(tally_step_begin(step, count, NULL), TALLY_OK);
    for (int pass = 0; pass < 2; pass++) {
        bool counts = order == TALLY_COUNT_FIRST && pass == 0;
        bool loses = (order == TALLY_COUNT_FIRST) == (pass == 1);
        for (int32_t i = 0; i < count; i++) {
            tally_labels_t labels = labels_of(&batches[i], weighted);
            tally_logits_t logits = logits_of(&batches[i]);
            if (counts)
                ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL),
                                 TALLY_OK);
            if (loses)
                ck_assert_int_eq(
                    tally_step_loss(step, 0, &logits, &labels, NULL, NULL),
                    TALLY_OK);
        }
        if (pass == 0)
            ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    }
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    result.channels = &channel;
    result.channel_capacity = 1;
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    return channel;
}

static void assert_equal_results(const tally_channel_result_t *a,
                                 const tally_channel_result_t *b)
{
    ck_assert_mem_eq(&a->loss_hi, &b->loss_hi,
                     offsetof(tally_channel_result_t, mean) -
                         offsetof(tally_channel_result_t, loss_hi));
}

// The same tokens on one rank.
static tally_channel_result_t alone(int32_t ranks, bool weighted)
{
    struct batch batches[8 * MICRO_BATCHES];
    struct job job;

    for (int32_t i = 0; i < ranks * MICRO_BATCHES; i++)
        fill_batch(&batches[i], i / MICRO_BATCHES, i % MICRO_BATCHES);
    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    tally_channel_result_t channel = run_epoch(step, TALLY_COUNT_FIRST, batches,
                                               ranks * MICRO_BATCHES, weighted);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
    return channel;
}

struct expectation {
    tally_order_t order;
    bool weighted;
    tally_channel_result_t channel;
};

static void run_as_rank(struct ranks_member *member)
{
    const struct expectation *expected = member->argument;
    struct batch batches[MICRO_BATCHES];
    struct job job;

    for (int32_t i = 0; i < MICRO_BATCHES; i++)
        fill_batch(&batches[i], member->rank, i);
    job_open(&job, member, NULL);
    tally_step_t *step = job_step(&job, expected->order, 1, VOCAB);
    for (int epoch = 0; epoch < 3; epoch++) {
        tally_channel_result_t channel = run_epoch(
            step, expected->order, batches, MICRO_BATCHES, expected->weighted);
        assert_equal_results(&channel, &expected->channel);
        ck_assert_float_eq(channel.scale,
                           (float)(member->size / channel.weight_sum));
    }
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(any_number_of_ranks_gives_the_bits_of_one)
{
    for (int32_t ranks = 1; ranks <= 5; ranks++)
        for (int weighted = 0; weighted < 2; weighted++) {
            struct expectation expected = {
                .order = (tally_order_t)_i,
                .weighted = weighted != 0,
                .channel = alone(ranks, weighted != 0),
            };
            ck_assert_int_gt(expected.channel.count, ranks > 1 ? 10 : 0);
            ranks_run(ranks, run_as_rank, &expected);
        }
}
END_TEST

START_TEST(the_scale_undoes_what_the_framework_divides_by)
{
    static const struct {
        tally_convention_t convention;
        double divisor;
    } cases[] = {
        {TALLY_GRADIENT_SUM, 1},
        {TALLY_GRADIENT_AVERAGE, 6},
        {TALLY_GRADIENT_AVERAGE_ALL, 6 * 2},
        {TALLY_GRADIENT_SCHEDULE, 6 * 8},
    };
    const int64_t labels[] = {0, 1, -100, 2};
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    struct job job;

    job_open(&job, NULL, NULL);
    ck_assert_int_eq(tally_group_free(job.group), TALLY_OK);
    group.average_ranks = 6;
    ck_assert_int_eq(tally_group_create(job.tally, &group, &job.group),
                     TALLY_OK);
    channel.vocab = VOCAB;
    channel.coefficient = 0.5;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tally_step_params_t params = TALLY_INIT(tally_step_params_t);
        tally_labels_t given = job_labels(labels, 4);
        const float *scale;
        tally_step_t *step;

        params.convention = cases[i].convention;
        params.channels = &channel;
        params.channel_count = 1;
        params.schedule_divisor = 8;
        ck_assert_int_eq(tally_step_create(job.group, &params, &step),
                         TALLY_OK);
        ck_assert_int_eq(tally_step_scale(step, &scale), TALLY_OK);
        ck_assert_int_eq(tally_step_begin(step, 2, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_wait(step, NULL), TALLY_OK);
        ck_assert_float_eq(*scale, (float)(0.5 * cases[i].divisor / 6));
        ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    }
    job_close(&job);
}
END_TEST

START_TEST(a_step_without_valid_tokens_is_empty_and_never_nan)
{
    const int64_t labels[] = {-100, -100};
    float logits[2 * VOCAB];
    float gradient[2 * VOCAB];
    tally_labels_t given = job_labels(labels, 2);
    tally_logits_t values = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    const float *scale;
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    for (int i = 0; i < 2 * VOCAB; i++) {
        logits[i] = nanf("");
        gradient[i] = 1;
    }
    values.type = TALLY_F32;
    values.values = logits;
    outputs.gradient = gradient;
    result.channels = &channel;
    result.channel_capacity = 1;
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_loss(step, 0, &values, &given, &outputs, NULL),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_scale(step, &scale), TALLY_OK);
    ck_assert_float_eq(*scale, 0);
    for (int i = 0; i < 2 * VOCAB; i++)
        ck_assert_float_eq(gradient[i], 0);
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_uint_eq(result.flags, TALLY_STEP_EMPTY);
    ck_assert_uint_eq(channel.flags, TALLY_STEP_EMPTY);
    ck_assert_double_eq(channel.mean, 0);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(channels_have_totals_and_scales_of_their_own)
{
    const int64_t text[] = {1, 2, 3, -100};
    const int64_t image[] = {-100, -100, -100, 5};
    tally_channel_result_t channels[3] = {TALLY_INIT(tally_channel_result_t)};
    tally_result_t result = TALLY_INIT(tally_result_t);
    tally_labels_t given[3] = {job_labels(text, 4), job_labels(image, 4),
                               job_labels(NULL, 0)};
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 3, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    for (uint32_t k = 0; k < 3; k++)
        ck_assert_int_eq(tally_step_count(step, k, &given[k], NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    result.channels = channels;
    result.channel_capacity = 3;
    ck_assert_int_eq(tally_step_result(step, 1, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_int_eq(channels[0].count, 3);
    ck_assert_int_eq(channels[1].count, 1);
    ck_assert_int_eq(channels[2].count, 0);
    ck_assert_uint_eq(channels[0].flags, TALLY_STEP_NO_LOSS);
    ck_assert_uint_eq(channels[2].flags, TALLY_STEP_EMPTY);
    ck_assert_uint_eq(result.flags, TALLY_STEP_NO_LOSS);
    ck_assert_uint_eq(channels[2].size, sizeof(channels[2]));
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(bad_labels_and_other_tokens_are_told)
{
    const int64_t counted[] = {1, -1, VOCAB, 2};
    const int64_t lost[] = {1, -1, VOCAB, -100};
    float logits[4 * VOCAB] = {0};
    tally_labels_t labels = job_labels(counted, 4);
    tally_labels_t others = job_labels(lost, 4);
    tally_logits_t values = TALLY_INIT(tally_logits_t);
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    values.type = TALLY_F32;
    values.values = logits;
    result.channels = &channel;
    result.channel_capacity = 1;
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_loss(step, 0, &values, &others, NULL, NULL),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_uint_eq(result.flags,
                      TALLY_STEP_BAD_LABELS | TALLY_STEP_OTHER_TOKENS);
    ck_assert_int_eq(channel.bad_labels, 2);
    ck_assert_int_eq(channel.count, 2);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

static void max_as_rank(struct ranks_member *member)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    tally_labels_t labels = job_labels(NULL, 0);
    const float norm = -1.5f - (float)member->rank;
    const float poison = member->rank == 1 ? nanf("") : 3;
    struct job job;
    tally_step_t *step;

    job_open(&job, member, NULL);
    channel.vocab = VOCAB;
    params.channels = &channel;
    params.channel_count = 1;
    params.max_lanes = 3;
    ck_assert_int_eq(tally_step_create(job.group, &params, &step), TALLY_OK);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_max(step, 0, &norm, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_max(step, 1, &poison, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_float_eq(result.max[0], -1.5f);
    ck_assert_float_nan(result.max[1]);
    ck_assert(isinf(result.max[2]) && result.max[2] < 0);
    ck_assert_int_eq(result.members, member->size);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(max_lanes_give_the_largest_value_of_all_ranks)
{
    ranks_run(3, max_as_rank, NULL);
}
END_TEST

START_TEST(results_of_eight_epochs_can_be_read_and_older_ones_are_overwritten)
{
    const int64_t labels[] = {1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    result.channels = &channel;
    result.channel_capacity = 1;
    for (int64_t epoch = 1; epoch <= 12; epoch++) {
        tally_labels_t given = job_labels(labels, epoch);
        ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
        ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    }
    for (uint64_t epoch = 5; epoch <= 12; epoch++) {
        ck_assert_int_eq(tally_step_result(step, epoch, 0, &result), TALLY_OK);
        ck_assert_uint_eq(result.epoch, epoch);
        ck_assert_int_eq(channel.count, (int64_t)epoch);
    }
    job_assert_fails(tally_step_result(step, 4, 0, &result),
                     TALLY_ERR_OVERWRITTEN,
                     "tally_step_result: epoch 4 has left the ring, the latest "
                     "is 12");
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

static void slow_as_rank(struct ranks_member *member)
{
    const int64_t label = 1;
    tally_labels_t labels = job_labels(&label, 1);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    job_open(&job, member, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, VOCAB);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
    // Rank 1 reduces only after rank 0 has seen that reduce returned, and that
    // there is no result yet.
    if (member->rank == 1)
        ranks_barrier(member);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    if (member->rank == 0) {
        ck_assert_int_eq(tally_step_result(step, 0, 0, &result), TALLY_NOT_YET);
        ranks_barrier(member);
    }
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(reduce_returns_before_the_others_have_come)
{
    ranks_run(2, slow_as_rank, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step");
    TCase *tests = tcase_create("numbers");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, any_number_of_ranks_gives_the_bits_of_one, 0, 2);
    tcase_add_test(tests, the_scale_undoes_what_the_framework_divides_by);
    tcase_add_test(tests, a_step_without_valid_tokens_is_empty_and_never_nan);
    tcase_add_test(tests, channels_have_totals_and_scales_of_their_own);
    tcase_add_test(tests, bad_labels_and_other_tokens_are_told);
    tcase_add_test(tests, max_lanes_give_the_largest_value_of_all_ranks);
    tcase_add_test(
        tests,
        results_of_eight_epochs_can_be_read_and_older_ones_are_overwritten);
    tcase_add_test(tests, reduce_returns_before_the_others_have_come);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of a channel's label smoothing, z-loss, soft-cap and temperature: what
// is refused, who must agree, and that the loss of a step heeds them.
#include <check.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define VOCAB 5
#define TOKENS 3

static const float logits[TOKENS * VOCAB] = {0.5f, -2, 7,  0,    1.25f, 3, 3, 3,
                                             3,    3,  -9, 4.5f, 2,     8, 1};
static const int64_t labels[TOKENS] = {2, 0, 1};

struct values {
    double label_smoothing, z_loss, soft_cap, temperature;
};

static tally_channel_t channel_of(const struct values *values)
{
    tally_channel_t channel = TALLY_INIT(tally_channel_t);

    channel.vocab = VOCAB;
    channel.label_smoothing = values->label_smoothing;
    channel.z_loss = values->z_loss;
    channel.soft_cap = values->soft_cap;
    channel.temperature = values->temperature;
    return channel;
}

static tally_status_t create(tally_group_t *group, tally_order_t order,
                             const tally_channel_t *channels, uint32_t count,
                             tally_step_t **step)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);

    params.order = order;
    params.channels = channels;
    params.channel_count = count;
    return tally_step_create(group, &params, step);
}

// ------------------------------------------------------------------- refused

static const struct {
    struct values values;
    const char *sentence;
} refused[] = {
    {{-0.1, 0, 0, 0}, "label_smoothing is -0.10000000000000001, not in [0, 1)"},
    {{-1e-60, 0, 0, 0}, "label_smoothing is -"},
    {{1, 0, 0, 0}, "label_smoothing is 1, not in [0, 1) as a float32"},
    {{1 - 0x1p-30, 0, 0, 0}, "label_smoothing is 0.99999999906867743, not in"},
    {{NAN, 0, 0, 0}, "label_smoothing is nan, not in"},
    {{0, -1e-60, 0, 0}, "z_loss is -"},
    {{0, INFINITY, 0, 0}, "z_loss is inf, not >= 0 and finite as a float32"},
    {{0, 1e39, 0, 0}, "z_loss is 9.9999999999999994e+38, not >= 0 and finite"},
    {{0, NAN, 0, 0}, "z_loss is nan, not"},
    {{0, 0, -1, 0}, "soft_cap is -1, not 0 or from 2^-64 to 2^64"},
    {{0, 0, 0x1p-65, 0}, "soft_cap is 2.7105054312137611e-20, not 0"},
    {{0, 0, 1e-320, 0}, "soft_cap is"},
    {{0, 0, 0x1.0000001p64, 0}, "soft_cap is 1.8"},
    {{0, 0, INFINITY, 0}, "soft_cap is inf, not"},
    {{0, 0, NAN, 0}, "soft_cap is nan, not"},
    {{0, 0, 0, -2}, "temperature is -2, not 0 or from 2^-64 to 2^64"},
    {{0, 0, 0, 0x1p-65}, "temperature is 2.7105054312137611e-20, not 0"},
    {{0, 0, 0, 0x1p65}, "temperature is 3.6893488147419103e+19, not 0"},
    {{0, 0, 0, INFINITY}, "temperature is inf, not"},
    {{0, 0, 0, NAN}, "temperature is nan, not"},
};

START_TEST(what_is_out_of_range_is_refused_with_its_value)
{
    static const char prefix[] = "tally_step_create: channel \"0\": ";
    const tally_channel_t channel = channel_of(&refused[_i].values);
    const char *sentence = refused[_i].sentence;
    tally_step_t *step = NULL;
    struct job job;

    job_open(&job, NULL, NULL);
    ck_assert_int_eq(create(job.group, TALLY_COUNT_FIRST, &channel, 1, &step),
                     TALLY_ERR_INVALID);
    ck_assert_ptr_null(step);
    ck_assert_int_eq(strncmp(tally_last_error(), prefix, strlen(prefix)), 0);
    ck_assert_msg(strncmp(tally_last_error() + strlen(prefix), sentence,
                          strlen(sentence)) == 0,
                  "%s", tally_last_error());
    job_close(&job);
}
END_TEST

START_TEST(the_bounds_themselves_are_taken)
{
    static const struct values taken[] = {
        {0.99999, 0, 0, 0},     {1e-60, 1e-60, 0, 0},
        {0, 3.4e38, 0, 0},      {0, 0, 0x1p-64, 0x1p-64},
        {0, 0, 0x1p64, 0x1p64}, {-0.0, -0.0, -0.0, -0.0},
    };
    tally_step_t *step;
    struct job job;

    job_open(&job, NULL, NULL);
    for (int i = 0; i < 6; i++) {
        const tally_channel_t channel = channel_of(&taken[i]);
        ck_assert_int_eq(
            create(job.group, TALLY_COUNT_FIRST, &channel, 1, &step), TALLY_OK);
        ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    }
    job_close(&job);
}
END_TEST

// --------------------------------------------------------------------- agreed

#define DIFFERENCES 4
static const struct {
    struct values one, other;
    const char *sentence;
} differences[DIFFERENCES] = {
    {{0.25, 0, 0, 0},
     {0, 0, 0, 0},
     "label_smoothing of channel 1 is 0.25 at rank 1 and 0 at rank 0"},
    {{0, 0.5, 0, 0},
     {0, 0.25, 0, 0},
     "z_loss of channel 1 is 0.5 at rank 1 and 0.25 at rank 0"},
    {{0, 0, 30, 0},
     {0, 0, 0, 0},
     "soft_cap of channel 1 is 30 at rank 1 and 0 at rank 0"},
    {{0, 0, 0, 2},
     {0, 0, 0, 0},
     "temperature of channel 1 is 2 at rank 1 and 1 at rank 0"},
};

static void differ_as_rank(struct ranks_member *member)
{
    const int which = *(const int *)member->argument;
    const struct values none = {0, 0, 0, 0};
    const tally_channel_t channels[2] = {
        channel_of(&none),
        channel_of(member->rank == 1 ? &differences[which].one
                                     : &differences[which].other)};
    char sentence[128] = "tally_step_create: ";
    tally_step_t *step;
    struct job job;

    strcat(sentence, differences[which].sentence);
    job_open(&job, member, NULL);
    job_assert_fails(create(job.group, TALLY_COUNT_FIRST, channels, 2, &step),
                     TALLY_ERR_MISMATCH, sentence);
    job_close(&job);
}

START_TEST(ranks_that_differ_in_one_of_them_are_refused)
{
    ranks_run(2, differ_as_rank, &_i);
}
END_TEST

// Equal as float32, and in what stands for the same.
static void same_as_rank(struct ranks_member *member)
{
    static const struct values equal[] = {
        {0.1, -0.0, -0.0, 0},
        {(double)0.1f, 0, 0, 1},
    };
    const tally_channel_t channel = channel_of(&equal[member->rank]);
    tally_step_t *step;
    struct job job;

    job_open(&job, member, NULL);
    ck_assert_int_eq(create(job.group, TALLY_COUNT_FIRST, &channel, 1, &step),
                     TALLY_OK);
    ranks_barrier(member);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(what_is_the_same_in_float32_is_the_same)
{
    ranks_run(2, same_as_rank, NULL);
}
END_TEST

// ----------------------------------------------------------------- the numbers

struct outcome {
    float nll[TOKENS], gradient[TOKENS * VOCAB];
    double loss_sum;
};

// Of one micro-batch, with a sum of gradients: a scale of 1 / 3.
static void run(tally_step_t *step, tally_order_t order, uint32_t channel,
                uint32_t channels, struct outcome *outcome)
{
    const tally_labels_t given = job_labels(labels, TOKENS);
    const tally_labels_t none = job_labels(NULL, 0);
    tally_logits_t values = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    tally_channel_result_t totals[2] = {TALLY_INIT(tally_channel_result_t),
                                        TALLY_INIT(tally_channel_result_t)};
    tally_result_t result = TALLY_INIT(tally_result_t);

    values.type = TALLY_F32;
    values.values = logits;
    outputs.nll = outcome->nll;
    outputs.gradient = outcome->gradient;
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    for (uint32_t k = 0; k < channels && order == TALLY_COUNT_FIRST; k++)
        ck_assert_int_eq(
            tally_step_count(step, k, k == channel ? &given : &none, NULL),
            TALLY_OK);
    if (order == TALLY_COUNT_FIRST)
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    for (uint32_t k = 0; k < channels; k++)
        ck_assert_int_eq(tally_step_loss(step, k, &values,
                                         k == channel ? &given : &none,
                                         k == channel ? &outputs : NULL, NULL),
                         TALLY_OK);
    if (order == TALLY_SCALE_LATE)
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    result.channels = totals;
    result.channel_capacity = channels;
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    outcome->loss_sum = totals[channel].loss_sum;
}

static double shaped(const struct values *by, float x)
{
    const double temperature = by->temperature == 0 ? 1 : by->temperature;

    return (by->soft_cap > 0 ? by->soft_cap * tanh((double)x / by->soft_cap)
                             : (double)x) /
           temperature;
}

// The loss of a row, as the header has it.
static double loss_of(const struct values *by, const float *x, int64_t label)
{
    double sum = 0;
    double mean = 0;

    for (int j = 0; j < VOCAB; j++) {
        sum += exp(shaped(by, x[j]));
        mean += shaped(by, x[j]) / VOCAB;
    }
    double lse = log(sum);
    return (1 - by->label_smoothing) * (lse - shaped(by, x[label])) +
           by->label_smoothing * (lse - mean) + by->z_loss * lse * lse;
}

static void check_outcome(const struct outcome *outcome,
                          const struct values *by, double scale)
{
    double sum = 0;

    for (int i = 0; i < TOKENS; i++) {
        float x[VOCAB];
        memcpy(x, logits + i * VOCAB, sizeof(x));
        const double want = loss_of(by, x, labels[i]);
        ck_assert_double_le(fabs((double)outcome->nll[i] - want), 1e-5);
        sum += (double)outcome->nll[i];
        for (int j = 0; j < VOCAB; j++) {
            const float step = 0x1p-10f;
            const float at = x[j];
            x[j] = at + step;
            double slope = loss_of(by, x, labels[i]);
            x[j] = at - step;
            slope = (slope - loss_of(by, x, labels[i])) / (2 * (double)step);
            x[j] = at;
            const double got = (double)outcome->gradient[i * VOCAB + j];
            ck_assert_double_le(fabs(got - scale * slope), 1e-5);
        }
    }
    ck_assert_double_le(fabs(outcome->loss_sum - sum), 1e-9);
}

static const struct values all[] = {
    {0.1, 0, 0, 0}, {0, 1e-2, 0, 0},      {0, 0, 6, 0},
    {0, 0, 0, 0.7}, {0.2, 1e-3, 10, 1.5},
};
#define ALL 5

START_TEST(a_steps_loss_and_gradient_are_the_shaped_ones)
{
    const tally_order_t order =
        _i % 2 == 0 ? TALLY_COUNT_FIRST : TALLY_SCALE_LATE;
    const struct values none = {0, 0, 0, 0};
    const struct values *by = &all[_i / 2];
    const tally_channel_t channels[2] = {channel_of(&none), channel_of(by)};
    const double scale = order == TALLY_COUNT_FIRST ? 1.0 / TOKENS : 1;
    struct outcome outcome;
    tally_step_t *step;
    struct job job;

    job_open(&job, NULL, NULL);
    ck_assert_int_eq(create(job.group, order, channels, 2, &step), TALLY_OK);
    run(step, order, 1, 2, &outcome);
    check_outcome(&outcome, by, scale);
    run(step, order, 0, 2, &outcome); // the other channel's is its own
    check_outcome(&outcome, &none, scale);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(channels_of_before_these_members_have_none_of_them)
{
    const size_t size = offsetof(tally_channel_t, label_smoothing);
    const struct values none = {0, 0, 0, 0};
    struct outcome plain, old;
    tally_channel_t channel = channel_of(&none);
    tally_channel_t room[2];
    tally_step_t *step;
    struct job job;

    job_open(&job, NULL, NULL);
    ck_assert_int_eq(create(job.group, TALLY_COUNT_FIRST, &channel, 1, &step),
                     TALLY_OK);
    run(step, TALLY_COUNT_FIRST, 0, 1, &plain);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    // Two of that size, one after the other, and then what is none of theirs.
    memset(room, 0x3f, sizeof(room));
    channel.size = size;
    memcpy(room, &channel, size);
    memcpy((char *)room + size, &channel, size);
    ck_assert_int_eq(create(job.group, TALLY_COUNT_FIRST, room, 2, &step),
                     TALLY_OK);
    run(step, TALLY_COUNT_FIRST, 1, 2, &old);
    ck_assert_mem_eq(&old, &plain, sizeof(old));
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step shape");
    TCase *tests = tcase_create("shape");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, what_is_out_of_range_is_refused_with_its_value,
                        0, (int)(sizeof(refused) / sizeof(refused[0])));
    tcase_add_test(tests, the_bounds_themselves_are_taken);
    tcase_add_loop_test(tests, ranks_that_differ_in_one_of_them_are_refused, 0,
                        DIFFERENCES);
    tcase_add_test(tests, what_is_the_same_in_float32_is_the_same);
    tcase_add_loop_test(tests, a_steps_loss_and_gradient_are_the_shaped_ones, 0,
                        2 * ALL);
    tcase_add_test(tests, channels_of_before_these_members_have_none_of_them);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests that tally_perf sees every kind of wrong result: it measures a library
// of this file, one rank that gives back what it counted, with a fault.
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#include "numeric/scale.h"
#include "perf/measure.h"

#define ITERATIONS 20

enum fault {
    FAULT_NONE,
    FAULT_COUNT,
    FAULT_WEIGHT_HI,
    FAULT_WEIGHT_LO,
    FAULT_LOSS,
    FAULT_NONFINITE,
    FAULT_BAD_LABELS,
    FAULT_SCALE,
    FAULT_MEMBERS,
    FAULT_EPOCH,
    FAULT_STALE, // the result of the iteration before
    FAULT_COUNT_OF_FAULTS
};

// --------------------------------------------------------- a library of faults

struct tally_step {
    uint32_t records;
    uint64_t epoch;
    struct numeric_record now[WORK_RECORDS_MAX];
    struct numeric_record before[WORK_RECORDS_MAX];
};

static struct {
    enum fault fault;
    tally_status_t wait_status;
    struct tally_step step;
    int freed; // steps and groups
} fake;

static bool is_faulty(enum fault fault)
{
    return fake.fault == fault && fake.step.epoch == ITERATIONS / 2;
}

tally_status_t tally_group_create(tally_t *tally,
                                  const tally_group_params_t *params,
                                  tally_group_t **out)
{
    ck_assert_int_eq(params->rank_count, 1);
    ck_assert_int_eq(params->ranks[0], 0);
    *out = (tally_group_t *)tally;
    return TALLY_OK;
}

tally_status_t tally_group_free(tally_group_t *group)
{
    (void)group;
    fake.freed++;
    return TALLY_OK;
}

tally_status_t tally_group_describe(const tally_group_t *group,
                                    tally_group_info_t *info)
{
    (void)group;
    info->ranks = 1;
    info->nodes = 1;
    info->transport = "fake";
    return TALLY_OK;
}

tally_status_t tally_step_create(tally_group_t *group,
                                 const tally_step_params_t *params,
                                 tally_step_t **out)
{
    (void)group;
    fake.step = (struct tally_step){.records = params->channel_count};
    *out = &fake.step;
    return TALLY_OK;
}

tally_status_t tally_step_free(tally_step_t *step)
{
    (void)step;
    fake.freed++;
    return TALLY_OK;
}

tally_status_t tally_step_begin(tally_step_t *step, int32_t micro_batches,
                                tally_stream_t stream)
{
    (void)stream;
    ck_assert_int_eq(micro_batches, 1);
    step->epoch++;
    memcpy(step->before, step->now, sizeof(step->now));
    memset(step->now, 0, sizeof(step->now));
    return TALLY_OK;
}

tally_status_t tally_step_count(tally_step_t *step, uint32_t channel,
                                const tally_labels_t *labels,
                                tally_stream_t stream)
{
    struct work_tokens tokens;

    (void)stream;
    if (labels->weights == NULL) { // the sum of wrong results
        step->now[channel].count = labels->tokens;
        return TALLY_OK;
    }
    ck_assert_int_eq(labels->tokens, WORK_TOKENS);
    memcpy(tokens.labels, labels->values, sizeof(tokens.labels));
    memcpy(tokens.weights, labels->weights, sizeof(tokens.weights));
    work_count(&tokens, &step->now[channel]);
    return TALLY_OK;
}

tally_status_t tally_step_reduce(tally_step_t *step, tally_stream_t stream)
{
    (void)step;
    (void)stream;
    return TALLY_OK;
}

tally_status_t tally_step_wait(tally_step_t *step, tally_stream_t stream)
{
    (void)step;
    (void)stream;
    return fake.wait_status;
}

tally_status_t tally_step_end(tally_step_t *step, tally_stream_t stream)
{
    (void)step;
    (void)stream;
    return TALLY_OK;
}

static void fill_channel(const struct numeric_record *record,
                         tally_channel_result_t *out)
{
    out->count = record->count + is_faulty(FAULT_COUNT);
    out->weight_hi = record->weight_hi - is_faulty(FAULT_WEIGHT_HI);
    out->weight_lo = record->weight_lo + is_faulty(FAULT_WEIGHT_LO);
    out->loss_lo = is_faulty(FAULT_LOSS);
    out->nonfinite = is_faulty(FAULT_NONFINITE);
    out->bad_labels = is_faulty(FAULT_BAD_LABELS);
    out->scale = numeric_scale(record->weight_hi, record->weight_lo, 1,
                               is_faulty(FAULT_SCALE) ? 2 : 1);
}

tally_status_t tally_step_result(tally_step_t *step, uint64_t epoch,
                                 uint32_t flags, tally_result_t *result)
{
    const struct numeric_record *records =
        is_faulty(FAULT_STALE) ? step->before : step->now;

    ck_assert_uint_eq(epoch, 0);
    ck_assert_uint_eq(flags, TALLY_RESULT_WAIT);
    ck_assert_uint_eq(result->channel_capacity, step->records);
    result->members = 1 - is_faulty(FAULT_MEMBERS);
    result->epoch = step->epoch - is_faulty(FAULT_EPOCH);
    // The last channel, so that looking at the first alone is not enough.
    for (uint32_t k = 0; k < step->records; k++) {
        enum fault fault = fake.fault;
        if (k + 1 < step->records)
            fake.fault = FAULT_NONE;
        fill_channel(k + 1 < step->records ? &step->now[k] : &records[k],
                     &result->channels[k]);
        fake.fault = fault;
    }
    return TALLY_OK;
}

// ------------------------------------------------------------------- the tests

static tally_status_t measure(enum fault fault, tally_status_t wait_status,
                              int64_t warmup, struct measure_result *result)
{
    struct measure_params params = {.ranks = 1,
                                    .records = 3,
                                    .warmup = warmup,
                                    .iterations = ITERATIONS - warmup};
    struct work work;

    fake.fault = fault;
    fake.wait_status = wait_status;
    fake.freed = 0;
    *result = (struct measure_result){0};
    ck_assert(samples_create(&result->samples, ITERATIONS));
    ck_assert(work_create(&work, 0, 1, params.records));
    tally_status_t status =
        measure_round((tally_t *)&fake, &work, &params, result);
    work_free(&work);
    ck_assert_int_eq(fake.freed, 2);
    samples_free(&result->samples);
    return status;
}

START_TEST(right_results_are_not_wrong)
{
    struct measure_result result;

    ck_assert_int_eq(measure(FAULT_NONE, TALLY_OK, 0, &result), TALLY_OK);
    ck_assert_int_eq(result.wrong, 0);
    ck_assert_int_eq(measure_describe((tally_t *)&fake, 1, &result), TALLY_OK);
    ck_assert_str_eq(result.transport, "fake");
    ck_assert_int_eq(result.ranks, 1);
}
END_TEST

START_TEST(one_wrong_lane_of_one_iteration_is_one_wrong_result)
{
    struct measure_result result;

    ck_assert_int_eq(measure((enum fault)_i, TALLY_OK, 0, &result), TALLY_OK);
    ck_assert_int_eq(result.wrong, 1);
}
END_TEST

START_TEST(a_wrong_result_in_the_warm_up_counts)
{
    struct measure_result result;

    ck_assert_int_eq(measure(FAULT_COUNT, TALLY_OK, ITERATIONS - 1, &result),
                     TALLY_OK);
    ck_assert_int_eq(result.wrong, 1);
}
END_TEST

START_TEST(a_failing_reduction_ends_the_round)
{
    struct measure_result result;

    ck_assert_int_eq(measure(FAULT_NONE, TALLY_ERR_PEER, 0, &result),
                     TALLY_ERR_PEER);
}
END_TEST

START_TEST(wrong_results_are_summed_over_ranks)
{
    int64_t wrong = -1;

    fake.fault = FAULT_NONE;
    fake.wait_status = TALLY_OK;
    ck_assert_int_eq(measure_wrong_everywhere((tally_t *)&fake, 1, 3, &wrong),
                     TALLY_OK);
    ck_assert_int_eq(wrong, 3);
    ck_assert_int_eq(measure_wrong_everywhere((tally_t *)&fake, 1, 0, &wrong),
                     TALLY_OK);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("perf_measure");
    TCase *tcase = tcase_create("faults");

    tcase_add_test(tcase, right_results_are_not_wrong);
    tcase_add_loop_test(tcase,
                        one_wrong_lane_of_one_iteration_is_one_wrong_result,
                        FAULT_NONE + 1, FAULT_COUNT_OF_FAULTS);
    tcase_add_test(tcase, a_wrong_result_in_the_warm_up_counts);
    tcase_add_test(tcase, a_failing_reduction_ends_the_round);
    tcase_add_test(tcase, wrong_results_are_summed_over_ranks);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

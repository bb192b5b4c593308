// SPDX-License-Identifier: BSD-3-Clause
// Losses of logits whose columns are spread over shards: what all shards have
// of them is what one has that holds whole rows. A shard is a step of its own
// here, all of one rank.
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "device/host_element.h"
#include "harness/job.h"

#define VOCAB 1301
#define TOKENS 24
#define SHARDS_MAX 4
#define CHANNELS 3

// Where shards' columns end.
static const struct {
    int32_t shards;
    int64_t ends[SHARDS_MAX];
} spreads[] = {
    {1, {VOCAB}},
    {2, {650, VOCAB}},
    {3, {1, 1024, VOCAB}},
    {4, {325, 650, VOCAB - 1, VOCAB}},
};
#define SPREADS 4

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
#define TYPES 3

struct rows {
    tally_dtype_t type;
    enum host_row_type element;
    int64_t labels[TOKENS];
    float weights[TOKENS];
    char logits[TOKENS * VOCAB * 4];
};

struct outcome {
    float nll[TOKENS];
    char gradient[TOKENS * VOCAB * 4]; // rows of VOCAB
    tally_channel_result_t totals[CHANNELS];
};

static void put(struct rows *rows, int token, int64_t column, float x)
{
    host_element_store(rows->element, rows->logits, token * VOCAB + column, x);
}

// Ordinary rows, and those that have too much or too little to be so.
static void make_rows(struct rows *rows, tally_dtype_t type)
{
    uint32_t state = 12345;

    rows->type = type;
    rows->element = host_row_type(type);
    for (int i = 0; i < TOKENS; i++) {
        rows->labels[i] = i * 57 % VOCAB;
        rows->weights[i] = i % 5 == 4 ? 0.5f : 1;
        for (int j = 0; j < VOCAB; j++) {
            state = state * 1664525 + 1013904223;
            put(rows, i, j, (float)(state >> 8) * 0x1p-21f - 4);
        }
    }
    rows->labels[2] = TALLY_IGNORE_INDEX;
    rows->labels[3] = VOCAB; // bad
    rows->labels[4] = 0;     // at the edges of shards
    rows->labels[5] = 650;
    rows->labels[6] = 649;
    rows->labels[7] = VOCAB - 1;
    put(rows, 8, rows->labels[8], 40); // sure
    put(rows, 9, rows->labels[9], -40);
    for (int j = 0; j < 1024; j++) // nothing in some shards
        put(rows, 10, j, -INFINITY);
    rows->labels[10] = 1100;
    for (int j = 650; j < VOCAB; j++)
        put(rows, 11, j, -INFINITY);
    rows->labels[11] = 30;
    for (int j = 0; j < VOCAB; j++) // far apart
        put(rows, 12, j, j < 650 ? -120 : 100);
    rows->labels[12] = 700;
}

// As host_element_store has no other than the positive one, which is above all
// numbers where they are compared as integers.
static void put_negative_nan(struct rows *rows, int token, int64_t column)
{
    const uint32_t wide = 0xffc00000;
    const uint16_t narrow = rows->type == TALLY_F16 ? 0xfe00 : 0xffc0;
    const size_t bytes = (size_t)host_element_size(rows->element);

    memcpy(rows->logits + (size_t)(token * VOCAB + column) * bytes,
           bytes == 4 ? (const void *)&wide : &narrow, bytes);
}

// Rows of which no loss can be had.
static void spoil(struct rows *rows)
{
    put(rows, 13, 5, NAN);
    put(rows, 14, 1200, INFINITY);
    put(rows, 15, rows->labels[15], INFINITY);
    put(rows, 16, rows->labels[16], NAN);
    put(rows, 17, rows->labels[17], -INFINITY);
    for (int j = 0; j < VOCAB; j++)
        put(rows, 18, j, -INFINITY);
    put_negative_nan(rows, 19, rows->labels[19]);
}

static tally_step_t *create(struct job *job, tally_order_t order)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[CHANNELS];
    tally_step_t *step;

    for (int k = 0; k < CHANNELS; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = VOCAB;
    }
    channels[1].label_smoothing = 0.1;
    channels[1].z_loss = 1e-3;
    channels[2].soft_cap = 20;
    channels[2].temperature = 1.5;
    params.order = order;
    params.channels = channels;
    params.channel_count = CHANNELS;
    ck_assert_int_eq(tally_step_create(job->group, &params, &step), TALLY_OK);
    return step;
}

static tally_labels_t labels_of(const struct rows *rows)
{
    tally_labels_t labels = job_labels(rows->labels, TOKENS);

    labels.weights = rows->weights;
    return labels;
}

static tally_columns_t columns_of(int spread, int shard)
{
    tally_columns_t columns = TALLY_INIT(tally_columns_t);

    columns.shards = spreads[spread].shards;
    columns.begin = shard > 0 ? spreads[spread].ends[shard - 1] : 0;
    columns.width = spreads[spread].ends[shard] - columns.begin;
    return columns;
}

static tally_logits_t logits_of(const struct rows *rows, int64_t begin)
{
    tally_logits_t logits = TALLY_INIT(tally_logits_t);

    logits.type = rows->type;
    logits.values = rows->logits + begin * host_element_size(rows->element);
    logits.row_stride = VOCAB;
    return logits;
}

static void begin(tally_step_t *step, tally_order_t order,
                  const struct rows *rows)
{
    const tally_labels_t labels = labels_of(rows);

    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    for (uint32_t k = 0; k < CHANNELS && order == TALLY_COUNT_FIRST; k++)
        ck_assert_int_eq(tally_step_count(step, k, &labels, NULL), TALLY_OK);
    if (order == TALLY_COUNT_FIRST)
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
}

static void end(tally_step_t *step, tally_order_t order,
                tally_channel_result_t *totals)
{
    tally_result_t result = TALLY_INIT(tally_result_t);

    if (order == TALLY_SCALE_LATE)
        ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    for (int k = 0; k < CHANNELS; k++)
        totals[k] = (tally_channel_result_t)TALLY_INIT(tally_channel_result_t);
    result.channels = totals;
    result.channel_capacity = CHANNELS;
    ck_assert_int_eq(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
}

static tally_loss_outputs_t outputs_of(const struct rows *rows,
                                       struct outcome *outcome, int64_t begin)
{
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);

    outputs.nll = outcome->nll;
    outputs.gradient =
        outcome->gradient + begin * host_element_size(rows->element);
    outputs.gradient_stride = VOCAB;
    return outputs;
}

static void run_whole(struct job *job, tally_order_t order,
                      const struct rows *rows, struct outcome out[CHANNELS])
{
    const tally_labels_t labels = labels_of(rows);
    const tally_logits_t logits = logits_of(rows, 0);
    tally_channel_result_t totals[CHANNELS];
    tally_step_t *step = create(job, order);

    begin(step, order, rows);
    for (uint32_t k = 0; k < CHANNELS; k++) {
        const tally_loss_outputs_t outputs = outputs_of(rows, &out[k], 0);
        ck_assert_int_eq(
            tally_step_loss(step, k, &logits, &labels, &outputs, NULL),
            TALLY_OK);
    }
    end(step, order, totals);
    for (uint32_t k = 0; k < CHANNELS; k++)
        memcpy(out[k].totals, totals, sizeof(totals));
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
}

// The shards' gradients in their columns; nll and totals must be the same bits
// at all shards.
static void run_spread(struct job *job, tally_order_t order, int spread,
                       const struct rows *rows, struct outcome out[CHANNELS])
{
    static struct outcome first[CHANNELS];
    static tally_row_part_t parts[CHANNELS][SHARDS_MAX * TOKENS];
    tally_row_part_t gathered[SHARDS_MAX * TOKENS];
    const tally_labels_t labels = labels_of(rows);
    tally_step_t *steps[SHARDS_MAX];
    const int shards = spreads[spread].shards;

    for (int r = 0; r < shards; r++) { // before any epoch
        const tally_columns_t columns = columns_of(spread, r);
        const tally_logits_t logits = logits_of(rows, columns.begin);
        steps[r] = create(job, order);
        for (uint32_t k = 0; k < CHANNELS; k++)
            ck_assert_int_eq(tally_step_loss_part(steps[r], k, &logits, &labels,
                                                  &columns,
                                                  parts[k] + r * TOKENS, NULL),
                             TALLY_OK);
    }
    for (int r = 0; r < shards; r++) {
        const tally_columns_t columns = columns_of(spread, r);
        const tally_logits_t logits = logits_of(rows, columns.begin);
        begin(steps[r], order, rows);
        for (uint32_t k = 0; k < CHANNELS; k++) {
            const tally_loss_outputs_t outputs =
                outputs_of(rows, &out[k], columns.begin);
            memcpy(gathered, parts[k], sizeof(gathered));
            ck_assert_int_eq(tally_step_loss_columns(steps[r], k, &logits,
                                                     &labels, &columns,
                                                     gathered, &outputs, NULL),
                             TALLY_OK);
        }
        end(steps[r], order, out[0].totals);
        for (uint32_t k = 0; k < CHANNELS; k++) {
            memcpy(out[k].totals, out[0].totals, sizeof(out[0].totals));
            if (r == 0)
                first[k] = out[k];
            ck_assert_mem_eq(first[k].nll, out[k].nll, sizeof(out[k].nll));
            ck_assert_mem_eq(first[k].totals, out[k].totals,
                             sizeof(out[k].totals));
        }
        ck_assert_int_eq(tally_step_free(steps[r]), TALLY_OK);
    }
}

static bool alike(float a, float b, double relative, double absolute)
{
    if (!(fabsf(a) < INFINITY) || !(fabsf(b) < INFINITY)) // NaN too
        return !(fabsf(a) < INFINITY) && !(fabsf(b) < INFINITY);
    return fabs((double)a - (double)b) <= relative * fabs((double)a) + absolute;
}

static void compare(const struct rows *rows, uint32_t k,
                    const struct outcome *whole, const struct outcome *spread)
{
    // A unit in the last place; products of float32 have two.
    const double digits = rows->type == TALLY_F32    ? 0x1p-21
                          : rows->type == TALLY_BF16 ? 0x1p-7
                                                     : 0x1p-10;
    const double least = rows->type == TALLY_F16 ? 0x1p-24 : 0x1p-126;

    for (int i = 0; i < TOKENS; i++) {
        ck_assert_msg(alike(whole->nll[i], spread->nll[i], 0x1p-22, 1e-12),
                      "channel %u, token %d: nll %g, not %g", k, i,
                      (double)spread->nll[i], (double)whole->nll[i]);
        for (int j = 0; j < VOCAB; j++) {
            const int64_t at = i * VOCAB + j;
            const float a =
                host_element_load(rows->element, whole->gradient, at);
            const float b =
                host_element_load(rows->element, spread->gradient, at);
            ck_assert_msg(alike(a, b, digits, k == 0 ? least : 2e-9),
                          "channel %u, token %d, column %d: %g, not %g", k, i,
                          j, (double)b, (double)a);
        }
    }
    ck_assert_int_eq(whole->totals[k].count, spread->totals[k].count);
    ck_assert_int_eq(whole->totals[k].bad_labels, spread->totals[k].bad_labels);
    ck_assert_int_eq(whole->totals[k].nonfinite, spread->totals[k].nonfinite);
    ck_assert_int_eq(whole->totals[k].weight_lo, spread->totals[k].weight_lo);
    ck_assert_double_le(
        fabs(whole->totals[k].loss_sum - spread->totals[k].loss_sum),
        1e-6 * whole->totals[k].loss_sum);
}

static void run_and_compare(tally_dtype_t type, bool spoiled)
{
    static struct rows rows;
    static struct outcome whole[CHANNELS], spread[CHANNELS];
    struct job job;

    make_rows(&rows, type);
    if (spoiled)
        spoil(&rows);
    job_open(&job, NULL, NULL);
    for (int s = 0; s < SPREADS; s++) {
        const tally_order_t order =
            s % 2 == 0 ? TALLY_COUNT_FIRST : TALLY_SCALE_LATE;
        run_whole(&job, order, &rows, whole);
        ck_assert_int_eq(whole[0].totals[0].count, TOKENS - 2);
        ck_assert_int_eq(whole[0].totals[0].nonfinite, spoiled ? 7 : 0);
        memset(spread, 0x7f, sizeof(spread));
        run_spread(&job, order, s, &rows, spread);
        for (uint32_t k = 0; k < CHANNELS; k++)
            compare(&rows, k, &whole[k], &spread[k]);
    }
    job_close(&job);
}

START_TEST(shards_have_what_whole_rows_have)
{
    run_and_compare(types[_i], false);
}
END_TEST

START_TEST(what_is_not_finite_in_one_shard_is_so_in_all)
{
    run_and_compare(types[_i], true);
}
END_TEST

// In place, with rows of the columns' width alone; without a gradient; without
// tokens.
START_TEST(outputs_are_of_the_columns)
{
    static struct rows rows;
    static struct outcome whole[CHANNELS];
    static float own[TOKENS * 650];
    float nll[TOKENS];
    tally_row_part_t parts[2 * TOKENS];
    tally_columns_t columns = columns_of(1, 1);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    tally_channel_result_t totals[CHANNELS];
    struct job job;

    make_rows(&rows, TALLY_F32);
    job_open(&job, NULL, NULL);
    run_whole(&job, TALLY_SCALE_LATE, &rows, whole);
    tally_step_t *step = create(&job, TALLY_SCALE_LATE);
    const tally_labels_t labels = labels_of(&rows);
    const tally_labels_t none = job_labels(NULL, 0);
    tally_logits_t logits = logits_of(&rows, 650);
    ck_assert_int_eq(tally_step_loss_part(step, 0, &logits, &labels, &columns,
                                          parts + TOKENS, NULL),
                     TALLY_OK);
    columns = columns_of(1, 0);
    for (int i = 0; i < TOKENS; i++)
        memcpy(own + i * 650, rows.logits + i * VOCAB * 4, 650 * sizeof(float));
    logits = logits_of(&rows, 0);
    logits.values = own;
    logits.row_stride = 0;
    ck_assert_int_eq(
        tally_step_loss_part(step, 0, &logits, &labels, &columns, parts, NULL),
        TALLY_OK);
    begin(step, TALLY_SCALE_LATE, &rows);
    outputs.gradient = own;
    outputs.nll = nll;
    ck_assert_int_eq(tally_step_loss_columns(step, 0, &logits, &labels,
                                             &columns, parts, &outputs, NULL),
                     TALLY_OK);
    for (int i = 0; i < TOKENS; i++)
        for (int j = 0; j < 650; j++) {
            const float a = host_element_load(HOST_ROW_F32, whole[0].gradient,
                                              i * VOCAB + j);
            ck_assert(alike(a, own[i * 650 + j], 0x1p-21, 0x1p-126));
        }
    for (int i = 0; i < TOKENS; i++)
        ck_assert(alike(whole[0].nll[i], nll[i], 0x1p-22, 1e-12));
    ck_assert_int_eq(tally_step_loss_columns(step, 1, &logits, &none, &columns,
                                             NULL, NULL, NULL),
                     TALLY_OK);
    ck_assert_int_eq(
        tally_step_loss_part(step, 1, &logits, &none, &columns, NULL, NULL),
        TALLY_OK);
    ck_assert_int_eq(tally_step_loss(step, 2,
                                     &(tally_logits_t){.size = sizeof(logits),
                                                       .abi = TALLY_ABI,
                                                       .type = TALLY_F32},
                                     &none, NULL, NULL),
                     TALLY_OK);
    end(step, TALLY_SCALE_LATE, totals);
    ck_assert_int_eq(totals[0].count, TOKENS - 2);
    ck_assert_int_eq(totals[1].count, 0);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step columns");
    TCase *tests = tcase_create("columns");
    SRunner *runner;

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, shards_have_what_whole_rows_have, 0, TYPES);
    tcase_add_loop_test(tests, what_is_not_finite_in_one_shard_is_so_in_all, 0,
                        TYPES);
    tcase_add_test(tests, outputs_are_of_the_columns);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

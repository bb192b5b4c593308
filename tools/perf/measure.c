// SPDX-License-Identifier: BSD-3-Clause
// See measure.h. The step is COUNT_FIRST: its first reduction, of the counts,
// is what is timed; its second, of the losses, ends before the next begins.
#include "perf/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numeric/scale.h"

_Static_assert(WORK_RECORDS_MAX == TALLY_CHANNELS_MAX,
               "a record is a channel's");

static tally_status_t create_step(tally_group_t *group, uint32_t records,
                                  tally_step_t **step)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[WORK_RECORDS_MAX];

    for (uint32_t k = 0; k < records; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = WORK_VOCAB;
        channels[k].ignore_index = WORK_IGNORE;
    }
    params.order = TALLY_COUNT_FIRST;
    params.convention = TALLY_GRADIENT_SUM;
    params.channels = channels;
    params.channel_count = records;
    return tally_step_create(group, &params, step);
}

static tally_status_t count_tokens(tally_step_t *step, const struct work *work,
                                   uint64_t iteration)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    tally_status_t status = TALLY_OK;

    labels.type = TALLY_I32;
    labels.tokens = WORK_TOKENS;
    for (uint32_t k = 0; status == TALLY_OK && k < work->records; k++) {
        const struct work_tokens *tokens = work_tokens(work, iteration, k);

        labels.values = tokens->labels;
        labels.weights = tokens->weights;
        status = tally_step_count(step, k, &labels, NULL);
    }
    return status;
}

static bool is_total(const tally_channel_result_t *got,
                     const struct numeric_record *total)
{
    return got->count == total->count && got->weight_hi == total->weight_hi &&
           got->weight_lo == total->weight_lo && got->loss_hi == 0 &&
           got->loss_lo == 0 && got->nonfinite == 0 && got->bad_labels == 0 &&
           got->scale ==
               numeric_scale(total->weight_hi, total->weight_lo, 1, 1);
}

// Waits for the second reduction too, so the next iteration begins in quiet.
static tally_status_t check_result(tally_step_t *step, const struct work *work,
                                   uint64_t iteration, int32_t ranks,
                                   bool *right)
{
    tally_channel_result_t channels[WORK_RECORDS_MAX];
    tally_result_t result = TALLY_INIT(tally_result_t);

    memset(channels, 0, sizeof(channels));
    channels[0].size = sizeof(channels[0]);
    channels[0].abi = TALLY_ABI;
    result.channels = channels;
    result.channel_capacity = work->records;
    tally_status_t status =
        tally_step_result(step, 0, TALLY_RESULT_WAIT, &result);
    if (status != TALLY_OK)
        return status;
    *right = result.members == ranks && result.epoch == iteration + 1;
    for (uint32_t k = 0; k < work->records; k++)
        *right =
            *right && is_total(&channels[k], work_total(work, iteration, k));
    return TALLY_OK;
}

static tally_status_t iterate(tally_step_t *step, const struct work *work,
                              uint64_t iteration, int64_t *ns)
{
    tally_status_t status = tally_step_begin(step, 1, NULL);

    if (status == TALLY_OK)
        status = count_tokens(step, work, iteration);
    if (status != TALLY_OK)
        return status;
    int64_t begin_ns = samples_now_ns();
    status = tally_step_reduce(step, NULL);
    if (status == TALLY_OK)
        status = tally_step_wait(step, NULL);
    *ns = samples_now_ns() - begin_ns;
    if (status != TALLY_OK)
        return status;
    return tally_step_end(step, NULL);
}

static tally_status_t run(tally_step_t *step, const struct work *work,
                          const struct measure_params *params,
                          struct measure_result *result)
{
    for (int64_t i = 0; i < params->warmup + params->iterations; i++) {
        bool right = false;
        int64_t ns;
        tally_status_t status = iterate(step, work, (uint64_t)i, &ns);

        if (status == TALLY_OK)
            status =
                check_result(step, work, (uint64_t)i, params->ranks, &right);
        if (status != TALLY_OK)
            return status;
        result->wrong += !right;
        if (i >= params->warmup)
            samples_add(&result->samples, ns);
    }
    return TALLY_OK;
}

static tally_status_t create_group(tally_t *tally, const char *key,
                                   int32_t ranks, tally_group_t **group)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    int32_t *first = calloc((size_t)ranks, sizeof(*first));

    if (first == NULL)
        return TALLY_ERR_MEMORY;
    for (int32_t i = 0; i < ranks; i++)
        first[i] = i;
    params.ranks = first;
    params.rank_count = ranks;
    params.key = key;
    tally_status_t status = tally_group_create(tally, &params, group);
    free(first);
    return status;
}

tally_status_t measure_describe(tally_t *tally, int32_t ranks,
                                struct measure_result *result)
{
    tally_group_info_t info = TALLY_INIT(tally_group_info_t);
    tally_group_t *group;
    tally_status_t status = create_group(tally, "perf.describe", ranks, &group);

    if (status != TALLY_OK)
        return status;
    status = tally_group_describe(group, &info);
    if (status == TALLY_OK) {
        result->ranks = info.ranks;
        result->nodes = info.nodes;
        snprintf(result->transport, sizeof(result->transport), "%s",
                 info.transport);
    }
    tally_group_free(group);
    return status;
}

tally_status_t measure_step_open(tally_t *tally, const char *key, int32_t ranks,
                                 uint32_t records, struct measure_step *out)
{
    tally_status_t status = create_group(tally, key, ranks, &out->group);

    if (status != TALLY_OK)
        return status;
    status = create_step(out->group, records, &out->step);
    if (status != TALLY_OK)
        tally_group_free(out->group);
    return status;
}

void measure_step_close(struct measure_step *opened)
{
    tally_step_free(opened->step);
    tally_group_free(opened->group);
}

tally_status_t measure_round(tally_t *tally, const struct work *work,
                             const struct measure_params *params,
                             struct measure_result *result)
{
    struct measure_step opened;
    char key[32];

    snprintf(key, sizeof(key), "perf.%d", (int)params->round);
    tally_status_t status =
        measure_step_open(tally, key, params->ranks, params->records, &opened);
    if (status != TALLY_OK)
        return status;
    status = run(opened.step, work, params, result);
    measure_step_close(&opened);
    return status;
}

// Sums `labels->tokens` over the ranks: every one counts.
static tally_status_t sum_counts(tally_step_t *step,
                                 const tally_labels_t *labels, int64_t *total)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    result.channels = &channel;
    result.channel_capacity = 1;
    tally_status_t status = tally_step_begin(step, 1, NULL);
    if (status == TALLY_OK)
        status = tally_step_count(step, 0, labels, NULL);
    if (status == TALLY_OK)
        status = tally_step_reduce(step, NULL);
    if (status == TALLY_OK)
        status = tally_step_end(step, NULL);
    if (status == TALLY_OK)
        status = tally_step_result(step, 0, TALLY_RESULT_WAIT, &result);
    if (status == TALLY_OK)
        *total = channel.count;
    return status;
}

tally_status_t measure_wrong_everywhere(tally_t *tally, int32_t ranks,
                                        int64_t wrong_here, int64_t *wrong)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    int32_t *zeros = calloc((size_t)wrong_here + 1, sizeof(*zeros));
    struct measure_step opened;
    int64_t total = 0;

    if (zeros == NULL)
        return TALLY_ERR_MEMORY;
    labels.type = TALLY_I32;
    labels.values = zeros;
    labels.tokens = wrong_here;
    tally_status_t status =
        measure_step_open(tally, "perf.wrong", ranks, 1, &opened);
    if (status == TALLY_OK) {
        status = sum_counts(opened.step, &labels, &total);
        measure_step_close(&opened);
    }
    if (status == TALLY_OK)
        *wrong = total > wrong_here ? total : wrong_here;
    free(zeros);
    return status;
}

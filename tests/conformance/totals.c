// SPDX-License-Identifier: BSD-3-Clause
// One rank of a conformance run: counts weighted tokens in K channels, and
// compares every result, to the bit, with totals that it computes alone from
// what all ranks hold.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#include "numeric/maximum.h"
#include "numeric/record.h"

#define TOKENS_MAX 24
#define VOCAB 11

// What a rank holds in a channel of an epoch.
struct holding {
    int64_t tokens;
    int32_t labels[TOKENS_MAX];
    float weights[TOKENS_MAX];
};

static unsigned mix(unsigned a, unsigned b)
{
    unsigned x = a * 0x9e3779b9u ^ (b + 0x7f4a7c15u);

    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    return x ^ (x >> 13);
}

static void hold(struct holding *holding, int32_t rank, int epoch,
                 uint32_t channel)
{
    unsigned seed = mix(mix((unsigned)rank, (unsigned)epoch), channel);

    holding->tokens = rand_r(&seed) % (TOKENS_MAX + 1);
    for (int64_t t = 0; t < holding->tokens; t++) {
        // Ignored, out of range, or one of the vocabulary.
        holding->labels[t] = rand_r(&seed) % 4 == 0   ? -100
                             : rand_r(&seed) % 8 == 0 ? VOCAB
                                                      : rand_r(&seed) % VOCAB;
        holding->weights[t] =
            ((float)rand_r(&seed) - 1e8f) / (float)(1 + rand_r(&seed) % 5000);
    }
}

static void add_holding(const struct holding *holding,
                        struct numeric_record *record)
{
    for (int64_t t = 0; t < holding->tokens; t++) {
        int64_t q;
        if (holding->labels[t] == -100)
            continue;
        if (holding->labels[t] == VOCAB ||
            !numeric_encode((double)holding->weights[t], &q)) {
            record->bad_labels++;
            continue;
        }
        record->count++;
        numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    }
    numeric_record_fold(record);
}

static float offer(int32_t rank, int epoch)
{
    return (float)(mix((unsigned)rank, (unsigned)epoch) % 1000) - 500.0f;
}

static int differs(int epoch, uint32_t channel, const char *what)
{
    printf("epoch %d, channel %u: %s differs\n", epoch, (unsigned)channel,
           what);
    return 1;
}

static int check_epoch(const tally_result_t *result, int32_t ranks, int epoch,
                       uint32_t channels)
{
    float most = -1e9f;

    for (int32_t rank = 0; rank < ranks; rank++)
        if (offer(rank, epoch) > most)
            most = offer(rank, epoch);
    if (result->max[0] != most)
        return differs(epoch, 0, "the maximum");
    for (uint32_t k = 0; k < channels; k++) {
        const tally_channel_result_t *got = &result->channels[k];
        struct numeric_record want = {0};
        for (int32_t rank = 0; rank < ranks; rank++) {
            struct holding holding;
            hold(&holding, rank, epoch, k);
            add_holding(&holding, &want);
        }
        if (got->count != want.count)
            return differs(epoch, k, "count");
        if (got->bad_labels != want.bad_labels)
            return differs(epoch, k, "bad_labels");
        if (got->weight_hi != want.weight_hi ||
            got->weight_lo != want.weight_lo)
            return differs(epoch, k, "weight");
    }
    return 0;
}

static tally_status_t do_epoch(tally_step_t *step, int32_t rank, int epoch,
                               uint32_t channels)
{
    const float value = offer(rank, epoch);
    tally_status_t status = tally_step_begin(step, 1, NULL);

    for (uint32_t k = 0; status == TALLY_OK && k < channels; k++) {
        struct holding holding;
        tally_labels_t labels = TALLY_INIT(tally_labels_t);
        hold(&holding, rank, epoch, k);
        labels.type = TALLY_I32;
        labels.values = holding.labels;
        labels.tokens = holding.tokens;
        labels.weights = holding.weights;
        status = tally_step_count(step, k, &labels, NULL);
    }
    if (status == TALLY_OK)
        status = tally_step_max(step, 0, &value, NULL);
    if (status == TALLY_OK)
        status = tally_step_reduce(step, NULL);
    return status == TALLY_OK ? tally_step_end(step, NULL) : status;
}

static int run_epochs(tally_t *tally, tally_step_t *step, int epochs,
                      uint32_t channels)
{
    tally_channel_result_t totals[TALLY_CHANNELS_MAX];
    tally_result_t result = TALLY_INIT(tally_result_t);
    int32_t rank, ranks;

    totals[0] = (tally_channel_result_t)TALLY_INIT(tally_channel_result_t);
    result.channels = totals;
    result.channel_capacity = channels;
    tally_rank(tally, &rank, &ranks);
    for (int epoch = 1; epoch <= epochs; epoch++) {
        tally_status_t status = do_epoch(step, rank, epoch, channels);
        if (status == TALLY_OK)
            status = tally_step_result(step, (uint64_t)epoch, TALLY_RESULT_WAIT,
                                       &result);
        if (status != TALLY_OK) {
            printf("epoch %d: %s\n", epoch, tally_last_error());
            return 1;
        }
        if (check_epoch(&result, ranks, epoch, channels) != 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[TALLY_CHANNELS_MAX];
    tally_group_t *group = NULL;
    tally_step_t *step = NULL;
    tally_t *tally = NULL;
    int result = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: totals EPOCHS CHANNELS\n");
        return 2;
    }
    params.channel_count = (uint32_t)atoi(argv[2]);
    params.channels = channels;
    params.max_lanes = 1;
    for (uint32_t k = 0; k < params.channel_count && k < TALLY_CHANNELS_MAX;
         k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = VOCAB;
    }
    if (tally_open(NULL, &tally) == TALLY_OK &&
        tally_group_create(tally, NULL, &group) == TALLY_OK &&
        tally_step_create(group, &params, &step) == TALLY_OK)
        result = run_epochs(tally, step, atoi(argv[1]), params.channel_count);
    else
        printf("%s\n", tally_last_error());
    if (tally_step_free(step) != TALLY_OK ||
        tally_group_free(group) != TALLY_OK || tally_close(tally) != TALLY_OK)
        result = 1;
    return result;
}

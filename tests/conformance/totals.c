// SPDX-License-Identifier: BSD-3-Clause
// One rank of a conformance run: counts weighted tokens in K channels, for one
// K after the other, and compares every result, to the bit, with totals that it
// computes alone from what all ranks hold. Rank 0 prints a digest for each K.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#include "conformance/holding.h"

static int differs(int epoch, uint32_t channel, const char *what)
{
    printf("epoch %d, channel %u: %s differs\n", epoch, (unsigned)channel,
           what);
    return 1;
}

// Compares, and adds to the digest.
static int check_epoch(const tally_result_t *result, int32_t ranks, int epoch,
                       uint32_t channels, uint64_t *digest)
{
    struct numeric_record totals[TALLY_CHANNELS_MAX] = {{0}};

    if (result->max[0] != holding_most(ranks, epoch))
        return differs(epoch, 0, "the maximum");
    for (uint32_t k = 0; k < channels; k++) {
        const tally_channel_result_t *got = &result->channels[k];
        struct numeric_record want = holding_total(ranks, epoch, k);

        if (got->count != want.count)
            return differs(epoch, k, "count");
        if (got->bad_labels != want.bad_labels)
            return differs(epoch, k, "bad_labels");
        if (got->weight_hi != want.weight_hi ||
            got->weight_lo != want.weight_lo)
            return differs(epoch, k, "weight");
        totals[k].weight_hi = got->weight_hi;
        totals[k].weight_lo = got->weight_lo;
        totals[k].count = got->count;
        totals[k].bad_labels = got->bad_labels;
    }
    holding_digest(digest, result->max[0], totals, channels);
    return 0;
}

static tally_status_t do_epoch(tally_step_t *step, int32_t rank, int epoch,
                               uint32_t channels)
{
    const float value = holding_offer(rank, epoch);
    tally_status_t status = tally_step_begin(step, 1, NULL);

    for (uint32_t k = 0; status == TALLY_OK && k < channels; k++) {
        struct holding holding;
        tally_labels_t labels = TALLY_INIT(tally_labels_t);
        holding_fill(&holding, rank, epoch, k);
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
    uint64_t digest = HOLDING_DIGEST;
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
        if (check_epoch(&result, ranks, epoch, channels, &digest) != 0)
            return 1;
    }
    if (rank == 0)
        holding_digest_print(ranks, channels, digest);
    return 0;
}

static int run_channels(tally_t *tally, tally_group_t *group, int epochs,
                        uint32_t count)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[TALLY_CHANNELS_MAX];
    tally_step_t *step;

    params.channel_count = count;
    params.channels = channels;
    params.max_lanes = 1;
    for (uint32_t k = 0; k < count && k < TALLY_CHANNELS_MAX; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = HOLDING_VOCAB;
    }
    if (tally_step_create(group, &params, &step) != TALLY_OK) {
        printf("%s\n", tally_last_error());
        return 1;
    }
    int result = run_epochs(tally, step, epochs, count);
    return tally_step_free(step) == TALLY_OK ? result : 1;
}

int main(int argc, char **argv)
{
    tally_group_t *group = NULL;
    tally_t *tally = NULL;
    int result = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: totals EPOCHS CHANNELS...\n");
        return 2;
    }
    if (tally_open(NULL, &tally) != TALLY_OK ||
        tally_group_create(tally, NULL, &group) != TALLY_OK) {
        printf("%s\n", tally_last_error());
        result = 1;
    }
    for (int i = 2; result == 0 && i < argc; i++)
        result =
            run_channels(tally, group, atoi(argv[1]), (uint32_t)atoi(argv[i]));
    if (tally_group_free(group) != TALLY_OK || tally_close(tally) != TALLY_OK)
        result = 1;
    return result;
}

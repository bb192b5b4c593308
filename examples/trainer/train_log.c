// SPDX-License-Identifier: BSD-3-Clause
// What a trainer reads from Tally for its log: results of steps gone by,
// without waiting for them; and, for comparison, what trainers without Tally
// log.
#include "train.h"

// A result may be read this many steps late: at the next chance, one step on,
// it is still in the ring.
#define RESULT_AGE_MAX (TALLY_EPOCH_RING - 2)

void train_row_fill(struct curve_row *row, const tally_result_t *result)
{
    const tally_channel_result_t *channel = &result->channels[0];

    row->n_total = channel->count;
    row->loss_hi = channel->loss_hi;
    row->loss_lo = channel->loss_lo;
    row->mean = channel->mean;
    row->flags = result->flags;
}

// Writes the rows that are complete.
static bool row_done(struct trainer *trainer)
{
    const struct curve_row *row = &trainer->rows[trainer->logged++];

    return trainer->curve == NULL || curve_write(trainer->curve, row);
}

// Balanced and reference. A step's epoch is its number: both begin with 1.
bool train_log_results(struct trainer *trainer, int64_t due)
{
    int64_t now = trainer->optimizer.steps;

    while (trainer->logged < now) {
        int64_t epoch = trainer->logged + 1;
        bool must = epoch <= due || now - epoch >= RESULT_AGE_MAX;
        tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
        tally_result_t result = TALLY_INIT(tally_result_t);

        result.channels = &channel;
        result.channel_capacity = 1;
        tally_status_t status =
            trainer->tally->step_result(trainer->step, (uint64_t)epoch,
                                        must ? TALLY_RESULT_WAIT : 0, &result);
        if (status == TALLY_NOT_YET)
            return true; // ask again after the next step
        if (status != TALLY_OK)
            return train_tally_failed(trainer, status);
        train_row_fill(&trainer->rows[trainer->logged], &result);
        if (!row_done(trainer))
            return false;
    }
    return true;
}

// Naive: each rank has its own group and so its own mean, 0 where it has no
// token (as trainers do that clamp the denominator to 1); what is logged is the
// mean of these means. It waits for its own result and for the other ranks.
bool train_log_rank_means(struct trainer *trainer, int64_t due)
{
    struct curve_row *row = &trainer->rows[trainer->logged];
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    (void)due;
    if (trainer->logged == trainer->optimizer.steps)
        return true;
    result.channels = &channel;
    result.channel_capacity = 1;
    tally_status_t status = trainer->tally->step_result(
        trainer->step, (uint64_t)trainer->logged + 1, TALLY_RESULT_WAIT,
        &result);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    train_row_fill(row, &result);

    // Lanes and counts are small integers: their float64 sums are exact.
    double sums[] = {row->mean, (double)row->n_total, (double)row->loss_hi,
                     (double)row->loss_lo};
    if (!gradient_sum_reduce(trainer->gradient_sum, sums,
                             sizeof(sums) / sizeof(sums[0])))
        return false;
    row->mean = sums[0] / trainer->ranks;
    row->n_total = (int64_t)sums[1];
    row->loss_hi = (int64_t)sums[2] + ((int64_t)sums[3] >> 32);
    row->loss_lo = (int64_t)sums[3] & 0xffffffff;
    return row_done(trainer);
}

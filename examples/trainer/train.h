// SPDX-License-Identifier: BSD-3-Clause
// The training loop. What it asks of Tally in a step is in train_step.c, what
// it reads from Tally for its log in train_log.c.
#ifndef TRAINER_TRAIN_H
#define TRAINER_TRAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/plugin.h>

#include "checkpoint.h"
#include "curve/curve.h"
#include "device.h"
#include "gradient_sum.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/optimizer.h"
#include "model/text.h"
#include "options.h"
#include "replica_share.h"

struct trainer {
    const struct options *options;
    const struct text *text;

    const tally_plugin_t *tally; // the table of functions
    tally_t *instance;
    tally_group_t *group;
    tally_step_t *step;
    const float *scale; // Tally's scale, a stable address on the device
    struct device_memory memory;
    int32_t rank;
    int32_t ranks; // processes

    struct batch batch;
    struct micro_batch heldout;
    struct activations activations;
    struct model parameters;
    struct model micro_gradient;       // of one micro-batch, float32
    double gradient[MODEL_PARAMETERS]; // of the step
    struct optimizer optimizer;
    struct gradient_sum *gradient_sum;
    struct replica_share *share;         // of replica groups, instead
    struct checkpoint_params checkpoint; // .path NULL: none

    FILE *curve;            // NULL: this rank writes none
    struct curve_row *rows; // [steps], filled as results come in
    int64_t logged;         // steps whose result has been read
    // Which replicas were applied in each step: written by a replica, read by
    // the reference. NULL: all of them.
    FILE *members;
};

// How the tokens of several ranks are put together.
struct train_mode {
    const char *name;
    // Ranks of the Tally group: all of them, or only the caller's.
    bool alone;
    // Whether one process does the work of options.ranks ranks.
    bool all_data;
    bool replicas; // the process is a rank of one replica among several
    // Reads the results that are there, at least those of steps up to `due`.
    bool (*log)(struct trainer *trainer, int64_t due);
};

// NULL: no mode of that name.
const struct train_mode *train_mode_find(const char *name);

// When the scale meets the gradient.
struct train_order {
    const char *name;
    tally_order_t order;
    // Leaves in trainer->gradient the gradient of this rank's tokens, scaled;
    // everything that Tally does in a step.
    tally_status_t (*gradient)(struct trainer *trainer);
};

// NULL: no order of that name.
const struct train_order *train_order_find(const char *name);

// train_log.c: the two ways to log.
bool train_log_results(struct trainer *trainer, int64_t due);
bool train_log_rank_means(struct trainer *trainer, int64_t due);

void train_row_fill(struct curve_row *row, const tally_result_t *result);

// The held-out loss; NaN in steps, and at ranks, that do not evaluate.
double train_evaluate(struct trainer *trainer, int64_t step);

// train_replica.c
bool train_replica_open(struct trainer *trainer);
bool train_replica_steps(struct trainer *trainer);
// For the reference: leaves of the step's micro-batches only those of the
// replicas that were applied in it.
bool train_replica_leave_out(struct trainer *trainer, int64_t step);

// In place of a status of Tally: the trainer's own part failed, and has said
// why.
#define TRAIN_SAID ((tally_status_t)-1000)

// Waits for the stream and reads Tally's scale.
bool train_scale(struct trainer *trainer, double *scale);

// Says that a function of Tally failed, with Tally's sentence; returns false.
bool train_tally_failed(const struct trainer *trainer, tally_status_t status);

// For tests: dies or sleeps, if the options say so for this step and rank.
void train_mishap(const struct trainer *trainer);

// Trains from begin to end.
bool train_run(const struct options *options, const struct text *text,
               const tally_plugin_t *tally);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// See train.h.
#include "train.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fail.h"

// Held-out documents that are evaluated.
#define HELDOUT_DOCUMENTS 12

static const struct train_mode modes[] = {
    {.name = "balanced", .log = train_log_results},
    {.name = "reference", .all_data = true, .log = train_log_results},
    {.name = "naive", .alone = true, .log = train_log_rank_means},
    {.name = "replicas", .replicas = true},
};

const struct train_mode *train_mode_find(const char *name)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    return NULL;
}

bool train_tally_failed(const struct trainer *trainer, tally_status_t status)
{
    const char *what = trainer->tally->status_string(status);
    const char *why = trainer->tally->last_error();

    if (status == TRAIN_SAID)
        return false;
    if (trainer->ranks == 0) // not known yet
        return trainer_fail("%s: %s", what, why);
    return trainer_fail("rank %d: %s: %s", trainer->rank, what, why);
}

static bool mishap_is_now(const struct trainer *trainer,
                          const struct options_mishap *mishap)
{
    return mishap->step == trainer->optimizer.steps + 1 &&
           mishap->rank == trainer->rank;
}

void train_mishap(const struct trainer *trainer)
{
    const struct options_mishap *pause = &trainer->options->pause;

    if (mishap_is_now(trainer, &trainer->options->die))
        raise(SIGKILL);
    if (mishap_is_now(trainer, pause)) {
        const struct timespec time = {pause->pause_ms / 1000,
                                      pause->pause_ms % 1000 * 1000000L};
        nanosleep(&time, NULL);
    }
}

// ------------------------------------------------------------ Tally's objects

static bool tally_objects_open(struct trainer *trainer)
{
    const tally_plugin_t *tally = trainer->tally;
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_replica_params_t replica = TALLY_INIT(tally_replica_params_t);
    tally_step_params_t step = TALLY_INIT(tally_step_params_t);
    tally_channel_t text = TALLY_INIT(tally_channel_t);
    tally_status_t status;

    status = tally->open(NULL, &trainer->instance);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    status = tally->rank(trainer->instance, &trainer->rank, &trainer->ranks);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    if (!trainer->options->device->open(trainer->rank, &trainer->memory))
        return false;

    group.key = trainer->options->mode->name;
    if (trainer->options->mode->alone) { // naive: nobody counts with others
        group.ranks = &trainer->rank;
        group.rank_count = 1;
    }
    replica.replica = trainer->options->replica;
    replica.replicas = trainer->options->replicas;
    if (trainer->options->mode->replicas)
        group.replica = &replica;
    status = tally->group_create(trainer->instance, &group, &trainer->group);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);

    text.name = "text";
    text.vocab = MODEL_VOCAB;
    text.ignore_index = BATCH_IGNORED;
    step.order = trainer->options->order->order;
    step.convention = TALLY_GRADIENT_AVERAGE;
    step.device = trainer->options->device->device;
    step.channels = &text;
    step.channel_count = 1;
    status = tally->step_create(trainer->group, &step, &trainer->step);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    status = tally->step_scale(trainer->step, &trainer->scale);
    return status == TALLY_OK || train_tally_failed(trainer, status);
}

// Closes what is open; false if Tally must stay loaded.
static bool tally_objects_close(struct trainer *trainer)
{
    const tally_plugin_t *tally = trainer->tally;

    return tally->step_free(trainer->step) == TALLY_OK &&
           tally->group_free(trainer->group) == TALLY_OK &&
           tally->close(trainer->instance) == TALLY_OK;
}

// ---------------------------------------------------------------- the trainer

// The ranks that the documents are dealt to: one a process, except in the
// reference.
static bool ranks_of_data(const struct trainer *trainer, int32_t *out)
{
    const struct options *options = trainer->options;

    if (!options->mode->all_data && options->ranks != 0 &&
        options->ranks != trainer->ranks)
        return trainer_fail(
            "--ranks %d, but %d were started; it is needed with "
            "--mode reference only",
            options->ranks, trainer->ranks);
    if (options->mode->all_data && trainer->ranks != 1)
        return trainer_fail("--mode reference is one process, but %d were "
                            "started; --ranks %d does their work",
                            trainer->ranks, trainer->ranks);
    *out = options->mode->all_data && options->ranks > 0 ? options->ranks
                                                         : trainer->ranks;
    return true;
}

static bool data_open(struct trainer *trainer)
{
    const struct options *options = trainer->options;
    struct batch_params params = {
        .documents = &trainer->text->training,
        .seed = options->seed,
        .documents_per_step = options->documents,
        .micro_batches = options->micro_batches,
    };
    int32_t first = trainer->rank;

    if (!ranks_of_data(trainer, &params.ranks))
        return false;
    if (options->mode->replicas) {
        first += options->replica * trainer->ranks;
        params.ranks = options->replicas * trainer->ranks;
    }
    bool all = options->mode->all_data;
    return batch_create(&params, all ? 0 : first, all ? params.ranks : 1,
                        &trainer->batch);
}

static bool heldout_open(struct trainer *trainer)
{
    const struct text_documents *documents = &trainer->text->heldout;
    struct batch_piece pieces[HELDOUT_DOCUMENTS] = {{0}};
    int32_t count = documents->count < HELDOUT_DOCUMENTS ? documents->count
                                                         : HELDOUT_DOCUMENTS;

    if (!micro_batch_create((int64_t)count * TEXT_DOCUMENT_MAX,
                            &trainer->heldout))
        return false;
    for (int32_t i = 0; i < count; i++) // from all over the text
        pieces[i].document =
            &documents->items[(int64_t)i * documents->count / count];
    micro_batch_fill(&trainer->heldout, pieces, count);
    return true;
}

static bool model_open(struct trainer *trainer)
{
    const struct options *options = trainer->options;
    int64_t tokens_max = trainer->batch.tokens_max;

    if (trainer->heldout.tokens > tokens_max)
        tokens_max = trainer->heldout.tokens;
    model_initialise(&trainer->parameters, options->seed);
    return activations_create(tokens_max, &trainer->activations) &&
           optimizer_create(options->rule, options->learning_rate,
                            MODEL_PARAMETERS, &trainer->optimizer);
}

static bool gradients_open(struct trainer *trainer)
{
    const struct gradient_sum_params params = {
        .name = trainer->options->shared,
        .rank = trainer->rank,
        .ranks = trainer->ranks,
        .values_max = MODEL_PARAMETERS,
        .digest = options_digest(trainer->options, trainer->text->bytes,
                                 trainer->text->size),
    };

    if (trainer->options->mode->replicas)
        return train_replica_open(trainer);
    if (trainer->options->checkpoint != NULL)
        return trainer_fail("--checkpoint needs --mode replicas");
    return gradient_sum_open(&params, &trainer->gradient_sum);
}

static bool members_open(struct trainer *trainer)
{
    const char *path = trainer->options->members;

    if (path == NULL || trainer->rank != 0)
        return true;
    trainer->members =
        fopen(path, trainer->options->mode->all_data ? "re" : "we");
    return trainer->members != NULL ||
           trainer_fail("cannot open %s: %s", path, strerror(errno));
}

static bool curve_open(struct trainer *trainer)
{
    const char *path = trainer->options->curve;

    trainer->rows =
        calloc((size_t)trainer->options->steps, sizeof(*trainer->rows));
    if (trainer->rows == NULL)
        return trainer_fail("no memory for a curve of %lld steps",
                            (long long)trainer->options->steps);
    if (!members_open(trainer))
        return false;
    if (path == NULL || trainer->rank != 0)
        return true;
    trainer->curve = fopen(path, "we");
    if (trainer->curve == NULL)
        return trainer_fail("cannot write %s: %s", path, strerror(errno));
    return curve_begin(trainer->curve);
}

static bool trainer_close(struct trainer *trainer)
{
    bool closed = tally_objects_close(trainer);

    if (trainer->curve != NULL)
        fclose(trainer->curve);
    if (trainer->members != NULL)
        fclose(trainer->members);
    replica_share_close(trainer->share);
    trainer->options->device->close(&trainer->memory);
    free(trainer->rows);
    gradient_sum_close(trainer->gradient_sum);
    optimizer_free(&trainer->optimizer);
    activations_free(&trainer->activations);
    micro_batch_free(&trainer->heldout);
    batch_free(&trainer->batch);
    free(trainer);
    return closed;
}

// ------------------------------------------------------------------- the loop

double train_evaluate(struct trainer *trainer, int64_t step)
{
    int32_t every = trainer->options->evaluate_every;

    if (trainer->rank != 0 || every == 0 || (step != 1 && step % every != 0))
        return NAN;
    return model_evaluate(&trainer->parameters, &trainer->heldout,
                          &trainer->activations);
}

// What the framework does: the average over ranks.
static bool average_gradient(struct trainer *trainer)
{
    if (!gradient_sum_reduce(trainer->gradient_sum, trainer->gradient,
                             MODEL_PARAMETERS))
        return false;
    for (size_t i = 0; i < MODEL_PARAMETERS; i++)
        trainer->gradient[i] /= trainer->ranks;
    return true;
}

static bool train_step(struct trainer *trainer, int64_t step)
{
    struct curve_row *row = &trainer->rows[step - 1];
    const int32_t micro_batches = trainer->batch.count;

    batch_load(&trainer->batch, step);
    if (trainer->members != NULL && !train_replica_leave_out(trainer, step))
        return false;
    memset(trainer->gradient, 0, sizeof(trainer->gradient));
    tally_status_t status = trainer->options->order->gradient(trainer);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    if (!average_gradient(trainer))
        return false;
    optimizer_apply(&trainer->optimizer, (float *)&trainer->parameters,
                    trainer->gradient);

    trainer->batch.count = micro_batches;
    row->step = step;
    row->silent = trainer->batch.silent;
    row->heldout = train_evaluate(trainer, step);
    return trainer->options->mode->log(trainer, 0);
}

static bool train_steps(struct trainer *trainer)
{
    int64_t steps = trainer->options->steps;

    if (trainer->options->mode->replicas)
        return train_replica_steps(trainer);
    for (int64_t step = 1; step <= steps; step++)
        if (!train_step(trainer, step))
            return false;
    return trainer->options->mode->log(trainer, steps);
}

bool train_run(const struct options *options, const struct text *text,
               const tally_plugin_t *tally)
{
    struct trainer *trainer = calloc(1, sizeof(*trainer));

    if (trainer == NULL)
        return trainer_fail("no memory for the trainer");
    trainer->options = options;
    trainer->text = text;
    trainer->tally = tally;
    bool ok = tally_objects_open(trainer) && data_open(trainer) &&
              heldout_open(trainer) && model_open(trainer) &&
              curve_open(trainer) && gradients_open(trainer) &&
              train_steps(trainer);
    if (!ok && trainer->gradient_sum != NULL)
        gradient_sum_abandon(trainer->gradient_sum);
    bool closed = trainer_close(trainer);
    return ok && closed;
}

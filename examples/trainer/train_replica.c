// SPDX-License-Identifier: BSD-3-Clause
// Training in replica groups, of which any may vanish and come back. A step is
// counted among the replicas that are there; its gradient is summed over just
// those; and the optimizer steps only once it is decided that all of them will.
#include <string.h>

#include "fail.h"
#include "train.h"

#define GRADIENT_PATIENCE_MS 300
#define RESTORE_PATIENCE_MS 300

// The model that the job begins with: of all replicas the same.
static bool begin_with_checkpoint(struct trainer *trainer)
{
    const struct options *options = trainer->options;
    struct options common = *options;

    if (options->checkpoint == NULL)
        return true;
    common.steps = 0; // it may go on for longer
    trainer->checkpoint.path = options->checkpoint;
    trainer->checkpoint.replica = options->replica;
    trainer->checkpoint.replicas = options->replicas;
    trainer->checkpoint.digest =
        options_digest(&common, trainer->text->bytes, trainer->text->size);
    switch (checkpoint_read(&trainer->checkpoint, NULL, &trainer->parameters,
                            &trainer->optimizer)) {
    case CHECKPOINT_READ:
        if (trainer->rank == 0)
            fprintf(stderr, "replica %d begins with the model of step %ld\n",
                    options->replica, trainer->optimizer.steps);
        return true;
    case CHECKPOINT_NONE:
        return true;
    case CHECKPOINT_WRONG:
        break;
    }
    return false;
}

bool train_replica_open(struct trainer *trainer)
{
    const struct replica_share_params params = {
        .name = trainer->options->shared,
        .replica = trainer->options->replica,
        .replicas = trainer->options->replicas,
        .rank = trainer->rank,
        .ranks = trainer->ranks,
    };

    if (trainer->options->order->order != TALLY_SCALE_LATE)
        return trainer_fail("--mode replicas needs --order late: a gradient "
                            "that may be summed again over fewer replicas is "
                            "scaled afterwards");
    return replica_share_open(&params, &trainer->share) &&
           begin_with_checkpoint(trainer);
}

// The losses of this rank, and what became of its count.
static bool count(struct trainer *trainer, tally_result_t *result)
{
    memset(trainer->gradient, 0, sizeof(trainer->gradient));
    tally_status_t status = trainer->options->order->gradient(trainer);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        return train_tally_failed(trainer, status);
    status = trainer->tally->step_result(trainer->step, 0, TALLY_RESULT_WAIT,
                                         result);
    return status == TALLY_OK || status == TALLY_ERR_REPLICA ||
           train_tally_failed(trainer, status);
}

// What others hold no more: the base of a lineage that was forced, or the
// checkpoint that a job over etcd begins with which was started again.
static enum checkpoint_outcome
read_checkpoint(struct trainer *trainer, const tally_replica_state_t *state)
{
    if (trainer->checkpoint.path == NULL)
        return CHECKPOINT_NONE;
    return checkpoint_read(&trainer->checkpoint, state, &trainer->parameters,
                           &trainer->optimizer);
}

static bool restore(struct trainer *trainer)
{
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
    tally_status_t status =
        trainer->tally->replica_state(trainer->step, &state);

    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    if (!replica_share_restore(trainer->share, &state, RESTORE_PATIENCE_MS,
                               &trainer->parameters, &trainer->optimizer)) {
        enum checkpoint_outcome outcome = read_checkpoint(trainer, &state);
        if (outcome != CHECKPOINT_READ) // they have gone on: ask what it is now
            return outcome == CHECKPOINT_NONE;
    }
    status = trainer->tally->replica_restored(trainer->step, &state);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    if (trainer->rank == 0)
        fprintf(stderr, "replica %d holds the model of step %ld\n",
                trainer->options->replica, trainer->optimizer.steps);
    return true;
}

static bool log_step(struct trainer *trainer, uint64_t members)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct curve_row row = {.step = trainer->optimizer.steps};

    result.channels = &channel;
    result.channel_capacity = 1;
    tally_status_t status = trainer->tally->step_result(
        trainer->step, 0, TALLY_RESULT_WAIT, &result);
    if (status != TALLY_OK)
        return train_tally_failed(trainer, status);
    train_row_fill(&row, &result);
    row.silent = trainer->batch.silent;
    row.heldout = train_evaluate(trainer, row.step);
    if (trainer->members != NULL) {
        fprintf(trainer->members, "%lld %llx\n", (long long)row.step,
                (unsigned long long)members);
        fflush(trainer->members);
    }
    return trainer->curve == NULL || curve_write(trainer->curve, &row);
}

// By one replica of those that hold it, which publishes it before anybody may
// use it. If that fails the one of before stays.
static bool store(const struct trainer *trainer,
                  const tally_replica_verdict_t *verdict)
{
    const struct checkpoint_params *checkpoint = &trainer->checkpoint;

    if (checkpoint->path == NULL || trainer->rank != 0 ||
        __builtin_ctzll(verdict->members) != checkpoint->replica ||
        trainer->optimizer.steps % trainer->options->checkpoint_every != 0)
        return true;
    if (!checkpoint_write(checkpoint, &verdict->state, &trainer->parameters,
                          &trainer->optimizer))
        return false;
    tally_status_t status =
        trainer->tally->replica_publish(trainer->step, &verdict->state);
    if (status != TALLY_OK) {
        train_tally_failed(trainer, status);
        return true;
    }
    return checkpoint_keep(checkpoint);
}

// The average over all ranks of the members; the scale is for just these.
static bool apply(struct trainer *trainer,
                  const tally_replica_verdict_t *verdict)
{
    int ranks = trainer->ranks * __builtin_popcountll(verdict->members);
    double scale;

    if (!train_scale(trainer, &scale))
        return false;

    for (size_t i = 0; i < MODEL_PARAMETERS; i++)
        trainer->gradient[i] *= scale / ranks;
    optimizer_apply(&trainer->optimizer, (float *)&trainer->parameters,
                    trainer->gradient);
    if (trainer->rank == 0)
        replica_share_publish(trainer->share, &verdict->state,
                              &trainer->parameters, &trainer->optimizer);
    return store(trainer, verdict) && log_step(trainer, verdict->members);
}

// From the count to its end: the gradient over just those that are counted,
// again over fewer if some are gone meanwhile.
static bool finish(struct trainer *trainer, const tally_result_t *counted)
{
    const tally_plugin_t *tally = trainer->tally;
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    uint64_t members = counted->replica_members;
    tally_status_t status;

    train_mishap(trainer);
    replica_share_offer(trainer->share, counted->replica_digest,
                        trainer->gradient);
    do {
        bool whole =
            replica_share_sum(trainer->share, counted->replica_digest, members,
                              GRADIENT_PATIENCE_MS, trainer->gradient);
        status = tally->replica_ready(
            trainer->step, whole ? TALLY_REPLICA_READY : TALLY_REPLICA_UNREADY);
        if (status != TALLY_OK)
            return train_tally_failed(trainer, status);
        do {
            status = tally->replica_apply(trainer->step, &verdict);
            if (status != TALLY_OK)
                return train_tally_failed(trainer, status);
        } while (verdict.status == TALLY_REPLICA_IN_DOUBT);
        members = verdict.members;
    } while (verdict.status == TALLY_REPLICA_RETRY);
    return verdict.status != TALLY_REPLICA_APPLY || apply(trainer, &verdict);
}

// Repeats a step until it is applied. One that others have applied without this
// replica is in the model that it restores then.
bool train_replica_steps(struct trainer *trainer)
{
    while (trainer->optimizer.steps < trainer->options->steps) {
        tally_result_t result = TALLY_INIT(tally_result_t);

        batch_load(&trainer->batch, trainer->optimizer.steps + 1);
        if (!count(trainer, &result))
            return false;
        if (result.replica_status == TALLY_REPLICA_FENCED)
            return trainer_fail("replica %d: another start of it has its place",
                                trainer->options->replica);
        if (result.replica_status == TALLY_REPLICA_COUNTED &&
            !finish(trainer, &result))
            return false;
        if (result.replica_status == TALLY_REPLICA_LAGGING && !restore(trainer))
            return false;
    }
    return true;
}

bool train_replica_leave_out(struct trainer *trainer, int64_t step)
{
    struct batch *batch = &trainer->batch;
    int32_t replicas = trainer->options->replicas;
    int32_t kept = 0;
    long long at;
    unsigned long long members;

    if (fscanf(trainer->members, "%lld %llx", &at, &members) != 2 || at != step)
        return trainer_fail("--members has no line of step %lld",
                            (long long)step);
    int32_t all = batch->count;
    for (int32_t i = 0; i < all; i++) {
        struct micro_batch micro = batch->micro[kept];
        if ((members >> (int64_t)i * replicas / all & 1) == 0)
            continue;
        batch->micro[kept++] = batch->micro[i];
        batch->micro[i] = micro;
    }
    batch->count = kept;
    return true;
}

// SPDX-License-Identifier: BSD-3-Clause
// See step_replica.h. What trainers call is replica.c.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/park.h"
#include "core/step_replica_state.h"
#include "numeric/maximum.h"

// As long as who waits for a reduction yields before it sleeps.
#define MOVE_US 5000
#define LOOK_US 50000

// Records are sums, to which all but the coordinator add nothing; the words are
// maxima, of which all but the coordinator offer the least.
static void write_nothing(const struct step_replica *replica, int64_t *lanes)
{
    size_t sums = replica->lane_count - WORDS;

    memset(lanes, 0, sums * sizeof(*lanes));
    for (size_t i = 0; i < WORDS; i++)
        lanes[sums + i] = INT64_MIN;
}

static int64_t *words_of(const struct step_replica *replica, int64_t *lanes)
{
    return lanes + (replica->lane_count - WORDS);
}

static void write_outcome(const struct step_replica *replica,
                          const struct replica_outcome *outcome, int64_t *lanes)
{
    int64_t *words = words_of(replica, lanes);

    write_nothing(replica, lanes);
    memcpy(lanes, outcome->totals,
           replica->step->channel_count * sizeof(outcome->totals[0]));
    words[WORD_STATUS] = (int64_t)outcome->status;
    words[WORD_LINEAGE] = (int64_t)outcome->lineage;
    words[WORD_EPOCH] = (int64_t)outcome->epoch;
    words[WORD_ATTEMPT] = (int64_t)outcome->instance.attempt;
    words[WORD_INDEX] = (int64_t)outcome->instance.index;
    words[WORD_MEMBERS] = (int64_t)outcome->members;
    words[WORD_DIGEST] = (int64_t)outcome->digest;
    words[WORD_STATE_INDEX] = (int64_t)outcome->state.index;
    words[WORD_STATE_DIGEST] = (int64_t)outcome->state.digest;
}

static void read_decision(struct step_replica *replica,
                          struct step_decision *out)
{
    const int64_t *words = words_of(replica, replica->lanes);

    out->status = (tally_replica_status_t)words[WORD_STATUS];
    out->lineage = (uint32_t)words[WORD_LINEAGE];
    out->epoch = (uint32_t)words[WORD_EPOCH];
    out->attempt = (uint32_t)words[WORD_ATTEMPT];
    out->index = (uint64_t)words[WORD_INDEX];
    out->members = (uint64_t)words[WORD_MEMBERS];
    out->digest = (uint64_t)words[WORD_DIGEST];
    out->state_index = (uint64_t)words[WORD_STATE_INDEX];
    out->state_digest = (uint64_t)words[WORD_STATE_DIGEST];
}

// -------------------------------------------------- the coordinator's threads

// By the loop's thread.
static void decided(void *context, const struct replica_outcome *outcome)
{
    struct step_replica *replica = context;

    write_outcome(replica, outcome, replica->told);
    progress_post(replica->step->group->tally->progress, replica->queue,
                  replica->told, outcome->instance.index);
    pthread_mutex_lock(&replica->lock);
    replica->handed++;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->lock);
}

// A rank of this replica is gone: its incarnation is over.
static void fail_ranks(struct step_replica *replica)
{
    replica_loop_rank_lost(replica->opened.loop);
    pthread_mutex_lock(&replica->lock);
    replica->failed = true;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->lock);
}

// These two under the progress lock.
static void reduced(void *context, uint64_t ticket,
                    const struct queue_slot *slot)
{
    struct step_replica *replica = context;

    if (slot->status != TALLY_OK)
        fail_ranks(replica);
    else if (ticket == replica->count_ticket)
        replica_loop_contribute(replica->opened.loop,
                                (const struct numeric_record *)slot->lanes);
}

static void gathered(void *context, uint64_t ticket,
                     const struct queue_slot *slot)
{
    static const uint8_t votes[] = {
        [TALLY_REPLICA_READY] = REPLICA_READY,
        [TALLY_REPLICA_UNREADY] = REPLICA_UNREADY,
        [TALLY_REPLICA_OUT] = REPLICA_OUT,
        [TALLY_REPLICA_VETO] = REPLICA_VETO,
    };
    struct step_replica *replica = context;

    if (slot->status != TALLY_OK)
        fail_ranks(replica);
    else if (ticket == replica->vote_ticket)
        replica_loop_vote(replica->opened.loop,
                          votes[words_of(replica, slot->lanes)[WORD_VOTE]]);
}

// ---------------------------------------------------------- the step's thread

void step_replica_expect(struct step_replica *replica)
{
    struct progress *progress = replica->step->group->tally->progress;

    replica->ticket++;
    replica->owed++;
    if (replica->coordinator)
        return; // the loop's thread posts it
    write_nothing(replica, replica->lanes);
    progress_post(progress, replica->queue, replica->lanes,
                  replica->step->epoch);
}

void step_replica_post_vote(struct step_replica *replica,
                            tally_replica_vote_t vote)
{
    struct progress *progress = replica->step->group->tally->progress;

    write_nothing(replica, replica->lanes);
    words_of(replica, replica->lanes)[WORD_VOTE] = (int64_t)vote;
    replica->ticket++;
    progress_lock(progress);
    replica->vote_ticket = replica->queue->posted + 1;
    progress_unlock(progress);
    progress_post(progress, replica->queue, replica->lanes,
                  replica->step->epoch);
}

static bool is_handed_or_failed(void *context)
{
    struct step_replica *replica = context;

    pthread_mutex_lock(&replica->lock);
    bool over = replica->handed >= replica->owed || replica->failed;
    pthread_mutex_unlock(&replica->lock);
    return over;
}

// Until something has changed, or for a while: nobody tells that the process
// exits.
static void sleep_a_while(struct step_replica *replica)
{
    struct timespec until = clock_after(CLOCK_REALTIME, LOOK_US);

    pthread_cond_timedwait(&replica->changed, &replica->lock, &until);
}

// At the coordinator: until the loop has handed it out. Who waits moves it
// first, as waking a thread takes longer than a decision; who exits does to the
// end.
static bool was_handed(struct step_replica *replica)
{
    struct replica_loop *loop = replica->opened.loop;

    do
        replica_loop_move(loop, is_handed_or_failed, replica, MOVE_US);
    while (replica_loop_rests(loop) && !park_silences() &&
           !is_handed_or_failed(replica));
    pthread_mutex_lock(&replica->lock);
    while (replica->handed < replica->owed && !replica->failed &&
           !replica_loop_rests(loop))
        sleep_a_while(replica);
    bool handed = replica->handed >= replica->owed;
    pthread_mutex_unlock(&replica->lock);
    return handed;
}

// Why it was not.
static tally_status_t fate_of(struct step_replica *replica)
{
    tally_group_t *group = replica->step->group;

    progress_lock(group->tally->progress);
    tally_status_t fate = group->fate.status;
    progress_unlock(group->tally->progress);
    return fate != TALLY_OK ? fate : TALLY_ERR_DEAD; // the process exits
}

tally_status_t step_replica_await(struct step_replica *replica,
                                  struct step_decision *out)
{
    struct progress *progress = replica->step->group->tally->progress;

    if (replica->coordinator && !was_handed(replica))
        return fate_of(replica);
    tally_status_t status = progress_wait(progress, replica->queue,
                                          replica->ticket, replica->lanes);
    if (status != TALLY_OK)
        return status;
    read_decision(replica, out);
    return TALLY_OK;
}

// Keeps it for results, and the totals for the scale.
void step_replica_keep(struct step_replica *replica,
                       const struct step_decision *decision)
{
    tally_step_t *step = replica->step;
    struct step_kept *kept = &replica->ring[step->epoch % TALLY_EPOCH_RING];
    struct progress *progress = step->group->tally->progress;
    size_t bytes = step->channel_count * sizeof(struct numeric_record);
    bool totals = decision->status == TALLY_REPLICA_COUNTED ||
                  decision->status == TALLY_REPLICA_RETRY;

    progress_lock(progress);
    kept->epoch = step->epoch;
    kept->decision = *decision;
    kept->counted = kept->counted || totals;
    if (totals)
        memcpy(kept->totals, replica->lanes, bytes);
    progress_unlock(progress);
    if (!totals)
        return;
    memcpy(step->lanes, replica->lanes, bytes);
    step->counted_replicas = __builtin_popcountll(decision->members);
}

tally_status_t step_replica_check_begin(const tally_step_t *step)
{
    static const char *const stage_text[] = {
        [STAGE_NONE] = "",
        [STAGE_COUNTED] = "the epoch before waits for tally_replica_ready",
        [STAGE_VOTED] = "the epoch before waits for tally_replica_apply",
        [STAGE_DOUBTED] =
            "the epoch before waits for tally_replica_apply again",
    };

    if (step->replica == NULL || step->replica->stage == STAGE_NONE)
        return TALLY_OK;
    return core_fail(TALLY_ERR_ORDER, "%s", stage_text[step->replica->stage]);
}

void step_replica_before_post(tally_step_t *step)
{
    struct progress *progress = step->group->tally->progress;

    if (step->replica == NULL)
        return;
    progress_lock(progress);
    step->replica->count_ticket = step->queue->posted + 1;
    step->replica->ring[step->epoch % TALLY_EPOCH_RING].epoch = 0;
    step->replica->ring[step->epoch % TALLY_EPOCH_RING].counted = false;
    progress_unlock(progress);
}

void step_replica_after_post(tally_step_t *step)
{
    if (step->replica != NULL)
        step_replica_expect(step->replica);
}

tally_status_t step_replica_settle(tally_step_t *step)
{
    struct step_replica *replica = step->replica;
    struct step_decision decision = {.status = TALLY_REPLICA_NONE};

    if (replica == NULL)
        return TALLY_OK;
    tally_status_t status = step_replica_await(replica, &decision);
    if (status != TALLY_OK)
        return status;
    step_replica_keep(replica, &decision);
    replica->state.lineage = decision.lineage;
    replica->state.index = decision.state_index;
    replica->state.digest = decision.state_digest;
    if (decision.status != TALLY_REPLICA_COUNTED)
        return TALLY_ERR_REPLICA;
    replica->stage = STAGE_COUNTED;
    replica->index = decision.index;
    return TALLY_OK;
}

tally_status_t step_replica_result(const tally_step_t *step, uint64_t epoch,
                                   tally_result_t *result, int64_t *counts)
{
    const struct step_replica *replica = step->replica;
    const struct step_kept *kept;

    if (replica == NULL)
        return TALLY_OK;
    kept = &replica->ring[epoch % TALLY_EPOCH_RING];
    if (kept->epoch != epoch)
        return TALLY_NOT_YET;
    result->replica_status = kept->decision.status;
    result->replica_lineage = kept->decision.lineage;
    result->replica_epoch = kept->decision.epoch;
    result->replica_attempt = kept->decision.attempt;
    result->replica_index = kept->decision.index;
    result->replica_members = kept->decision.members;
    result->replica_digest = kept->decision.digest;
    if (!kept->counted)
        return TALLY_ERR_REPLICA;
    memcpy(counts, kept->totals,
           step->channel_count * sizeof(struct numeric_record));
    return TALLY_OK;
}

// --------------------------------------------------------------- create, free

static tally_status_t allocate(tally_step_t *step, struct step_replica *replica)
{
    size_t records = step->channel_count;

    replica->lane_count = NUMERIC_LANES * records + WORDS;
    replica->lanes = calloc(replica->lane_count, sizeof(*replica->lanes));
    replica->told = calloc(replica->lane_count, sizeof(*replica->told));
    replica->totals =
        calloc(TALLY_EPOCH_RING * records, sizeof(*replica->totals));
    if (replica->lanes == NULL || replica->told == NULL ||
        replica->totals == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a replica");
    for (size_t i = 0; i < TALLY_EPOCH_RING; i++)
        replica->ring[i].totals = replica->totals + i * records;
    return TALLY_OK;
}

static tally_status_t create_queue(tally_step_t *step,
                                   struct step_replica *replica)
{
    const struct config *config = step->group->tally->config;

    // The others wait while the coordinator waits for the decision.
    return step_create_queue(
        step->group, replica->lane_count,
        config_microseconds(config, CONFIG_TIMEOUT) +
            config_microseconds(config, CONFIG_REPLICA_DEADLINE),
        &replica->queue);
}

static tally_status_t open_loop(tally_step_t *step,
                                struct step_replica *replica, uint64_t layout)
{
    const tally_group_t *group = step->group;
    struct replica_open_params params = {
        .config = group->tally->config,
        .log = &group->tally->log,
        .transports = group->tally->transports,
        .peer = (uint16_t)group->replica.number,
        .replicas = (uint16_t)group->replica.replicas,
        .witnesses = (uint16_t)group->replica.witnesses,
        .minimum = (uint32_t)group->replica.minimum,
        .records = step->channel_count,
        .layout = layout,
        .membership =
            group->replica.has_membership ? &group->replica.membership : NULL,
        .decided = decided,
        .context = replica,
    };

    return replica_open_all(&params, &replica->opened);
}

tally_status_t step_replica_prepare(tally_step_t *step, uint64_t layout)
{
    struct step_replica *replica;

    if (step->group->replica.replicas == 0)
        return TALLY_OK;
    if (step->group->step_count > 0)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "a replica group has one step object");
    if (step->device != NULL)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "steps of a replica group are in host memory");
    replica = calloc(1, sizeof(*replica));
    if (replica == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a replica");
    step->replica = replica;
    replica->step = step;
    replica->state = (tally_replica_state_t)TALLY_INIT(tally_replica_state_t);
    replica->coordinator = step->group->members.index == 0;
    pthread_mutex_init(&replica->lock, NULL);
    pthread_cond_init(&replica->changed, NULL);
    tally_status_t status = allocate(step, replica);
    if (status == TALLY_OK)
        status = create_queue(step, replica);
    if (status != TALLY_OK || !replica->coordinator)
        return status;
    step->queue->completed_hook = reduced;
    step->queue->completed_context = replica;
    replica->queue->completed_hook = gathered;
    replica->queue->completed_context = replica;
    return open_loop(step, replica, layout);
}

tally_status_t step_replica_build(tally_step_t *step, uint16_t tag_space)
{
    tally_group_t *group = step->group;
    struct allreduce_params params = {
        .topology = group->topology,
        .links = group->links,
        .exchange = group->exchange,
        .group = &group->members,
        .records = step->channel_count,
        .max_lanes = WORDS,
        .radix = (uint32_t)config_integer(group->tally->config, CONFIG_RADIX),
        .crowded = group->crowded,
        .tag_space = tag_space,
    };

    if (step->replica == NULL)
        return TALLY_OK;
    tally_status_t status =
        allreduce_create(&params, &step->replica->queue->allreduce);
    if (status == TALLY_OK) {
        progress_attach(group->tally->progress, step->replica->queue);
        step->replica->attached = true;
    }
    return status;
}

void step_replica_free(tally_step_t *step)
{
    struct step_replica *replica = step->replica;
    struct progress *progress = step->group->tally->progress;

    if (replica == NULL)
        return;
    progress_lock(progress);
    step->queue->completed_hook = NULL;
    if (replica->queue != NULL)
        replica->queue->completed_hook = NULL;
    progress_unlock(progress);
    bool closed = !replica->coordinator || replica_close_all(&replica->opened);
    if (replica->attached)
        progress_detach(progress, replica->queue);
    progress_lock(progress);
    queue_free(replica->queue);
    progress_unlock(progress);
    step->replica = NULL;
    if (!closed)
        return; // its transport tells it of losses, to the end of the process
    pthread_cond_destroy(&replica->changed);
    pthread_mutex_destroy(&replica->lock);
    free(replica->totals);
    free(replica->told);
    free(replica->lanes);
    free(replica);
}

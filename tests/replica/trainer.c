// SPDX-License-Identifier: BSD-3-Clause
// Ranks and their slots, gradients that are reduced over a set of replicas, and
// a toy model: 64 bits of parameters, of which every gradient is a function.
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_US 80000
#define GRADIENT_TIMEOUT_US 25000

// What a coordinator tells a rank.
struct told {
    uint8_t kind;
    uint64_t members;
    uint64_t digest;
    bool has_position;
    struct replica_position position;
};

void trainer_begin(struct world *world, uint16_t peer)
{
    struct shards *shards = &world->shards[peer];
    uint32_t generation = shards->generation + 1;

    memset(shards, 0, sizeof(*shards));
    shards->generation = generation;
    for (uint16_t r = 0; r < world->config->ranks; r++)
        shards->ranks[r].alive = true;
}

void trainer_step_later(struct world *world, uint16_t process)
{
    if (process < world->config->replicas)
        world_schedule(world, world_between(world, 500, 3000), HAPPENS_STEP,
                       process);
}

static void count_labels(struct world *world, struct numeric_record *records)
{
    memset(records, 0, world->config->records * sizeof(records[0]));
    for (uint32_t i = 0; i < world->config->records; i++) {
        records[i].count = world_between(world, 0, 1000);
        records[i].weight_hi = records[i].count * NUMERIC_ONE_HI;
        records[i].weight_lo = world_between(world, 0, UINT32_MAX);
        records[i].loss_hi = world_between(world, -100000, 100000);
        records[i].loss_lo = world_between(world, 0, UINT32_MAX);
    }
}

static void begin_slot(struct world *world, uint16_t peer, uint16_t r,
                       const struct replica_position *at)
{
    struct shards *shards = &world->shards[peer];
    struct rank *rank = &shards->ranks[r];

    replica_slot_begin(&rank->slot, at->epoch.lineage, at->next.index);
    rank->index = at->next.index;
    rank->lineage = at->epoch.lineage;
    rank->digest = 0;
    rank->handed = 0;
    rank->has_scale = false;
    struct happening *deadline =
        world_schedule(world, DEADLINE_US, HAPPENS_DEADLINE, peer);
    deadline->rank = r;
    deadline->generation = shards->generation;
    deadline->instance = at->next;
    deadline->lineage = at->epoch.lineage;
}

// The shard reduce is done. One that took over has no rank 0 to reduce with,
// but nothing stops it from trying.
void trainer_step(struct world *world, uint16_t process)
{
    struct process *of = &world->processes[process];
    uint16_t peer = process % SIM_PEERS;
    struct numeric_record records[SIM_RECORDS];
    struct replica_event event = {.kind = REPLICA_EVENT_CONTRIBUTION,
                                  .records = records};

    if (process < SIM_PEERS) {
        for (uint16_t r = 0; r < world->config->ranks; r++)
            if (!world->shards[peer].ranks[r].alive)
                return;
        // Where it may not contribute, it must refuse.
        bool may = replica_coordinator_takes_part(of->node) &&
                   !of->node->entered && of->node->at.next.attempt == 0;
        for (uint16_t r = 0; may && r < world->config->ranks; r++)
            begin_slot(world, peer, r, &of->node->at);
    }
    count_labels(world, records);
    world_handle(world, process, &event);
}

static uint64_t gradient_of(uint64_t params, uint16_t peer, uint64_t index)
{
    return replica_digest(replica_digest(params, peer), index);
}

static void reduce_gradient(struct world *world, uint16_t peer,
                            const struct replica_action *action)
{
    struct replica_instance instance = action->position->next;
    uint32_t lineage = action->position->epoch.lineage;
    struct log_instance *log = check_log(world, lineage, instance);
    struct process *of = &world->processes[peer];
    struct happening *happening;

    if (log == NULL)
        return;
    happening =
        world_schedule(world, GRADIENT_TIMEOUT_US, HAPPENS_GRADIENT, peer);
    happening->failed = true;
    happening->decision = action->value->digest;
    happening->instance = instance;
    happening->lineage = lineage;
    log->reducing |= replica_bit(peer);
    log->gradients[peer] = gradient_of(of->params, peer, instance.index);
    if (log->reducing != action->value->members)
        return;
    for (uint64_t rest = log->reducing; rest != 0; rest &= rest - 1) {
        happening =
            world_schedule(world, world_between(world, 300, 3000),
                           HAPPENS_GRADIENT, (uint16_t)__builtin_ctzll(rest));
        happening->decision = action->value->digest;
        happening->instance = instance;
        happening->lineage = lineage;
    }
}

void trainer_told(struct world *world, uint16_t process,
                  const struct replica_action *action)
{
    uint16_t peer = process % SIM_PEERS;
    struct shards *shards = &world->shards[peer];
    const struct replica_value *value = action->value;
    bool heir_found = false;

    // The ranks of this incarnation are gone.
    if (world->processes[process].name.incarnation !=
        world->processes[peer].name.incarnation)
        return;
    if (world->processes[process].fenced)
        check_violated(world, "p%u tells its ranks after it was fenced", peer);
    for (uint16_t r = process < SIM_PEERS ? 0 : 1; r < world->config->ranks;
         r++) {
        if (!shards->ranks[r].alive)
            continue;
        struct happening *hears = world_schedule(
            world, world_between(world, 5, 150), HAPPENS_BROADCAST, peer);
        struct told *told = malloc(sizeof(*told));
        assert(told != NULL);
        told->kind = value->kind;
        told->members = value->members;
        told->digest = value->digest;
        told->has_position = r > 0 && !heir_found;
        if (told->has_position)
            told->position = *action->position;
        heir_found = heir_found || r > 0;
        hears->rank = r;
        hears->generation = shards->generation;
        hears->instance = action->instance;
        hears->lineage = action->position->epoch.lineage;
        hears->bytes = told;
    }
    if (process < SIM_PEERS &&
        (value->kind == REPLICA_COUNT || value->kind == REPLICA_RETRY) &&
        (value->members & replica_bit(peer)) != 0)
        reduce_gradient(world, peer, action);
}

static void acknowledge(struct world *world, const struct happening *happening,
                        bool scaled)
{
    struct happening *acknowledged =
        world_schedule(world, world_between(world, 5, 150),
                       HAPPENS_ACKNOWLEDGED, happening->process);

    acknowledged->decision = ((const struct told *)happening->bytes)->digest;
    acknowledged->failed = !scaled;
}

static void give_up(struct world *world, uint16_t peer, uint16_t r)
{
    struct rank *rank = &world->shards[peer].ranks[r];

    if (replica_slot_expire(&rank->slot, rank->lineage, rank->index))
        check_handed(world, peer, r, false);
}

void trainer_rank_hears(struct world *world, const struct happening *happening)
{
    uint16_t peer = happening->process;
    struct shards *shards = &world->shards[peer];
    struct rank *rank = &shards->ranks[happening->rank];
    const struct told *told = happening->bytes;
    bool included = (told->members & replica_bit(peer)) != 0;

    if (told->has_position) {
        shards->has_known = true;
        shards->known = told->position;
    }
    if (rank->index != happening->instance.index ||
        rank->lineage != happening->lineage)
        return;
    if (!included || told->kind == REPLICA_ABORT ||
        told->kind == REPLICA_DISCARD) {
        give_up(world, peer, happening->rank);
        return;
    }
    if (told->kind == REPLICA_COUNT) {
        rank->digest = told->digest;
        if (replica_slot_release(&rank->slot, rank->lineage, rank->index))
            check_handed(world, peer, happening->rank, true);
    }
    if (told->kind == REPLICA_COUNT || told->kind == REPLICA_RETRY)
        acknowledge(
            world, happening,
            replica_slot_scaled(&rank->slot, rank->lineage, rank->index));
}

void trainer_rank_deadline(struct world *world,
                           const struct happening *happening)
{
    uint16_t peer = happening->process;
    struct rank *rank = &world->shards[peer].ranks[happening->rank];

    if (rank->index != happening->instance.index ||
        rank->lineage != happening->lineage ||
        !replica_slot_expire(&rank->slot, rank->lineage, rank->index))
        return;
    world->tally.expired++;
    world_trace(world, "p%u.%u releases a NaN for index %lu: deadline", peer,
                happening->rank, rank->index);
    check_handed(world, peer, happening->rank, false);
    world_schedule(world, 0, HAPPENS_ASK, peer);
}

void trainer_acknowledged(struct world *world,
                          const struct happening *happening)
{
    struct shards *shards = &world->shards[happening->process];
    struct replica_event event = {.kind = REPLICA_EVENT_ACKNOWLEDGED,
                                  .decision = happening->decision};

    if (shards->acknowledged != happening->decision) {
        shards->acknowledged = happening->decision;
        shards->acknowledged_count = 0;
        shards->scaled = true;
    }
    shards->acknowledged_count++;
    shards->scaled = shards->scaled && !happening->failed;
    if (shards->acknowledged_count < world->config->ranks)
        return;
    event.scaled = shards->scaled;
    world_handle(world, happening->process, &event);
}

void trainer_gradient(struct world *world, const struct happening *happening)
{
    uint16_t peer = happening->process;
    struct process *of = &world->processes[peer];
    struct shards *shards = &world->shards[peer];
    struct log_instance *log =
        check_log(world, happening->lineage, happening->instance);
    struct replica_event event = {.kind = REPLICA_EVENT_GRADIENT,
                                  .decision = happening->decision,
                                  .vote = REPLICA_UNREADY};

    // A reduction that nobody waits for any more.
    if (log == NULL || of->node->at.previous != happening->decision)
        return;
    if (!happening->failed) {
        shards->has_gradient = true;
        shards->gradient = happening->decision;
        shards->gradient_members = log->reducing;
        shards->gradient_sum = 0;
        for (uint64_t rest = log->reducing; rest != 0; rest &= rest - 1)
            shards->gradient_sum += log->gradients[__builtin_ctzll(rest)];
        event.vote = of->veto ? REPLICA_VETO : REPLICA_READY;
        of->veto = false;
    } else if (shards->has_gradient &&
               shards->gradient == happening->decision) {
        return;
    }
    world_handle(world, peer, &event);
}

void trainer_apply(struct world *world, uint16_t process,
                   const struct replica_action *action)
{
    struct process *of = &world->processes[process];
    struct shards *shards = &world->shards[process];
    struct log_instance *log =
        check_log(world, action->position->epoch.lineage, action->instance);

    struct replica_instance before = action->instance;
    before.attempt--;
    const struct log_instance *asked =
        check_log(world, action->position->epoch.lineage, before);

    if (log == NULL || asked == NULL)
        return;
    if (!shards->has_gradient || shards->gradient != asked->digest ||
        shards->gradient_members != action->value->members) {
        check_violated(world,
                       "p%u applies index %lu without the gradient "
                       "over exactly the set",
                       process, action->instance.index);
        return;
    }
    of->params = replica_digest(of->params, shards->gradient_sum);
    of->params = replica_records_digest(of->params, action->value->totals,
                                        world->config->records);
    of->state = of->node->own;
    world->tally.applied++;
    if (log->has_params && log->params != of->params)
        check_violated(world, "parameters differ after index %lu (10)",
                       action->instance.index);
    log->has_params = true;
    log->params = of->params;
}

void trainer_restore_later(struct world *world, uint16_t process)
{
    struct process *of = &world->processes[process];

    if (of->restoring)
        return;
    of->restoring = true;
    world_schedule(world, world_between(world, 1000, 8000), HAPPENS_RESTORED,
                   process);
}

// A copy of the model of some peer, whichever answers.
void trainer_restore(struct world *world, uint16_t process)
{
    struct process *of = &world->processes[process];
    uint32_t first = random_below(&world->random, world->peers);
    struct replica_event event = {.kind = REPLICA_EVENT_RESTORED};

    of->restoring = false;
    if (of->node->sealed) {
        event.state = of->state; // the copy is dropped
        world_handle(world, process, &event);
        return;
    }
    // Not in mid-step (tally_replica_restored refuses it): it may be the only
    // one that holds what it has applied since it lagged.
    if (replica_coordinator_is_current(of->node))
        return;
    for (uint32_t i = 0; i < world->peers; i++) {
        uint16_t peer = (uint16_t)((first + i) % world->peers);
        struct process *from = &world->processes[peer];
        if (peer == process || !from->alive ||
            from->stopped_until > world->now ||
            !world_reaches(world, peer, process) ||
            from->node->at.epoch.lineage != of->node->at.epoch.lineage ||
            !replica_snapshot(from->node, &event.state))
            continue;
        of->params = from->params;
        of->state = from->state;
        world->tally.restores++;
        world_trace(world, "p%u restores index %lu from p%u", process,
                    event.state.index, peer);
        world_handle(world, process, &event);
        return;
    }
}

void trainer_rank_lost(struct world *world, uint16_t peer, uint16_t r)
{
    struct rank *rank = &world->shards[peer].ranks[r];

    if (!rank->alive)
        return;
    rank->alive = false;
    world_trace(world, "p%u.%u dies", peer, r);
    if (world->processes[peer].alive)
        world_schedule(world, world_between(world, 500, 10000),
                       HAPPENS_RANK_LOST, peer);
}

void trainer_take_over(struct world *world, uint16_t peer)
{
    struct shards *shards = &world->shards[peer];
    struct process *of = &world->processes[SIM_PEERS + peer];

    if (world->processes[peer].alive || of->alive || !shards->has_known)
        return;
    for (uint16_t r = 1; r < world->config->ranks; r++) {
        if (!shards->ranks[r].alive)
            continue;
        of->name = world->processes[peer].name;
        of->name.rank = r;
        world->tally.takeovers++;
        world_start(world, (uint16_t)(SIM_PEERS + peer), &shards->known);
        world_schedule(world, world_between(world, 0, 5000), HAPPENS_STEP,
                       (uint16_t)(SIM_PEERS + peer));
        return;
    }
}

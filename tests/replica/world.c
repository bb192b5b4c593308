// SPDX-License-Identifier: BSD-3-Clause
// Processes in virtual time: what happens next, how messages travel, and what
// is done with the actions of a state machine.
#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void world_trace(struct world *world, const char *format, ...)
{
    va_list list;

    if (world->trace == NULL)
        return;
    fprintf(world->trace, "%9.3f ms  ", (double)world->now / 1000);
    va_start(list, format);
    vfprintf(world->trace, format, list);
    va_end(list);
    fputc('\n', world->trace);
}

static int64_t local_now(const struct world *world, const struct process *of)
{
    return world->now + of->clock_offset + world->now * of->drift_ppm / 1000000;
}

static void set_timer(struct world *world, uint16_t process, int64_t local)
{
    const struct process *of = &world->processes[process];
    int64_t after = local - local_now(world, of);

    if (local == INT64_MAX)
        return;
    if (after < 0)
        after = 0;
    world_schedule(world, after + after * of->drift_ppm / 1000000 + 1,
                   HAPPENS_TIMER, process)
        ->instance.index = (uint64_t)local;
}

static void trace_sent(struct world *world, uint16_t process,
                       const struct replica_message *message, uint64_t to)
{
    const struct process *of = &world->processes[process];

    if (world->trace != NULL && to != 0)
        world_trace(world, "p%u.%u sends %s of (lineage %u, %lu.%u) to %lx",
                    of->name.peer, of->name.rank,
                    replica_message_name(message->kind), message->lineage,
                    message->instance.index, message->instance.attempt, to);
}

// All that it sends, to itself too, is seen before what comes of it.
static void look_at_sent(struct world *world, uint16_t process,
                         const struct replica_action *actions, size_t count)
{
    struct replica_message message;

    for (size_t i = 0; i < count; i++) {
        if (actions[i].kind != REPLICA_ACTION_SEND)
            continue;
        if (!replica_message_decode(actions[i].bytes, actions[i].length,
                                    world->config->records, &message)) {
            check_violated(world, "a message that cannot be decoded");
            return;
        }
        check_sent(world, process, &message);
        trace_sent(world, process, &message, actions[i].peers);
    }
}

static void heed_report(struct world *world, uint16_t process,
                        const struct replica_action *action)
{
    struct process *of = &world->processes[process];

    world_trace(world, "p%u.%u reports %s at %lu.%u", of->name.peer,
                of->name.rank, replica_status_name(action->status),
                action->instance.index, action->instance.attempt);
    switch (action->status) {
    case REPLICA_STATUS_OPEN:
        trainer_step_later(world, process);
        break;
    case REPLICA_STATUS_LAGGING:
        trainer_restore_later(world, process);
        break;
    case REPLICA_STATUS_FENCED:
        of->fenced = true;
        if (of->name.incarnation ==
            world->processes[of->name.peer].name.incarnation)
            world_restart_later(world, of->name.peer,
                                world_between(world, 1000, 20000));
        break;
    case REPLICA_STATUS_RETIRED:
        check_retired(world, process);
        break;
    case REPLICA_STATUS_CONFLICT:
        if (!world->two_digests)
            check_violated(world, "two digests for one key of %lx",
                           action->peers);
        break;
    default:
        break;
    }
}

static void carry_out(struct world *world, uint16_t process,
                      const struct replica_action *action)
{
    switch (action->kind) {
    case REPLICA_ACTION_SEND:
        network_send(world, process, action);
        break;
    case REPLICA_ACTION_BROADCAST:
        trainer_told(world, process, action);
        break;
    case REPLICA_ACTION_APPLY:
        check_applied(world, process, action);
        trainer_apply(world, process, action);
        trainer_told(world, process, action);
        break;
    case REPLICA_ACTION_TIMER:
        set_timer(world, process, action->at_us);
        break;
    case REPLICA_ACTION_PROVIDER: {
        struct happening *swap =
            world_schedule(world, world_between(world, 200, 5000),
                           HAPPENS_REGISTER, SIM_NOBODY);
        swap->bytes = malloc(sizeof(*action->position));
        assert(swap->bytes != NULL);
        memcpy(swap->bytes, action->position, sizeof(*action->position));
        break;
    }
    case REPLICA_ACTION_REPORT:
        heed_report(world, process, action);
        break;
    }
}

// Whether a message belongs to what this process has left behind.
static bool is_stale(const struct world *world, const struct replica *node,
                     const struct replica_event *event)
{
    struct replica_message message;

    if (event->kind != REPLICA_EVENT_MESSAGE || !node->located ||
        !replica_message_decode(event->bytes, event->length,
                                world->config->records, &message))
        return false;
    if (message.kind == REPLICA_POSITION || message.kind == REPLICA_SEAL ||
        message.kind == REPLICA_FENCE || message.kind == REPLICA_SEALED)
        return false;
    if (message.from.peer == node->params.self.peer)
        return false;
    return message.lineage < node->at.epoch.lineage ||
           (message.lineage == node->at.epoch.lineage &&
            replica_instance_compare(message.instance, node->at.next) < 0);
}

void world_handle(struct world *world, uint16_t process,
                  const struct replica_event *event)
{
    struct process *of = &world->processes[process];
    const struct replica_action *actions;
    bool crashes = of->crash_armed && event->kind != REPLICA_EVENT_TIMER;
    bool stale = is_stale(world, of->node, event);
    struct sim_fingerprint before = check_fingerprint(of->node);
    uint32_t generation = of->generation;
    size_t count;

    actions = replica_handle(of->node, event, local_now(world, of), &count);
    look_at_sent(world, process, actions, count);
    check_node(world, process, stale ? &before : NULL);
    if (crashes && count > of->crash_after)
        count = of->crash_after;
    for (size_t i = 0; i < count && world->violation[0] == '\0' &&
                       of->generation == generation;
         i++)
        carry_out(world, process, &actions[i]);
    if (crashes && of->generation == generation) {
        world_trace(world, "p%u.%u crashes after %zu actions", of->name.peer,
                    of->name.rank, count);
        world_kill(world, process);
    }
}

struct replica_position world_initial(const struct world *world)
{
    const struct config *config = world->config;
    struct replica_position position = {.next = {.index = 1}};
    struct replica_epoch *epoch = &position.epoch;

    epoch->lineage = 1;
    epoch->number = 1;
    epoch->acceptor_count = config->acceptors;
    for (uint16_t peer = 0; peer < config->replicas; peer++) {
        epoch->members |= replica_bit(peer);
        epoch->incarnations[peer] = 1u + peer;
    }
    for (uint16_t i = 0; i < config->acceptors; i++) {
        uint16_t peer = i;
        if (config->witness && i + 1u == config->acceptors)
            peer = config->replicas;
        epoch->acceptors[i] = (struct replica_name){peer, 0, 1u + peer};
    }
    return position;
}

static void open_node(struct world *world, uint16_t process,
                      const struct replica_position *position)
{
    const struct config *config = world->config;
    struct process *of = &world->processes[process];
    struct replica_params params = {
        .self = of->name,
        .group = 7,
        .witness = of->name.peer >= config->replicas,
        .takeover = process >= SIM_PEERS,
        .records = config->records,
        .minimum = config->minimum,
        .attempts = 3,
        .position = position,
        .own =
            process >= SIM_PEERS ? position->group : (struct replica_state){0},
        .peers = replica_bit(world->peers) - 1,
        .decide_after_us = config->hasty ? 1000 : 15000,
        .apply_after_us = 60000,
        .stagger_us = config->hasty ? 300 : 4000,
        .retry_us = config->hasty ? 3000 : 6000,
        .idle_us = 30000,
    };

    replica_open(of->node, &params);
    of->alive = true;
    of->generation++;
    of->fenced = false;
    of->crash_armed = false;
    of->kept_seen = 0;
    of->lineage_seen = 0;
    of->suspects = 0;
    of->restoring = false;
    of->veto = false;
    of->forces_since = -1;
    of->params = 1;
    of->state = (struct replica_state){0};
    of->clock_offset = 0;
    of->drift_ppm = config->drift_ppm == 0
                        ? 0
                        : (int32_t)world_between(world, -config->drift_ppm,
                                                 config->drift_ppm);
    set_timer(world, process, local_now(world, of));
    if (position != NULL && !params.takeover && !params.witness)
        trainer_step_later(world, process);
}

// A peer starts, from nothing or from where all start; or what follows its
// coordinator does.
void world_start(struct world *world, uint16_t process,
                 const struct replica_position *position)
{
    struct process *of = &world->processes[process];
    bool main = process < SIM_PEERS;

    of->name.peer = process % SIM_PEERS;
    of->waits_restart = false;
    of->stopped_until = 0;
    if (main)
        of->name.incarnation =
            position != NULL ? 1u + process : ++world->revision;
    if (main && process < world->config->replicas)
        trainer_begin(world, process);
    world_trace(world, "p%u.%u starts, incarnation %lu", of->name.peer,
                of->name.rank, of->name.incarnation);
    open_node(world, process, position);
    if (main && world->register_.epoch.lineage > 1)
        world_schedule(world, 0, HAPPENS_LINEAGE, process);
}

// The process; for a coordinator its ranks go on for a while.
void world_kill(struct world *world, uint16_t process)
{
    struct process *of = &world->processes[process];
    uint16_t peer = process % SIM_PEERS;

    if (!of->alive)
        return;
    of->alive = false;
    of->generation++;
    if (process >= SIM_PEERS)
        return; // it was the last of its incarnation
    if (process < world->config->replicas && world->config->ranks > 1)
        world_schedule(world, world_between(world, 500, 30000),
                       HAPPENS_TAKEOVER, peer);
    world_restart_later(world, peer, world_between(world, 30000, 120000));
}

void world_restart_later(struct world *world, uint16_t peer, int64_t after)
{
    struct process *of = &world->processes[peer];

    if (of->waits_restart)
        return;
    of->waits_restart = true;
    world_schedule(world, after, HAPPENS_RESTART, peer)->generation =
        UINT32_MAX;
}

static void restart(struct world *world, uint16_t peer)
{
    struct process *takeover = &world->processes[SIM_PEERS + peer];

    world->processes[peer].alive = false;
    world->processes[peer].generation++;
    // What took over may be there for a while yet.
    if (takeover->alive)
        world_schedule(world, world_between(world, 0, 60000), HAPPENS_DIES,
                       (uint16_t)(SIM_PEERS + peer));
    world_start(world, peer, NULL);
}

static void die(struct world *world, const struct happening *happening)
{
    world_trace(world, "p%u dies", happening->process);
    world_kill(world, happening->process);
}

static void timer(struct world *world, const struct happening *happening)
{
    struct replica_event event = {.kind = REPLICA_EVENT_TIMER};
    const struct replica *node = world->processes[happening->process].node;

    // Only the last one set counts; the first is set by nobody.
    if (node->tick_at != 0 &&
        node->timer_at != (int64_t)happening->instance.index)
        return;
    world_handle(world, happening->process, &event);
}

static void simple(struct world *world, uint16_t process,
                   enum replica_event_kind kind)
{
    struct replica_event event = {
        .kind = kind, .epoch = &world->proposal, .position = &world->register_};

    world_handle(world, process, &event);
}

// What is meant for a process that is gone or stopped does not reach it now.
static bool waits_or_is_void(struct world *world, struct happening *happening)
{
    struct process *of;

    if (happening->process == SIM_NOBODY ||
        happening->kind == HAPPENS_RESTART ||
        happening->kind == HAPPENS_TAKEOVER)
        return false;
    of = &world->processes[happening->process];
    if (happening->kind == HAPPENS_BROADCAST ||
        happening->kind == HAPPENS_DEADLINE) {
        struct rank *rank =
            &world->shards[happening->process].ranks[happening->rank];
        int64_t until =
            happening->rank == 0 ? of->stopped_until : rank->stopped_until;
        if (!rank->alive || happening->generation !=
                                world->shards[happening->process].generation)
            return true;
        if (until <= world->now)
            return false;
        happening->at = until;
    } else {
        if (!of->alive || (happening->generation != UINT32_MAX &&
                           happening->generation != of->generation))
            return true;
        if (of->stopped_until <= world->now)
            return false;
        happening->at = of->stopped_until;
    }
    happening->order = world->order++;
    world_push(world, happening);
    happening->bytes = NULL;
    return true;
}

// After a jump of its clock.
void world_rearm(struct world *world, uint16_t process)
{
    set_timer(world, process, world->processes[process].node->timer_at);
}

void world_happens(struct world *world, struct happening *happening)
{
    if (waits_or_is_void(world, happening))
        return;
    switch (happening->kind) {
    case HAPPENS_MESSAGE:
        network_deliver(world, happening);
        break;
    case HAPPENS_TIMER:
        timer(world, happening);
        break;
    case HAPPENS_STEP:
        trainer_step(world, happening->process);
        break;
    case HAPPENS_BROADCAST:
        trainer_rank_hears(world, happening);
        break;
    case HAPPENS_ACKNOWLEDGED:
        trainer_acknowledged(world, happening);
        break;
    case HAPPENS_DEADLINE:
        trainer_rank_deadline(world, happening);
        break;
    case HAPPENS_GRADIENT:
        trainer_gradient(world, happening);
        break;
    case HAPPENS_RESTORED:
        trainer_restore(world, happening->process);
        break;
    case HAPPENS_DIES:
        die(world, happening);
        break;
    case HAPPENS_RANK_LOST:
        simple(world, happening->process, REPLICA_EVENT_RANK_LOST);
        break;
    case HAPPENS_TAKEOVER:
        trainer_take_over(world, happening->process);
        break;
    case HAPPENS_RESTART:
        restart(world, happening->process);
        break;
    case HAPPENS_PROPOSAL:
        simple(world, happening->process, REPLICA_EVENT_PROPOSAL);
        break;
    case HAPPENS_LINEAGE:
        simple(world, happening->process, REPLICA_EVENT_LINEAGE);
        break;
    case HAPPENS_REGISTER:
        provider_register(world, happening->bytes);
        break;
    case HAPPENS_ASK:
        simple(world, happening->process, REPLICA_EVENT_ASK);
        break;
    case HAPPENS_TICK:
        provider_tick(world);
        break;
    case HAPPENS_FAULT:
    case HAPPENS_HEAL:
    case HAPPENS_JUDGE:
        break; // run.c
    }
}

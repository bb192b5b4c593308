// SPDX-License-Identifier: BSD-3-Clause
// Failure detectors, a quorum provider (leases, proposals, a linearizable
// register of the lineage), and an operator who forces a lineage when too many
// acceptors are lost.
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TICK_US 5000
#define STUCK_US 120000

void provider_begin(struct world *world)
{
    world->revision = 100;
    world->register_ = world_initial(world);
    world->proposal = world->register_.epoch;
    world_schedule(world, TICK_US, HAPPENS_TICK, SIM_NOBODY);
}

static bool runs(const struct world *world, uint16_t peer)
{
    const struct process *of = &world->processes[peer];

    return of->alive && of->stopped_until <= world->now;
}

static uint64_t suspects_of(const struct world *world, uint16_t observer)
{
    uint64_t suspects = 0;

    for (uint16_t peer = 0; peer < world->peers; peer++)
        if (peer != observer &&
            (!runs(world, peer) || world->suspected_until[peer] > world->now ||
             !world_reaches(world, peer, observer)))
            suspects |= replica_bit(peer);
    return suspects;
}

static void detect(struct world *world)
{
    struct replica_event event = {.kind = REPLICA_EVENT_SUSPECTS};

    for (uint16_t peer = 0; peer < world->peers; peer++) {
        struct process *of = &world->processes[peer];
        if (!runs(world, peer))
            continue;
        event.peers = suspects_of(world, peer);
        if (event.peers == of->suspects || !world_chance(world, 300000))
            continue;
        of->suspects = event.peers;
        world_handle(world, peer, &event);
    }
}

static bool has_lease(const struct world *world, uint16_t peer)
{
    return runs(world, peer) && world->lease_lost_until[peer] <= world->now &&
           !world->processes[peer].fenced;
}

static uint64_t incarnation_of(const struct world *world, uint16_t peer)
{
    return world->processes[peer].name.incarnation;
}

static bool names_peer(const struct replica_epoch *epoch, uint16_t peer)
{
    return (replica_epoch_acceptors(epoch) & replica_bit(peer)) != 0;
}

// Acceptors that are gone give way to processes that are there, if any.
static void replace_acceptors(const struct world *world,
                              struct replica_epoch *epoch)
{
    for (uint32_t i = 0; i < epoch->acceptor_count; i++) {
        struct replica_name *acceptor = &epoch->acceptors[i];
        if (has_lease(world, acceptor->peer)) {
            acceptor->incarnation = incarnation_of(world, acceptor->peer);
            continue;
        }
        for (uint16_t peer = world->peers; peer-- > 0;) {
            if (names_peer(epoch, peer) || !has_lease(world, peer))
                continue;
            *acceptor =
                (struct replica_name){peer, 0, incarnation_of(world, peer)};
            break;
        }
    }
}

static void propose(struct world *world)
{
    struct replica_epoch next = world->proposal;

    next.members = 0;
    memset(next.incarnations, 0, sizeof(next.incarnations));
    for (uint16_t peer = 0; peer < world->config->replicas; peer++) {
        if (!has_lease(world, peer))
            continue;
        next.members |= replica_bit(peer);
        next.incarnations[peer] = incarnation_of(world, peer);
    }
    replace_acceptors(world, &next);
    bool changed = !replica_epoch_same(&next, &world->proposal);
    if (changed && world_chance(world, 750000))
        next.revision++; // its ids may repeat
    world->proposal = next;
    for (uint16_t peer = 0; peer < world->peers; peer++)
        if (world->processes[peer].alive &&
            world_chance(world, changed ? 900000 : 100000))
            world_schedule(world, world_between(world, 200, 5000),
                           HAPPENS_PROPOSAL, peer);
}

static void tell_lineage(struct world *world, uint32_t ppm)
{
    for (uint16_t peer = 0; peer < world->peers; peer++)
        if (world->processes[peer].alive && world_chance(world, ppm))
            world_schedule(world, world_between(world, 200, 5000),
                           HAPPENS_LINEAGE, peer);
}

void provider_register(struct world *world,
                       const struct replica_position *position)
{
    if (position->epoch.lineage != world->register_.epoch.lineage + 1 ||
        position->epoch.lineage >= SIM_LINEAGES)
        return;
    world->register_ = *position;
    world->proposal = position->epoch;
    world->tally.lineages++;
    world->furthest = position->group.index;
    world->progressed_at = world->now;
    world_trace(world, "the register holds lineage %u: members %lx, base %lu",
                position->epoch.lineage, position->epoch.members,
                position->group.index);
    check_registered(world);
    tell_lineage(world, 900000);
}

static bool is_survivor(const struct world *world, uint16_t peer)
{
    const struct process *of = &world->processes[peer];

    return runs(world, peer) && !of->fenced && of->node->located &&
           of->node->at.epoch.lineage == world->register_.epoch.lineage;
}

void provider_force(struct world *world, uint64_t among)
{
    struct replica_epoch list = {.revision = world->proposal.revision};
    uint16_t forcer = SIM_NOBODY;
    struct replica_event event = {.kind = REPLICA_EVENT_FORCE, .epoch = &list};

    for (uint16_t peer = 0; peer < world->peers; peer++) {
        const struct process *of = &world->processes[peer];
        if ((among & replica_bit(peer)) == 0 || !is_survivor(world, peer))
            continue;
        if (peer >= world->config->replicas ||
            list.acceptor_count < world->config->acceptors)
            list.acceptors[list.acceptor_count++] = of->name;
        if (peer >= world->config->replicas ||
            !replica_epoch_member(&of->node->at.epoch, peer,
                                  of->name.incarnation))
            continue;
        list.members |= replica_bit(peer);
        list.incarnations[peer] = of->name.incarnation;
        if (forcer == SIM_NOBODY || world_chance(world, 500000))
            forcer = peer;
    }
    if (list.acceptor_count % 2 == 0 && list.acceptor_count > 0)
        list.acceptor_count--;
    if (forcer == SIM_NOBODY || list.acceptor_count == 0)
        return;
    memset(&list.acceptors[list.acceptor_count], 0,
           (REPLICA_ACCEPTORS_MAX - list.acceptor_count) *
               sizeof(list.acceptors[0]));
    world_trace(world, "the operator has p%u force a lineage of %lx", forcer,
                list.members);
    world_handle(world, forcer, &event);
}

// Nothing was decided for long, and too few acceptors are left to, or they are
// sealed already.
static bool is_stuck(const struct world *world)
{
    const struct replica_epoch *epoch = NULL;
    struct replica_instance most = {0};
    int left = 0;

    if (world->now - world->progressed_at < STUCK_US)
        return false;
    for (uint16_t peer = 0; peer < world->peers; peer++) {
        const struct replica *node = world->processes[peer].node;
        if (!is_survivor(world, peer) ||
            replica_instance_compare(node->at.next, most) < 0)
            continue;
        most = node->at.next;
        epoch = &node->at.epoch;
    }
    if (epoch == NULL)
        return false;
    for (uint32_t i = 0; i < epoch->acceptor_count; i++) {
        struct replica_name name = epoch->acceptors[i];
        const struct process *of = &world->processes[name.peer];
        left += of->alive && replica_name_equal(of->name, name) &&
                !of->node->sealed &&
                of->node->at.epoch.lineage == epoch->lineage;
    }
    return left < replica_epoch_quorum(epoch);
}

void provider_tick(struct world *world)
{
    world_schedule(world, TICK_US, HAPPENS_TICK, SIM_NOBODY);
    detect(world);
    if (!world->config->provider || world->violation[0] != '\0')
        return;
    propose(world);
    tell_lineage(world, world->register_.epoch.lineage > 1 ? 50000 : 0);
    if (is_stuck(world) && world_chance(world, 100000))
        provider_force(world, UINT64_MAX);
}

// SPDX-License-Identifier: BSD-3-Clause
// Invariant 8 of doc/fault.md: once faults have ended, indices go on ending,
// and a lineage that is being forced ends too.
#include "sim.h"

#define PROGRESS 3 // indices
#define FORCED_WITHIN_US 200000
#define LAST_FAULT_US 101000 // a fault lasts no longer

// Whether somebody can tell what was decided there.
static bool is_kept(const struct world *world, uint32_t lineage,
                    struct replica_instance instance)
{
    for (uint16_t peer = 0; peer < world->peers; peer++) {
        const struct process *of = &world->processes[peer];
        const struct replica *node = of->node;
        if (!of->alive || !node->located || node->params.takeover ||
            node->at.epoch.lineage != lineage)
            continue;
        for (size_t i = 0; i < node->kept_count && i < REPLICA_KEPT; i++)
            if (replica_instance_compare(node->kept[i].instance, instance) == 0)
                return true;
    }
    return false;
}

// A member with the state of the furthest position, or which can be told how to
// come by it.
static bool must_progress(const struct world *world)
{
    const struct replica_epoch *epoch = NULL;
    struct replica_instance most = {0};
    int left = 0;

    for (uint16_t peer = 0; peer < world->peers; peer++) {
        const struct process *of = &world->processes[peer];
        if (!of->alive || !of->node->located || of->node->sealed ||
            of->node->at.epoch.lineage != world->register_.epoch.lineage ||
            replica_instance_compare(of->node->at.next, most) < 0)
            continue;
        most = of->node->at.next;
        epoch = &of->node->at.epoch;
    }
    if (epoch == NULL)
        return false;
    for (uint32_t i = 0; i < epoch->acceptor_count; i++) {
        const struct process *of = &world->processes[epoch->acceptors[i].peer];
        left += of->alive &&
                replica_name_equal(of->name, epoch->acceptors[i]) &&
                of->node->located && !of->node->sealed;
    }
    if (left < (int)epoch->acceptor_count / 2 + 1)
        return false;
    for (uint16_t peer = 0; peer < world->config->replicas; peer++) {
        const struct process *of = &world->processes[peer];
        struct replica_state state;
        if (of->alive && !of->fenced && !of->node->ending &&
            (epoch->members & replica_bit(peer)) != 0 &&
            epoch->incarnations[peer] == of->name.incarnation &&
            of->node->at.epoch.lineage == epoch->lineage &&
            replica_snapshot(of->node, &state) &&
            (replica_instance_compare(of->node->at.next, most) == 0 ||
             is_kept(world, epoch->lineage, of->node->at.next)))
            return true;
    }
    return false;
}

void check_judge(struct world *world)
{
    world->must_progress = must_progress(world);
    world->furthest_judged = world->furthest;
    world->tally.judged += world->must_progress;
}

// Who is listed answers or starts again, so that it ends. Not while a lineage
// that was forced by another is on its way.
static void check_forced(struct world *world)
{
    for (uint16_t peer = 0; peer < world->peers; peer++) {
        const struct process *of = &world->processes[peer];
        int64_t since = world->config->heal_at + LAST_FAULT_US;
        if (!of->alive || !of->node->forcing ||
            of->node->at.epoch.lineage != world->register_.epoch.lineage)
            continue;
        if (since < of->forces_since)
            since = of->forces_since;
        if (world->now - since > FORCED_WITHIN_US)
            check_violated(
                world, "p%u forces a lineage, and it does not end (8)", peer);
    }
}

void check_end(struct world *world)
{
    if (world->must_progress &&
        world->furthest < world->furthest_judged + PROGRESS)
        check_violated(world, "no progress from index %lu on (8)",
                       world->furthest_judged);
    check_forced(world);
}

// SPDX-License-Identifier: BSD-3-Clause
// When a lineage is forced: nobody has heard a quorum of acceptors for
// TALLY_REPLICA_FORCE, and the leases of all that are missing are over; or the
// operator says so. Those that are heard make the list. The lowest of them does
// it; if nothing comes of that, the next. Several at a time do no harm: the
// register takes one.
#include "core/error.h"
#include "replica/loop/state.h"

// From one that fails to the next of the same process.
#define AGAIN_US 5000000

// Members and acceptors of the epoch that are heard.
static uint64_t survivors_of(const struct replica_epoch *epoch, uint64_t there,
                             const uint64_t *incarnations)
{
    uint64_t set = 0;

    for (uint64_t rest = replica_epoch_peers(epoch) & there; rest != 0;
         rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        if (replica_epoch_names(
                epoch, (struct replica_name){peer, 0, incarnations[peer]}))
            set |= replica_bit(peer);
    }
    return set;
}

static bool is_quorum(const struct replica_epoch *epoch, uint64_t survivors,
                      const uint64_t *incarnations)
{
    int heard = 0;

    for (uint32_t i = 0; i < epoch->acceptor_count; i++) {
        struct replica_name name = epoch->acceptors[i];
        heard += (survivors & replica_bit(name.peer)) != 0 &&
                 incarnations[name.peer] == name.incarnation;
    }
    return heard >= replica_epoch_quorum(epoch);
}

// Whether their leases are. One that is cut off from here but not from the
// register may go on with others.
static bool all_missing_are_over(const struct replica_loop *loop,
                                 uint64_t survivors)
{
    const struct replica_epoch *epoch = &loop->node->at.epoch;
    const uint64_t *registered = loop->force.registered;

    for (uint64_t rest = replica_epoch_peers(epoch) & ~survivors; rest != 0;
         rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        if (replica_epoch_names(
                epoch, (struct replica_name){peer, 0, registered[peer]}))
            return false;
    }
    return true;
}

// How long a process may be dead that is not known to be.
static int64_t detection_us(const struct replica_loop *loop)
{
    return (int64_t)(loop->params.dead_after + 1) * loop->params.heartbeat_us;
}

static bool is_due(const struct replica_loop *loop, uint64_t survivors)
{
    const struct loop_force *force = &loop->force;
    const struct replica_epoch *epoch = &loop->node->at.epoch;
    uint64_t lower = replica_bit(loop->params.self.peer) - 1;
    int before = replica_set_size(epoch->members & survivors & lower);
    int64_t turn_us = before * detection_us(loop);

    if (force->refused && force->list.lineage == epoch->lineage &&
        force->survivors == survivors)
        return false;
    if (force->ends == epoch->lineage &&
        force->silent_us >= detection_us(loop) + turn_us)
        return true;
    return loop->params.force_us > 0 &&
           force->silent_us >= loop->params.force_us + turn_us &&
           all_missing_are_over(loop, survivors);
}

static void force(struct replica_loop *loop, uint64_t survivors,
                  const uint64_t *incarnations)
{
    struct replica_epoch *list = &loop->force.list;
    const struct replica_event event = {.kind = REPLICA_EVENT_FORCE,
                                        .epoch = list};

    loop->force.survivors = survivors;
    loop->force.refused = false;
    *list = loop->node->at.epoch;
    list->members &= survivors;
    for (uint16_t peer = 0; peer < REPLICA_PEERS_MAX; peer++)
        if ((list->members & replica_bit(peer)) == 0)
            list->incarnations[peer] = 0;
    loop_choose_acceptors(loop, survivors, incarnations, list);
    loop->force.again_us = loop->now_us + AGAIN_US;
    core_log(loop->params.log, TALLY_LOG_WARN,
             "replica %u: too few are left to decide: forces an end of lineage "
             "%u, to go on with replicas 0x%llx and %u acceptors",
             (unsigned)loop->params.self.peer, (unsigned)list->lineage,
             (unsigned long long)list->members, (unsigned)list->acceptor_count);
    loop_handle(loop, &event);
}

// Time in which this process stood still says nothing of others.
static void count_silence(struct replica_loop *loop, bool is_heard)
{
    struct loop_force *force = &loop->force;
    int64_t passed_us = loop->now_us - force->looked_us;

    if (passed_us > loop->params.heartbeat_us)
        passed_us = loop->params.heartbeat_us;
    force->looked_us = loop->now_us;
    force->silent_us = is_heard ? 0 : force->silent_us + passed_us;
    loop->stopped = loop->stopped && !is_heard;
}

void loop_consider_force(struct replica_loop *loop)
{
    const struct replica *node = loop->node;
    const struct replica_epoch *epoch = &node->at.epoch;
    uint64_t incarnations[REPLICA_PEERS_MAX];
    uint64_t there = loop_who_is_there(loop, incarnations);
    uint64_t survivors = survivors_of(epoch, there, incarnations);

    // Who is sealed has left the lineage, whoever is heard.
    count_silence(loop,
                  !node->sealed && is_quorum(epoch, survivors, incarnations));
    if (node->fenced || !replica_coordinator_is_named(node))
        return;
    uint64_t gone = replica_epoch_acceptors(epoch) & ~survivors;
    if (!loop->stopped && gone != 0 &&
        loop->force.silent_us >= detection_us(loop)) {
        loop_say_stopped(loop, gone);
        loop->stopped = true;
    }
    if (loop->force.request == 0 && loop->now_us >= loop->force.again_us &&
        is_due(loop, survivors))
        force(loop, survivors, incarnations);
}

void loop_say_stopped(const struct replica_loop *loop, uint64_t acceptors)
{
    const struct core_log *log = loop->params.log;
    unsigned self = loop->params.self.peer;
    unsigned lineage = loop->node->at.epoch.lineage;

    core_log(log, TALLY_LOG_WARN,
             "replica %u: nothing can be decided, acceptors 0x%llx are gone",
             self, (unsigned long long)acceptors);
    if (!replica_coordinator_is_named(loop->node))
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: to go on, continue them, or end all and start "
                 "them from the newest checkpoint: this one is not a member",
                 self);
    else if (!quorum_has_register(loop->params.quorum))
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: to go on, continue them, or end all and start "
                 "them from the newest checkpoint: without a register of "
                 "lineages (TALLY_QUORUM=etcd) nobody goes on without them",
                 self);
    else if (loop->params.force_us > 0)
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: to go on, continue them; else, once their leases "
                 "are over and %.0f s have passed, it goes on without them",
                 self, (double)loop->params.force_us * 1e-6);
    else
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: to go on, continue them; or to go on without "
                 "them, etcdctl put PREFIX/JOB/force %u",
                 self, lineage);
}

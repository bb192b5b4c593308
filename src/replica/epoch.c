// SPDX-License-Identifier: BSD-3-Clause
// Who takes part: learners that announce what they hold, what is made of the
// provider's proposals, and what a new epoch means here. An epoch is a part of
// a decision; it opens when f + 1 of its own acceptors, who vote only once they
// have installed that decision, decide what follows.
#include "replica/node.h"

// Only those may be named that hold the group's state; witnesses hold none.
static bool is_ready(const struct replica *node, struct replica_name name,
                     bool witness)
{
    const struct replica_joiner *joiner = &node->joiners[name.peer];

    return (node->joining & replica_bit(name.peer)) != 0 &&
           joiner->incarnation == name.incarnation &&
           (witness || joiner->state.digest == node->at.group.digest);
}

static uint64_t ready_members(const struct replica *node,
                              const struct replica_epoch *proposal)
{
    uint64_t members = 0;

    for (uint64_t rest = proposal->members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        struct replica_name name = {peer, 0, proposal->incarnations[peer]};
        if (replica_epoch_member(&node->at.epoch, peer, name.incarnation) ||
            (name.incarnation > node->at.epoch.incarnations[peer] &&
             is_ready(node, name, false)))
            members |= replica_bit(peer);
    }
    return members;
}

static bool acceptors_are_there(const struct replica *node,
                                const struct replica_epoch *proposal,
                                uint64_t members)
{
    for (uint32_t i = 0; i < proposal->acceptor_count; i++) {
        struct replica_name name = proposal->acceptors[i];
        bool member = (members & replica_bit(name.peer)) != 0 &&
                      proposal->incarnations[name.peer] == name.incarnation;
        if (!member && replica_epoch_acceptor(&node->at.epoch, name) < 0 &&
            !is_ready(node, name, true))
            return false;
    }
    return proposal->acceptor_count != 0;
}

bool replica_epoch_proposal(const struct replica *node,
                            struct replica_epoch *out)
{
    const struct replica_epoch *proposal = &node->proposal;
    struct replica_epoch next = node->at.epoch;

    if (!node->has_proposal)
        return false;
    next.members = ready_members(node, proposal);
    if (next.members == 0)
        return false;
    next.revision = proposal->revision;
    for (uint16_t peer = 0; peer < REPLICA_PEERS_MAX; peer++)
        next.incarnations[peer] = (next.members & replica_bit(peer)) != 0
                                      ? proposal->incarnations[peer]
                                      : 0;
    if (acceptors_are_there(node, proposal, next.members)) {
        next.acceptor_count = proposal->acceptor_count;
        for (uint32_t i = 0; i < REPLICA_ACCEPTORS_MAX; i++)
            next.acceptors[i] = proposal->acceptors[i];
    }
    *out = next;
    return !replica_epoch_same(&next, &node->at.epoch);
}

static bool is_named(const struct replica *node)
{
    struct replica_name self = node->params.self;

    return node->params.witness
               ? replica_epoch_acceptor(&node->at.epoch, self) >= 0
               : replica_epoch_member(&node->at.epoch, self.peer,
                                      self.incarnation);
}

void replica_epoch_begin(struct replica *node)
{
    const struct replica_epoch *epoch = &node->at.epoch;
    struct replica_name self = node->params.self;

    for (uint64_t rest = node->joining; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        uint64_t incarnation = node->joiners[peer].incarnation;
        struct replica_name name = {peer, 0, incarnation};
        if (epoch->incarnations[peer] >= incarnation ||
            replica_epoch_acceptor(epoch, name) >= 0)
            node->joining &= ~replica_bit(peer);
    }
    if (epoch->incarnations[self.peer] > self.incarnation)
        replica_coordinator_fence(node);
    replica_report(node, REPLICA_STATUS_EPOCH, epoch->members);
}

// A learner says what it holds, until an epoch names it.
void replica_epoch_announce(struct replica *node)
{
    bool holds = node->params.witness || replica_coordinator_is_current(node);

    if (!node->located || !holds || node->fenced || is_named(node))
        return;
    struct replica_message join = replica_message_for(node, REPLICA_JOIN);
    join.state = node->own;
    replica_send(node, replica_everybody(node), &join);
}

void replica_epoch_join(struct replica *node,
                        const struct replica_message *message)
{
    struct replica_joiner *joiner = &node->joiners[message->from.peer];
    uint64_t bit = replica_bit(message->from.peer);

    if ((node->joining & bit) != 0 &&
        joiner->incarnation > message->from.incarnation)
        return;
    node->joining |= bit;
    joiner->incarnation = message->from.incarnation;
    joiner->state = message->state;
}

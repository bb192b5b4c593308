// SPDX-License-Identifier: BSD-3-Clause
// When more than f acceptors are lost: the operator lists the survivors, each
// seals the lineage for good and reports its frontier, and one compare-and-swap
// in the provider's register makes the highest frontier the base of the next. A
// listed one of which a later start is heard is gone: it is forced without it,
// and if it was the one that forced, by those that it has sealed.
#include "replica/node.h"

// Asks all anew: who is sealed says the same again.
static void gather(struct replica *node)
{
    node->sealed_peers = 0;
    node->frontier = (struct replica_state){0};
    node->tick_at = node->now + node->params.retry_us;
    replica_lineage_repeat(node);
}

void replica_lineage_force(struct replica *node,
                           const struct replica_epoch *epoch)
{
    if (!node->located || node->fenced ||
        !replica_epoch_names(epoch, node->params.self) || epoch->members == 0 ||
        epoch->acceptor_count % 2 == 0)
        return;
    node->forcing = true;
    node->force = *epoch;
    gather(node);
}

void replica_lineage_repeat(struct replica *node)
{
    struct replica_message seal = replica_message_for(node, REPLICA_SEAL);

    seal.survivors = node->force;
    replica_send(node, replica_epoch_peers(&node->force) & ~node->sealed_peers,
                 &seal);
}

void replica_lineage_seal(struct replica *node,
                          const struct replica_message *message)
{
    struct replica_message sealed = replica_message_for(node, REPLICA_SEALED);

    if (!replica_epoch_names(&message->survivors, node->params.self)) {
        // Another start of it is: that one is gone, as this message tells.
        replica_learner_ask(node, replica_bit(message->from.peer));
        return;
    }
    if (!node->sealed)
        replica_report(node, REPLICA_STATUS_SEALED, 0);
    node->sealed = true;
    node->entered = false;
    if (!node->forcing) {
        node->force = message->survivors;
        node->sealed_by = message->from;
    }
    sealed.state = node->own;
    replica_reply(node, message->from, &sealed);
}

// Returns whether the list named an earlier start.
static bool strike_out(struct replica_epoch *list, struct replica_name later)
{
    bool struck = false;
    uint32_t kept = 0;

    if ((list->members & replica_bit(later.peer)) != 0 &&
        list->incarnations[later.peer] < later.incarnation) {
        list->members &= ~replica_bit(later.peer);
        list->incarnations[later.peer] = 0;
        struck = true;
    }
    for (uint32_t i = 0; i < list->acceptor_count; i++) {
        struct replica_name name = list->acceptors[i];
        if (name.peer != later.peer || name.incarnation >= later.incarnation)
            list->acceptors[kept++] = name;
    }
    struck = struck || kept < list->acceptor_count;
    list->acceptor_count = kept;
    return struck;
}

// An odd number of acceptors; of the members if none is left.
static void make_odd(struct replica_epoch *list)
{
    if (list->acceptor_count == 0 && list->members != 0) {
        uint16_t peer = (uint16_t)__builtin_ctzll(list->members);
        list->acceptors[list->acceptor_count++] =
            (struct replica_name){peer, 0, list->incarnations[peer]};
    }
    if (list->acceptor_count % 2 == 0 && list->acceptor_count > 0)
        list->acceptor_count--;
    for (uint32_t i = list->acceptor_count; i < REPLICA_ACCEPTORS_MAX; i++)
        list->acceptors[i] = (struct replica_name){0};
}

// Of who sealed this one: where a later start of it is there, it does not force
// any more.
static bool is_sealed_by(const struct replica *node, uint16_t peer)
{
    return node->sealed && node->sealed_by.incarnation != 0 &&
           node->sealed_by.peer == peer;
}

void replica_lineage_heed(struct replica *node, struct replica_name from)
{
    if (!node->forcing && !is_sealed_by(node, from.peer))
        return;
    if (!strike_out(&node->force, from))
        return;
    make_odd(&node->force);
    replica_report(node, REPLICA_STATUS_UNLISTED, replica_bit(from.peer));
    node->forcing = node->force.members != 0;
    if (node->forcing)
        gather(node); // what it reported is gone with it
}

// What is applied past the highest frontier, by whoever is not listed, is void.
static void propose_lineage(struct replica *node)
{
    struct replica_position *next = &node->forced;
    uint64_t digest;

    *next = (struct replica_position){.epoch = node->force};
    next->epoch.lineage = node->at.epoch.lineage + 1;
    next->epoch.number = 1;
    next->next.index = node->frontier.index + 1;
    next->group = node->frontier;
    digest = replica_digest(node->frontier.digest, next->next.index);
    next->previous = replica_epoch_digest(digest, &next->epoch);
    node->forcing = false;
    replica_act(node, REPLICA_ACTION_PROVIDER)->position = next;
}

void replica_lineage_sealed(struct replica *node,
                            const struct replica_message *message)
{
    uint16_t peer = message->from.peer;

    if (!node->forcing || !replica_epoch_names(&node->force, message->from))
        return;
    node->sealed_peers |= replica_bit(peer);
    if (replica_epoch_member(&node->force, peer, message->from.incarnation) &&
        message->state.index > node->frontier.index)
        node->frontier = message->state;
    if ((replica_epoch_peers(&node->force) & ~node->sealed_peers) == 0)
        propose_lineage(node);
}

void replica_lineage_adopt(struct replica *node,
                           const struct replica_position *position)
{
    uint32_t lineage = position->epoch.lineage;
    struct replica_state base = position->group;

    if (!node->located) {
        if (node->least_lineage < lineage)
            node->least_lineage = lineage;
        return;
    }
    if (lineage <= node->at.epoch.lineage)
        return;
    if (!replica_epoch_names(&position->epoch, node->params.self)) {
        node->sealed = true;
        replica_coordinator_fence(node);
        return;
    }
    node->sealed = false;
    node->sealed_by = (struct replica_name){0};
    node->forcing = false;
    node->joining = 0;
    replica_learner_locate(node, position);
    replica_epoch_begin(node);
    if (node->params.witness)
        return;
    if (node->own.index >= base.index && node->own.digest != base.digest)
        replica_report(node, REPLICA_STATUS_ROLLED_BACK, 0);
    replica_coordinator_stand(node);
}

// SPDX-License-Identifier: BSD-3-Clause
// A replica's coordinator: the one entry a decision that its replica makes, and
// what its ranks are told. One that took over only tells.
#include "replica/node.h"

#include <string.h>

// Its model is the group's, and its ranks are all there.
bool replica_coordinator_is_current(const struct replica *node)
{
    return node->located && !node->params.witness && !node->params.takeover &&
           node->own.digest == node->at.group.digest;
}

// The one before it, of the same replica, may have been counted: what is
// decided about that is not about this one.
bool replica_coordinator_is_named(const struct replica *node)
{
    return replica_epoch_member(&node->at.epoch, node->params.self.peer,
                                node->params.self.incarnation);
}

void replica_coordinator_lags(struct replica *node)
{
    if (node->located && !node->params.witness && !node->params.takeover &&
        !node->fenced && !node->sealed &&
        node->own.digest != node->at.group.digest)
        replica_report(node, REPLICA_STATUS_LAGGING, 0);
}

bool replica_coordinator_takes_part(const struct replica *node)
{
    return replica_coordinator_is_current(node) && !node->fenced &&
           !node->sealed && !node->ending && replica_coordinator_is_named(node);
}

void replica_coordinator_stand(struct replica *node)
{
    if (replica_coordinator_takes_part(node) && node->at.next.attempt == 0)
        replica_report(node, REPLICA_STATUS_OPEN, 0);
    else
        replica_coordinator_lags(node);
}

static struct replica_message entry_message(const struct replica *node)
{
    struct replica_message message = replica_message_for(node, REPLICA_ENTRY);

    memcpy(&message.entry, &node->entry,
           offsetof(struct replica_entry, records) +
               node->params.records * sizeof(node->entry.records[0]));
    return message;
}

void replica_coordinator_send_entry(struct replica *node, uint64_t peers)
{
    struct replica_message message = entry_message(node);

    replica_send(node, peers, &message);
}

// To its own acceptor first, if there are others: the vote of that goes ahead
// of the entry then, and who gets both knows of it when it votes itself.
static void send_first(struct replica *node)
{
    struct replica_message message = entry_message(node);
    uint64_t acceptors = replica_epoch_acceptors(&node->at.epoch);
    uint64_t others = acceptors & ~replica_bit(node->params.self.peer);

    if (replica_acceptor_place(node) >= 0 && others != 0) {
        replica_acceptor_entry(node, &message);
        acceptors = others;
    }
    replica_send(node, acceptors, &message);
}

void replica_coordinator_enter(struct replica *node, uint8_t vote)
{
    if (node->entered)
        return;
    node->entered = true;
    node->entry.vote = vote;
    node->entry.applied_through = node->at.next.index - 1;
    if (node->at.next.attempt > 0)
        node->entry.has_proposal = false;
    node->tick_at = node->now + node->params.retry_us;
    send_first(node);
}

void replica_coordinator_contribute(struct replica *node,
                                    const struct numeric_record *records)
{
    struct replica_entry *entry = &node->entry;

    if (!replica_coordinator_takes_part(node) || node->entered ||
        node->at.next.attempt != 0) {
        replica_report(node, REPLICA_STATUS_WAITING, 0);
        return;
    }
    entry->replica = node->params.self.peer;
    entry->incarnation = node->params.self.incarnation;
    memcpy(entry->records, records,
           node->params.records * sizeof(entry->records[0]));
    entry->has_proposal = replica_epoch_proposal(node, &entry->proposal);
    replica_coordinator_enter(node, REPLICA_COUNTS);
}

static void tell_ranks(struct replica *node, const struct replica_kept *kept,
                       enum replica_action_kind kind)
{
    struct replica_action *action = replica_act(node, kind);

    action->instance = kept->instance;
    action->value = &kept->value;
    action->position = &node->at;
}

void replica_coordinator_learned(struct replica *node,
                                 const struct replica_kept *kept, bool eligible)
{
    const struct replica_value *value = &kept->value;
    bool included = (value->members & replica_bit(node->params.self.peer)) != 0;
    bool ended = replica_value_ends_index(value);

    if (node->fenced || node->params.witness)
        return;
    if (node->params.takeover) {
        tell_ranks(node, kept, REPLICA_ACTION_BROADCAST);
        if (ended)
            replica_coordinator_fence(node);
        return;
    }
    if (eligible && included && value->kind == REPLICA_APPLY) {
        node->own = node->at.group;
        tell_ranks(node, kept, REPLICA_ACTION_APPLY);
    } else if (eligible) {
        tell_ranks(node, kept, REPLICA_ACTION_BROADCAST);
    }
    if (!ended)
        return;
    if (node->ending)
        replica_coordinator_fence(node);
    else
        replica_coordinator_stand(node);
    replica_epoch_announce(node);
}

// The incarnation is over. What it has said already may still count, and its
// ranks are told how that ends; its shard of a gradient is gone.
void replica_coordinator_rank_lost(struct replica *node)
{
    bool taking_part = replica_coordinator_takes_part(node);
    bool pending = node->entered || node->at.next.attempt > 0;

    if (node->fenced || node->ending)
        return;
    if (!taking_part || !pending) {
        replica_coordinator_fence(node);
        return;
    }
    if (node->at.next.attempt > 0 &&
        (node->eligible & replica_bit(node->params.self.peer)) != 0)
        replica_coordinator_enter(node, REPLICA_OUT);
    node->ending = true;
}

void replica_coordinator_fence(struct replica *node)
{
    if (node->fenced)
        return;
    node->fenced = true;
    node->entered = false;
    node->forcing = false;
    replica_report(node, REPLICA_STATUS_FENCED, 0);
}

// A frontier that was reported stays restorable: whoever is sealed keeps it.
void replica_coordinator_restored(struct replica *node,
                                  struct replica_state state)
{
    if (node->sealed)
        return;
    node->own = state;
    replica_epoch_announce(node);
    replica_coordinator_stand(node);
}

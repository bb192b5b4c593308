// SPDX-License-Identifier: BSD-3-Clause
// An acceptor of the decision that is next: holds entries, votes FULL at round
// 0 when it holds all of them, and promises and accepts for leaders. A
// restarted one has another name, and is none (replica_acceptor_place).
#include "replica/node.h"

#include <assert.h>

static void vote(struct replica *node, uint64_t peers, uint64_t later)
{
    struct replica_message message = replica_message_for(node, REPLICA_VOTE);

    message.ballot = node->accepted;
    replica_value_copy(&message.value, &node->accepted_value,
                       node->params.records);
    replica_send(node, peers & ~later, &message);
    replica_send_later(node, peers & later, &message);
}

// Whether that is its present start; of a witness that is not known.
static bool is_there(const struct replica_epoch *epoch,
                     const struct replica_name *acceptor)
{
    return (epoch->members & replica_bit(acceptor->peer)) == 0 ||
           epoch->incarnations[acceptor->peer] == acceptor->incarnation;
}

// Who will know what is decided without this acceptor's vote, by its own and
// those that were for all as this one is.
static uint64_t know_without(const struct replica *node, uint64_t peers)
{
    const struct replica_epoch *epoch = &node->at.epoch;
    const struct replica_tally *tally = &node->tallies[0];
    uint64_t know = 0;

    if (tally->votes == 0 || tally->value.digest != node->accepted_value.digest)
        return 0;
    for (uint64_t rest = peers; rest != 0; rest &= rest - 1) {
        uint32_t votes = tally->votes;
        for (uint32_t i = 0; i < epoch->acceptor_count; i++)
            if (replica_bit(epoch->acceptors[i].peer) == (rest & -rest) &&
                is_there(epoch, &epoch->acceptors[i]))
                votes |= 1u << i;
        if (__builtin_popcount(votes) >= replica_epoch_quorum(epoch))
            know |= rest & -rest;
    }
    return know;
}

static void accept(struct replica *node, struct replica_ballot ballot)
{
    assert(replica_ballot_compare(ballot, node->promised) >= 0);
    assert(!node->has_accepted ||
           replica_ballot_compare(ballot, node->accepted) >= 0);
    node->promised = ballot;
    node->accepted = ballot;
    node->has_accepted = true;
}

// The fast path: nobody leads, all is there, so the value is the only one.
static void try_full(struct replica *node)
{
    struct replica_fold fold = replica_fold_of(node);

    if (node->table.held != node->eligible || node->has_accepted)
        return;
    if (node->promised.round != 0)
        return;
    replica_table_fold(&node->table, &fold, &node->accepted_value);
    accept(node, (struct replica_ballot){0});
    uint64_t others = replica_everybody(node);
    vote(node, others | replica_bit(node->params.self.peer),
         know_without(node, others));
}

static bool fits(const struct replica *node, const struct replica_entry *entry)
{
    bool counts = entry->vote == REPLICA_COUNTS;

    return (node->eligible & replica_bit(entry->replica)) != 0 &&
           replica_epoch_member(&node->at.epoch, entry->replica,
                                entry->incarnation) &&
           entry->applied_through == node->at.next.index - 1 &&
           counts == (node->at.next.attempt == 0);
}

void replica_acceptor_entry(struct replica *node,
                            const struct replica_message *message)
{
    const struct replica_entry *entry = &message->entry;

    if (replica_acceptor_place(node) < 0)
        return;
    if (!fits(node, entry)) {
        replica_report(node, REPLICA_STATUS_REFUSED,
                       replica_bit(message->from.peer));
        return;
    }
    enum replica_table_put put =
        replica_table_put(&node->table, entry, node->params.records);
    if (put == REPLICA_TABLE_CONFLICT) {
        replica_report(node, REPLICA_STATUS_CONFLICT,
                       replica_bit(entry->replica));
    } else if (put == REPLICA_TABLE_NEW) {
        replica_leader_consider(node);
        try_full(node);
        replica_leader_propose(node);
    } else if (node->has_accepted && node->accepted.round == 0) {
        // Sent again: the vote did not arrive.
        vote(node, replica_bit(message->from.peer), 0);
    }
}

static void refuse(struct replica *node, const struct replica_message *message)
{
    struct replica_message refused = replica_message_for(node, REPLICA_REFUSED);

    refused.ballot = node->promised;
    replica_reply(node, message->from, &refused);
}

void replica_acceptor_prepare(struct replica *node,
                              const struct replica_message *message)
{
    uint64_t lacks = node->table.held & ~message->held;
    struct replica_message promise;

    if (replica_acceptor_place(node) < 0)
        return;
    if (replica_ballot_compare(message->ballot, node->promised) < 0) {
        refuse(node, message);
        return;
    }
    node->promised = message->ballot;
    for (; lacks != 0; lacks &= lacks - 1) {
        struct replica_message relay = replica_message_for(node, REPLICA_ENTRY);
        replica_table_get(&node->table, (uint16_t)__builtin_ctzll(lacks),
                          node->params.records, &relay.entry);
        replica_reply(node, message->from, &relay);
    }
    promise = replica_message_for(node, REPLICA_PROMISE);
    promise.ballot = message->ballot;
    promise.held = node->table.held;
    promise.has_value = node->has_accepted;
    promise.accepted = node->accepted;
    if (node->has_accepted)
        replica_value_copy(&promise.value, &node->accepted_value,
                           node->params.records);
    replica_reply(node, message->from, &promise);
    replica_leader_consider(node);
}

void replica_acceptor_accept(struct replica *node,
                             const struct replica_message *message)
{
    if (replica_acceptor_place(node) < 0)
        return;
    if (replica_ballot_compare(message->ballot, node->promised) < 0) {
        refuse(node, message);
        return;
    }
    accept(node, message->ballot);
    replica_value_copy(&node->accepted_value, &message->value,
                       node->params.records);
    vote(node, replica_bit(message->from.peer), 0);
}

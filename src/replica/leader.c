// SPDX-License-Identifier: BSD-3-Clause
// The slow path: an acceptor that has waited long enough leads a ballot of its
// own. It adopts the value of the highest ballot accepted; without one it folds
// what is held.
#include "replica/node.h"

#define BACKOFF_TRIES_MAX 5

struct replica_fold replica_fold_of(const struct replica *node)
{
    return (struct replica_fold){
        .at = &node->at,
        .eligible = node->eligible,
        .minimum = node->params.minimum,
        .attempts = node->params.attempts,
        .records = node->params.records,
    };
}

static void lead_by(struct replica *node, int64_t at)
{
    if (at < node->lead_at)
        node->lead_at = at;
}

// How many acceptors lead before this one. Those that are thought gone do not.
static int turn_of(const struct replica *node, int place)
{
    int before = 0;

    for (int i = 0; i < place; i++)
        if ((node->suspects & replica_bit(node->at.epoch.acceptors[i].peer)) ==
            0)
            before++;
    return before;
}

// When to lead. Nobody waits for an index that nobody has contributed to; but
// what follows a COUNT must end even if all it counted are gone.
void replica_leader_consider(struct replica *node)
{
    int place = replica_acceptor_place(node);
    uint64_t missing = node->eligible & ~node->table.held;
    bool waited_for = node->table.held != 0 || node->promised.round != 0;

    if (place < 0 || node->tries > 0)
        return;
    int64_t stagger =
        node->now + turn_of(node, place) * node->params.stagger_us;
    if (waited_for)
        lead_by(node, stagger + node->params.decide_after_us);
    else if (node->at.next.attempt > 0)
        lead_by(node, stagger + node->params.apply_after_us);
    else
        return;
    // What has come here of one that is gone need not have come to the others.
    if ((node->eligible & node->suspects) != 0 &&
        (missing & ~node->suspects) == 0)
        lead_by(node, stagger);
}

void replica_leader_start(struct replica *node)
{
    int place = replica_acceptor_place(node);
    struct replica_message prepare;

    node->lead_at = INT64_MAX;
    if (place < 0)
        return;
    if (node->round < node->promised.round)
        node->round = node->promised.round;
    node->round++;
    node->leading = true;
    node->proposing = false;
    node->ballot = (struct replica_ballot){node->round, node->params.self};
    node->promises = 0;
    node->promised_held = 0;
    node->has_best = false;
    node->tallies[1].votes = 0;

    int64_t step = ((int64_t)node->at.epoch.acceptor_count + place) *
                   node->params.stagger_us;
    node->lead_at = node->now + (step << node->tries);
    if (node->tries < BACKOFF_TRIES_MAX)
        node->tries++;

    prepare = replica_message_for(node, REPLICA_PREPARE);
    prepare.ballot = node->ballot;
    prepare.held = node->table.held;
    replica_send(node, replica_epoch_acceptors(&node->at.epoch), &prepare);
}

// A higher ballot's value outranks any other, that of the fast path too.
static void adopt_best(struct replica *node,
                       const struct replica_message *promise)
{
    if (!promise->has_value)
        return;
    if (node->has_best &&
        replica_ballot_compare(promise->accepted, node->best) <= 0)
        return;
    node->has_best = true;
    node->best = promise->accepted;
    replica_value_copy(&node->proposed, &promise->value, node->params.records);
}

void replica_leader_promise(struct replica *node,
                            const struct replica_message *message)
{
    int place = replica_epoch_acceptor(&node->at.epoch, message->from);

    if (place < 0 || !node->leading || node->proposing ||
        replica_ballot_compare(message->ballot, node->ballot) != 0)
        return;
    node->promises |= 1u << place;
    node->promised_held |= message->held;
    adopt_best(node, message);
    replica_leader_propose(node);
}

void replica_leader_propose(struct replica *node)
{
    const struct replica_epoch *epoch = &node->at.epoch;
    struct replica_fold fold = replica_fold_of(node);
    struct replica_message accept;

    if (!node->leading || node->proposing ||
        __builtin_popcount(node->promises) < replica_epoch_quorum(epoch))
        return;
    if (!node->has_best) {
        // What the acceptors hold is on its way.
        if ((node->promised_held & ~node->table.held) != 0)
            return;
        replica_table_fold(&node->table, &fold, &node->proposed);
    }
    node->proposing = true;
    accept = replica_message_for(node, REPLICA_ACCEPT);
    accept.ballot = node->ballot;
    replica_value_copy(&accept.value, &node->proposed, node->params.records);
    replica_send(node, replica_epoch_acceptors(epoch), &accept);
}

void replica_leader_refused(struct replica *node,
                            const struct replica_message *message)
{
    if (node->round < message->ballot.round)
        node->round = message->ballot.round;
    if (replica_ballot_compare(message->ballot, node->ballot) > 0)
        node->leading = false;
}

// SPDX-License-Identifier: BSD-3-Clause
// How a process learns what was decided: by votes, by being told, or by a
// position when what it missed is not kept any more; and how it answers others.
#include "replica/node.h"

static void clear_instance(struct replica *node)
{
    replica_table_clear(&node->table);
    node->promised = (struct replica_ballot){0};
    node->accepted = (struct replica_ballot){0};
    node->has_accepted = false;
    node->leading = false;
    node->proposing = false;
    node->round = 0;
    node->tries = 0;
    node->tallies[0].votes = 0;
    node->tallies[1].votes = 0;
    node->entered = false;
    node->acknowledged = false;
    node->scaled = false;
    node->gradient = 0;
    node->lead_at = INT64_MAX;
}

void replica_learner_locate(struct replica *node,
                            const struct replica_position *position)
{
    node->located = true;
    node->at = *position;
    node->index_previous = position->previous;
    node->eligible = position->next.attempt == 0 ? position->epoch.members : 0;
    node->kept_count = 0;
    clear_instance(node);
}

// Acceptors of an epoch vote once they have installed the decision that names
// them. So whatever is decided in it says that f + 1 of them have.
static void retire(struct replica *node)
{
    bool votes = replica_acceptor_place(node) >= 0;

    if (node->votes && !votes)
        replica_report(node, REPLICA_STATUS_RETIRED, 0);
    node->votes = votes;
}

void replica_learner_decided(struct replica *node,
                             const struct replica_value *value)
{
    struct replica_kept *kept = &node->kept[node->kept_count % REPLICA_KEPT];
    uint32_t epoch = node->at.epoch.number;
    bool eligible =
        (node->eligible & replica_bit(node->params.self.peer)) != 0 &&
        replica_coordinator_is_named(node) &&
        replica_coordinator_is_current(node);

    retire(node);
    node->kept_count++;
    kept->instance = node->at.next;
    kept->previous = node->at.previous;
    kept->epoch = epoch;
    replica_value_copy(&kept->value, value, node->params.records);
    replica_position_advance(&node->at, value);
    if (node->at.next.attempt == 0) {
        node->index_previous = node->at.previous;
        node->eligible = node->at.epoch.members;
    } else {
        node->eligible = value->members;
    }
    clear_instance(node);
    if (node->at.epoch.number != epoch)
        replica_epoch_begin(node);
    replica_coordinator_learned(node, kept, eligible);
    replica_leader_consider(node);
}

static bool is_consistent(struct replica *node,
                          const struct replica_message *message)
{
    bool consistent =
        message->value.digest ==
        replica_value_digest(&message->value, node->at.next, node->at.previous,
                             node->params.records);

    if (!consistent)
        replica_report(node, REPLICA_STATUS_REFUSED,
                       replica_bit(message->from.peer));
    return consistent;
}

void replica_learner_vote(struct replica *node,
                          const struct replica_message *message)
{
    bool fast = message->ballot.round == 0;
    struct replica_tally *tally = &node->tallies[fast ? 0 : 1];
    int place = replica_epoch_acceptor(&node->at.epoch, message->from);

    if (place < 0 || !is_consistent(node, message))
        return;
    if (!fast && (!node->leading ||
                  replica_ballot_compare(message->ballot, node->ballot) != 0))
        return;
    if (tally->votes == 0) {
        replica_value_copy(&tally->value, &message->value,
                           node->params.records);
    } else if (tally->value.digest != message->value.digest) {
        // Some replica has told different acceptors different things.
        replica_report(node, REPLICA_STATUS_CONFLICT, message->value.members);
        return;
    }
    tally->votes |= 1u << place;
    if (__builtin_popcount(tally->votes) <
        replica_epoch_quorum(&node->at.epoch))
        return;
    if (!fast) {
        struct replica_message commit =
            replica_message_for(node, REPLICA_DECISION);
        replica_value_copy(&commit.value, &tally->value, node->params.records);
        replica_send(node, replica_everybody(node), &commit);
    }
    replica_learner_decided(node, &tally->value);
}

void replica_learner_decision(struct replica *node,
                              const struct replica_message *message)
{
    if (is_consistent(node, message))
        replica_learner_decided(node, &message->value);
}

// Who has the group's state learns by decisions how to go on with it. A
// position that it adopts makes it restore, so that must come from who has what
// to restore from: else it may be the last that could have applied what it has
// not heard of.
static bool would_lag_alone(const struct replica *node,
                            const struct replica_message *message)
{
    return replica_coordinator_is_current(node) &&
           message->state.digest != message->position.group.digest;
}

void replica_learner_position(struct replica *node,
                              const struct replica_message *message)
{
    const struct replica_position *position = &message->position;

    if (node->sealed || message->lineage < node->least_lineage)
        return;
    if (node->located &&
        (message->lineage != node->at.epoch.lineage ||
         replica_instance_compare(position->next, node->at.next) <= 0))
        return;
    if (would_lag_alone(node, message))
        return;
    replica_learner_locate(node, position);
    replica_epoch_begin(node);
    replica_coordinator_stand(node);
    replica_epoch_announce(node);
}

void replica_learner_ask(struct replica *node, uint64_t peers)
{
    struct replica_message ask = replica_message_for(node, REPLICA_ASK);

    replica_send(node, peers & ~replica_bit(node->params.self.peer), &ask);
}

static void answer_position(struct replica *node,
                            const struct replica_message *message)
{
    struct replica_message answer = replica_message_for(node, REPLICA_POSITION);

    answer.position = node->at;
    answer.position.next.attempt = 0;
    answer.position.previous = node->index_previous;
    answer.position.has_coming = false;
    answer.state = node->own;
    replica_reply(node, message->from, &answer);
}

static void repeat_entry(struct replica *node, struct replica_name to)
{
    if (node->entered && replica_epoch_acceptor(&node->at.epoch, to) >= 0)
        replica_coordinator_send_entry(node, replica_bit(to.peer));
}

void replica_learner_answer(struct replica *node,
                            const struct replica_message *message)
{
    int order = replica_instance_compare(message->instance, node->at.next);
    bool answers = false;
    size_t first =
        node->kept_count > REPLICA_KEPT ? node->kept_count - REPLICA_KEPT : 0;

    if (order > 0) {
        replica_learner_ask(node, replica_bit(message->from.peer));
        return;
    }
    if (order == 0) {
        repeat_entry(node, message->from);
        return;
    }
    if (node->params.takeover)
        return;
    for (size_t i = first; i < node->kept_count; i++) {
        const struct replica_kept *kept = &node->kept[i % REPLICA_KEPT];
        struct replica_message answer;
        if (replica_instance_compare(kept->instance, message->instance) == 0)
            answers = true;
        if (!answers)
            continue;
        answer = replica_message_for(node, REPLICA_DECISION);
        answer.instance = kept->instance;
        answer.previous = kept->previous;
        answer.epoch = kept->epoch;
        replica_value_copy(&answer.value, &kept->value, node->params.records);
        replica_reply(node, message->from, &answer);
    }
    if (!answers)
        answer_position(node, message);
    repeat_entry(node, message->from); // it came too early there
}

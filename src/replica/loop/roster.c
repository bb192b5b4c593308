// SPDX-License-Identifier: BSD-3-Clause
// Who takes part: who is thought dead, and what the next epoch should be. It
// proposes; the state machine decides.
#include <string.h>
#include <time.h>

#include "replica/loop/record.h"

// One that joins is waited for, a step: no longer than half of what the others
// wait for this replica, and than this.
#define JOIN_WAIT_US 500000
// And in all, for one incarnation that does not come to it.
#define JOIN_WAIT_ALL_US 5000000

// Gives the state machine a message that this process has made itself.
void loop_hear(struct replica_loop *loop, const struct replica_message *message)
{
    uint8_t bytes[REPLICA_MESSAGE_MAX];
    struct replica_event event = {.kind = REPLICA_EVENT_MESSAGE,
                                  .bytes = bytes};

    event.length = replica_message_encode(message, loop->params.records, bytes);
    loop_handle(loop, &event);
}

// Another has this one's place: what others send reaches that one alone.
static void give_way(struct replica_loop *loop, uint64_t incarnation)
{
    struct replica_message fence =
        replica_message_for(loop->node, REPLICA_FENCE);

    fence.from.incarnation = incarnation;
    fence.held = incarnation;
    loop_hear(loop, &fence);
}

uint64_t loop_who_is_there(const struct replica_loop *loop,
                           uint64_t incarnations[REPLICA_PEERS_MAX])
{
    uint64_t there = replica_bit(loop->params.self.peer);

    memset(incarnations, 0, REPLICA_PEERS_MAX * sizeof(incarnations[0]));
    incarnations[loop->params.self.peer] = loop->params.self.incarnation;
    for (uint16_t i = 0; i < loop_peer_count(loop); i++) {
        struct replica_peers_beat beat;
        if (i != loop->params.self.peer && (loop->dead & replica_bit(i)) == 0 &&
            replica_peers_heard(loop->peers, i, &incarnations[i], &beat) &&
            beat.root != 0)
            there |= replica_bit(i);
    }
    return there;
}

static uint64_t replicas_of(const struct replica_loop *loop, uint64_t set)
{
    return set & (replica_bit(loop->params.replicas) - 1);
}

void loop_choose_acceptors(const struct replica_loop *loop, uint64_t there,
                           const uint64_t *incarnations,
                           struct replica_epoch *epoch)
{
    uint64_t replicas = replicas_of(loop, there);
    const uint64_t kinds[] = {there & ~replicas, replicas};
    uint32_t count = (uint32_t)replica_set_size(there);
    struct replica_name chosen[REPLICA_ACCEPTORS_MAX];
    uint32_t filled = 0;

    if (count > loop->params.acceptors)
        count = loop->params.acceptors;
    count -= count % 2 == 0;
    for (uint32_t i = 0; i < epoch->acceptor_count && filled < count; i++) {
        struct replica_name name = epoch->acceptors[i];
        if ((there & replica_bit(name.peer)) == 0)
            continue;
        there &= ~replica_bit(name.peer);
        name.incarnation = incarnations[name.peer];
        chosen[filled++] = name;
    }
    for (int kind = 0; kind < 2; kind++)
        for (uint64_t rest = kinds[kind] & there; rest != 0 && filled < count;
             rest &= rest - 1) {
            uint16_t peer = (uint16_t)__builtin_ctzll(rest);
            chosen[filled++] =
                (struct replica_name){peer, 0, incarnations[peer]};
        }
    epoch->acceptor_count = filled;
    memset(epoch->acceptors, 0, sizeof(epoch->acceptors));
    memcpy(epoch->acceptors, chosen, filled * sizeof(chosen[0]));
}

void loop_name_members(const struct replica_loop *loop, uint64_t there,
                       const uint64_t *incarnations,
                       struct replica_epoch *epoch)
{
    epoch->members = replicas_of(loop, there);
    memset(epoch->incarnations, 0, sizeof(epoch->incarnations));
    for (uint64_t rest = epoch->members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        epoch->incarnations[peer] = incarnations[peer];
    }
}

// Never fewer than before: then they stay.
static void name_acceptors(const struct replica_loop *loop, uint64_t there,
                           const uint64_t *incarnations,
                           struct replica_epoch *epoch)
{
    struct replica_epoch next = *epoch;

    loop_choose_acceptors(loop, there, incarnations, &next);
    if (next.acceptor_count >= epoch->acceptor_count)
        *epoch = next;
}

static void say_where_it_is(struct replica_loop *loop)
{
    struct replica_peers_beat beat = {.located = loop->node->located,
                                      .root = loop->params.self.incarnation};
    struct replica_peers_beat of_root;

    if (loop->params.self.peer != 0 &&
        !replica_peers_heard(loop->peers, 0, &beat.root, &of_root))
        beat.root = UINT64_MAX; // not known
    replica_peers_beat(loop->peers, beat);
}

bool loop_is_of_the_past(struct replica_loop *loop, const uint8_t *bytes,
                         size_t length)
{
    struct replica_message message;
    struct replica_peers_beat beat;
    uint64_t incarnation;

    if (loop->node->params.group == 0)
        return true; // a witness that knows nobody
    if (loop->node->located)
        return false; // the state machine knows
    return replica_message_decode(bytes, length, loop->params.records,
                                  &message) &&
           (message.from.peer >= loop_peer_count(loop) ||
            !replica_peers_heard(loop->peers, message.from.peer, &incarnation,
                                 &beat) ||
            message.from.incarnation < incarnation);
}

// ---------------------------------------------------------------------- later

static uint64_t next_revision(const struct replica_loop *loop)
{
    struct timespec now;
    uint64_t clock;

    clock_gettime(CLOCK_REALTIME, &now);
    clock = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return clock > loop->revision ? clock : loop->revision + 1;
}

// Whether enough acceptors are heard: else it is this process that is cut off.
static bool hears_a_quorum(const struct replica_epoch *epoch, uint64_t there)
{
    return replica_set_size(replica_epoch_acceptors(epoch) & there) >=
           replica_epoch_quorum(epoch);
}

// One process may think others dead that are not. So a member is left out only
// once a count has been decided without it.
static void keep_counted(const struct replica_loop *loop, uint64_t *there,
                         uint64_t *incarnations)
{
    const struct replica_epoch *epoch = &loop->node->at.epoch;
    uint64_t kept = loop->counted & epoch->members & ~*there;

    *there |= kept;
    for (; kept != 0; kept &= kept - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(kept);
        incarnations[peer] = epoch->incarnations[peer];
    }
}

static void propose(struct replica_loop *loop)
{
    struct replica_epoch next = loop->node->at.epoch;
    struct replica_event event = {.kind = REPLICA_EVENT_PROPOSAL,
                                  .epoch = &next};
    uint64_t incarnations[REPLICA_PEERS_MAX];
    uint64_t there = loop_who_is_there(loop, incarnations);

    if (!hears_a_quorum(&next, there))
        return;
    keep_counted(loop, &there, incarnations);
    loop_name_members(loop, there, incarnations, &next);
    name_acceptors(loop, there, incarnations, &next);
    if (replica_epoch_same(&next, &loop->proposed))
        return;
    loop->revision = next_revision(loop);
    next.revision = loop->revision;
    loop->proposed = next;
    loop_handle(loop, &event);
}

// A witness votes for whatever model there is.
static void learn_layout(struct replica_loop *loop)
{
    struct replica_params *node = &loop->node->params;

    if (node->group == 0 &&
        replica_peers_layout(loop->peers, &node->group, &node->records))
        loop->params.records = node->records;
}

static void take_event(struct replica_loop *loop,
                       const struct quorum_event *event)
{
    const struct quorum_member *member = &event->member;
    struct replica_event lineage = {.kind = REPLICA_EVENT_LINEAGE,
                                    .position = &event->record.position};

    switch (event->kind) {
    case QUORUM_SEEN:
        loop->force.registered[member->peer] = member->incarnation;
        replica_peers_know(loop->peers, member->peer, member->incarnation,
                           member->address, member->address_bytes,
                           loop->now_us);
        break;
    case QUORUM_GONE:
        loop->force.registered[member->peer] = 0;
        replica_peers_hint(loop->peers, member->peer);
        break;
    case QUORUM_FENCED:
        give_way(loop, member->incarnation);
        break;
    case QUORUM_LINEAGE:
        loop_handle(loop, &lineage);
        break;
    case QUORUM_FORCE:
        loop->force.ends = event->ends;
        core_log(loop->params.log, TALLY_LOG_WARN,
                 "replica %u: lineage %u is to end, by the operator's word, "
                 "once no quorum is heard",
                 (unsigned)loop->params.self.peer, (unsigned)event->ends);
        break;
    case QUORUM_ANSWER:
        loop_answered(loop, event);
        break;
    case QUORUM_PROVIDER:
        core_log(loop->params.log,
                 event->status == TALLY_OK ? TALLY_LOG_INFO : TALLY_LOG_WARN,
                 "membership %s%s",
                 event->status == TALLY_OK ? "can be reached again"
                                           : "cannot be reached: ",
                 event->sentence);
        if (event->status != TALLY_OK)
            recorder_add(loop->params.recorder, RECORDER_PROVIDER, 1);
        break;
    }
}

static void take_news(struct replica_loop *loop)
{
    struct quorum_event event;

    while (quorum_next(loop->params.quorum, &event))
        take_event(loop, &event);
}

// Members of which a later start is there: those are gone, whoever is heard.
static uint64_t replaced(const struct replica_loop *loop)
{
    const struct replica_epoch *epoch = &loop->node->at.epoch;
    uint64_t set = 0;

    for (uint64_t rest = epoch->members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        struct replica_peers_beat beat;
        uint64_t incarnation;
        if (peer != loop->params.self.peer &&
            replica_peers_heard(loop->peers, peer, &incarnation, &beat) &&
            incarnation > epoch->incarnations[peer])
            set |= replica_bit(peer);
    }
    return set;
}

static void suspect(const struct replica_loop *loop, uint64_t peers)
{
    if (peers == 0)
        return;
    recorder_add(loop->params.recorder, RECORDER_SUSPECTED,
                 (uint64_t)replica_set_size(peers));
    core_log(loop->params.log, TALLY_LOG_INFO,
             "replica %u: thought gone: 0x%llx",
             (unsigned)loop->params.self.peer, (unsigned long long)peers);
}

void loop_look_at_peers(struct replica_loop *loop)
{
    struct replica_event suspects = {.kind = REPLICA_EVENT_SUSPECTS};

    take_news(loop);
    learn_layout(loop);
    say_where_it_is(loop);
    loop->dead = replica_peers_check(loop->peers, loop->now_us);
    suspects.peers = loop->dead | replaced(loop);
    record_view(loop);
    if (suspects.peers != loop->suspects) {
        suspect(loop, suspects.peers & ~loop->suspects);
        loop->suspects = suspects.peers;
        loop_handle(loop, &suspects);
    }
    if (!loop->node->located && loop->params.self.peer == 0)
        loop_consider_beginning(loop);
    if (!loop->node->located || loop->params.witness)
        return;
    propose(loop);
    loop_consider_force(loop);
}

// ------------------------------------------------------------- one that joins

// Replicas that are there, and could be named once they hold the model.
static uint64_t joining(const struct replica_loop *loop)
{
    const struct replica_epoch *epoch = &loop->node->at.epoch;
    struct replica_epoch next;
    uint64_t named = replica_epoch_proposal(loop->node, &next) ? next.members
                                                               : epoch->members;
    uint64_t set = 0;

    for (uint64_t rest = loop->proposed.members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        if (!replica_epoch_member(epoch, peer,
                                  loop->proposed.incarnations[peer]) &&
            (named & replica_bit(peer)) == 0)
            set |= replica_bit(peer);
    }
    return set;
}

bool loop_waits_for_joiner(struct replica_loop *loop)
{
    int64_t limit_us = loop->params.decide_after_us / 2;
    bool waits = false;

    if (limit_us > JOIN_WAIT_US)
        limit_us = JOIN_WAIT_US;
    for (uint64_t rest = joining(loop); rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        uint64_t incarnation = loop->proposed.incarnations[peer];
        if (loop->joiners[peer] != incarnation) {
            loop->joiners[peer] = incarnation;
            loop->waited_us[peer] = 0;
        }
        if (loop->waited_us[peer] >= JOIN_WAIT_ALL_US)
            continue;
        if (loop->now_us - loop->offered_us < limit_us)
            waits = true;
        else
            loop->waited_us[peer] += limit_us;
    }
    return waits;
}

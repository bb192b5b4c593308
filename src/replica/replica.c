// SPDX-License-Identifier: BSD-3-Clause
// The state machine's door: events in, actions out, and which message may reach
// which role. The roles decide; this decides only who is asked.
#include "replica/node.h"

#include <assert.h>
#include <string.h>

size_t replica_memory(void)
{
    return sizeof(struct replica);
}

struct replica *replica_open(void *memory, const struct replica_params *params)
{
    struct replica *node = memory;

    assert(params->records >= 1 && params->records <= REPLICA_RECORDS_MAX);
    assert(params->self.peer < REPLICA_PEERS_MAX && params->minimum >= 1);
    assert(params->attempts >= 1 && params->attempts < REPLICA_KEPT - 2);
    assert(!params->takeover || params->self.rank != 0);
    memset(node, 0, offsetof(struct replica, forced));
    node->params = *params;
    node->own = params->own;
    node->lead_at = INT64_MAX;
    node->timer_at = INT64_MAX;
    if (params->position != NULL)
        replica_learner_locate(node, params->position);
    node->params.position = NULL;
    node->action_count = 0;
    return node;
}

struct replica_action *replica_act(struct replica *node,
                                   enum replica_action_kind kind)
{
    // The last place is for what is not needed any more.
    struct replica_action *action = &node->actions[node->action_count];

    if (node->action_count < REPLICA_ACTIONS_MAX - 1)
        node->action_count++;
    *action = (struct replica_action){.kind = kind, .instance = node->at.next};
    return action;
}

void replica_report(struct replica *node, enum replica_status status,
                    uint64_t peers)
{
    struct replica_action *action = replica_act(node, REPLICA_ACTION_REPORT);

    action->status = status;
    action->peers = peers;
}

struct replica_message replica_message_for(const struct replica *node,
                                           enum replica_message_kind kind)
{
    struct replica_message message;

    // The union is not cleared: it is large, and kinds write what they use.
    memset(&message, 0, offsetof(struct replica_message, entry));
    message.kind = (uint8_t)kind;
    message.from = node->params.self;
    message.group = node->params.group;
    message.lineage = node->at.epoch.lineage;
    message.epoch = node->at.epoch.number;
    message.instance = node->at.next;
    message.previous = node->at.previous;
    return message;
}

static void send_to(struct replica *node, uint64_t peers, uint16_t rank,
                    bool later, const struct replica_message *message)
{
    uint8_t *bytes = &node->outbox[node->outbox_used];

    if (peers == 0 ||
        node->outbox_used + REPLICA_MESSAGE_MAX > sizeof(node->outbox))
        return; // as if the network had lost it
    struct replica_action *action = replica_act(node, REPLICA_ACTION_SEND);
    action->peers = peers;
    action->rank = rank;
    action->later = later;
    action->bytes = bytes;
    action->length =
        replica_message_encode(message, node->params.records, bytes);
    node->outbox_used += action->length;
}

void replica_send(struct replica *node, uint64_t peers,
                  const struct replica_message *message)
{
    send_to(node, peers, 0, false, message);
}

void replica_send_later(struct replica *node, uint64_t peers,
                        const struct replica_message *message)
{
    send_to(node, peers, 0, true, message);
}

void replica_reply(struct replica *node, struct replica_name to,
                   const struct replica_message *message)
{
    send_to(node, replica_bit(to.peer), to.rank, false, message);
}

uint64_t replica_everybody(const struct replica *node)
{
    return (node->at.epoch.members | replica_epoch_acceptors(&node->at.epoch) |
            node->joining) &
           ~replica_bit(node->params.self.peer);
}

int replica_acceptor_place(const struct replica *node)
{
    if (!node->located || node->sealed)
        return -1;
    return replica_epoch_acceptor(&node->at.epoch, node->params.self);
}

// What says that this process belongs to the past.
static bool is_evidence(struct replica *node,
                        const struct replica_message *message)
{
    bool newer = message->from.peer == node->params.self.peer &&
                 message->from.incarnation > node->params.self.incarnation;

    if (message->kind == REPLICA_FENCE)
        newer = newer || message->held > node->params.self.incarnation;
    if (newer)
        replica_coordinator_fence(node);
    if (node->located && message->lineage > node->at.epoch.lineage) {
        // The provider will say what follows.
        if (!node->sealed)
            replica_report(node, REPLICA_STATUS_SEALED, 0);
        node->sealed = true;
        node->sealed_by = (struct replica_name){0};
        return true;
    }
    return newer;
}

// Tells a process of an older lineage, or an older incarnation of a member.
static bool is_stale(struct replica *node,
                     const struct replica_message *message)
{
    const struct replica_epoch *epoch = &node->at.epoch;
    uint16_t peer = message->from.peer;

    // Who knows nothing yet has no lineage.
    if ((message->lineage == epoch->lineage || message->lineage == 0) &&
        message->from.incarnation >= epoch->incarnations[peer])
        return false;
    struct replica_message fence = replica_message_for(node, REPLICA_FENCE);
    fence.held = epoch->incarnations[peer];
    replica_reply(node, message->from, &fence);
    return true;
}

// Messages about one decision.
static void handle_instance(struct replica *node,
                            const struct replica_message *message)
{
    static void (*const roles[REPLICA_MESSAGE_KINDS])(
        struct replica *, const struct replica_message *) = {
        [REPLICA_ENTRY] = replica_acceptor_entry,
        [REPLICA_VOTE] = replica_learner_vote,
        [REPLICA_PREPARE] = replica_acceptor_prepare,
        [REPLICA_PROMISE] = replica_leader_promise,
        [REPLICA_ACCEPT] = replica_acceptor_accept,
        [REPLICA_REFUSED] = replica_leader_refused,
        [REPLICA_DECISION] = replica_learner_decision,
    };
    int order = replica_instance_compare(message->instance, node->at.next);

    if (node->sealed)
        return;
    if (order < 0) {
        // Below the low-water mark there is nothing to promise or accept.
        if (message->kind == REPLICA_ENTRY ||
            message->kind == REPLICA_PREPARE || message->kind == REPLICA_ACCEPT)
            replica_learner_answer(node, message);
        return;
    }
    if (order > 0) {
        struct replica_message ask = replica_message_for(node, REPLICA_ASK);
        replica_reply(node, message->from, &ask);
        return;
    }
    if (message->previous != node->at.previous ||
        message->epoch != node->at.epoch.number) {
        replica_report(node, REPLICA_STATUS_REFUSED,
                       replica_bit(message->from.peer));
        return;
    }
    roles[message->kind](node, message);
}

static void handle_message(struct replica *node, const uint8_t *bytes,
                           size_t length)
{
    struct replica_message message;

    if (!replica_message_decode(bytes, length, node->params.records,
                                &message) ||
        message.group != node->params.group) {
        replica_report(node, REPLICA_STATUS_REFUSED, 0);
        return;
    }
    if (is_evidence(node, &message))
        return;
    if (message.kind == REPLICA_POSITION) {
        replica_learner_position(node, &message);
        return;
    }
    if (!node->located || is_stale(node, &message))
        return;
    replica_lineage_heed(node, message.from);
    switch (message.kind) {
    case REPLICA_ASK:
        replica_learner_answer(node, &message);
        break;
    case REPLICA_JOIN:
        replica_epoch_join(node, &message);
        break;
    case REPLICA_SEAL:
        replica_lineage_seal(node, &message);
        break;
    case REPLICA_SEALED:
        replica_lineage_sealed(node, &message);
        break;
    case REPLICA_FENCE:
        break;
    default:
        handle_instance(node, &message);
    }
}

// What waits is sent again; who waits for nothing asks what it has missed.
static void tick(struct replica *node)
{
    bool waits = node->entered || node->forcing || !node->located;

    node->tick_at =
        node->now + (waits ? node->params.retry_us : node->params.idle_us);
    if (node->fenced && replica_acceptor_place(node) < 0)
        return;
    if (node->forcing)
        replica_lineage_repeat(node);
    if (node->sealed)
        return;
    if (node->entered)
        replica_coordinator_send_entry(
            node, replica_epoch_acceptors(&node->at.epoch));
    else
        replica_learner_ask(node, node->located ? replica_everybody(node)
                                                : node->params.peers);
    replica_coordinator_lags(node);
    replica_epoch_announce(node);
}

static void handle_suspects(struct replica *node, uint64_t suspects)
{
    int lost =
        replica_set_size(suspects & replica_epoch_acceptors(&node->at.epoch));

    node->suspects = suspects;
    if (!node->located)
        return;
    if (lost >= replica_epoch_quorum(&node->at.epoch))
        replica_report(node, REPLICA_STATUS_STOPPED, suspects);
    replica_leader_consider(node);
}

static void handle(struct replica *node, const struct replica_event *event)
{
    switch (event->kind) {
    case REPLICA_EVENT_MESSAGE:
        handle_message(node, event->bytes, event->length);
        break;
    case REPLICA_EVENT_TIMER:
        if (node->now >= node->tick_at)
            tick(node);
        if (node->now >= node->lead_at)
            replica_leader_start(node);
        break;
    case REPLICA_EVENT_CONTRIBUTION:
        replica_coordinator_contribute(node, event->records);
        break;
    case REPLICA_EVENT_ACKNOWLEDGED:
        replica_apply_acknowledged(node, event->decision, event->scaled);
        break;
    case REPLICA_EVENT_GRADIENT:
        replica_apply_gradient(node, event->decision, event->vote);
        break;
    case REPLICA_EVENT_RESTORED:
        replica_coordinator_restored(node, event->state);
        break;
    case REPLICA_EVENT_PROPOSAL:
        node->has_proposal = true;
        node->proposal = *event->epoch;
        break;
    case REPLICA_EVENT_SUSPECTS:
        handle_suspects(node, event->peers);
        break;
    case REPLICA_EVENT_RANK_LOST:
        replica_coordinator_rank_lost(node);
        break;
    case REPLICA_EVENT_ASK:
        replica_report(node, REPLICA_STATUS_IN_DOUBT, 0);
        if (node->located)
            replica_learner_ask(node, replica_everybody(node));
        break;
    case REPLICA_EVENT_FORCE:
        replica_lineage_force(node, event->epoch);
        break;
    case REPLICA_EVENT_LINEAGE:
        replica_lineage_adopt(node, event->position);
        break;
    }
}

// What it sends to itself needs no network.
static void handle_own(struct replica *node)
{
    uint64_t self = replica_bit(node->params.self.peer);

    for (size_t i = 0; i < node->action_count; i++) {
        struct replica_action *action = &node->actions[i];
        if (action->kind != REPLICA_ACTION_SEND ||
            (action->peers & self) == 0 ||
            action->rank != node->params.self.rank)
            continue;
        action->peers &= ~self;
        handle_message(node, action->bytes, action->length);
    }
}

const struct replica_action *replica_handle(struct replica *replica,
                                            const struct replica_event *event,
                                            int64_t now, size_t *count)
{
    assert(now >= replica->now);
    replica->now = now;
    replica->action_count = 0;
    replica->outbox_used = 0;
    handle(replica, event);
    handle_own(replica);

    int64_t next = replica->tick_at < replica->lead_at ? replica->tick_at
                                                       : replica->lead_at;
    if (next != replica->timer_at || event->kind == REPLICA_EVENT_TIMER) {
        replica->timer_at = next;
        replica_act(replica, REPLICA_ACTION_TIMER)->at_us = next;
    }
    *count = replica->action_count;
    return replica->actions;
}

const struct replica_position *replica_position(const struct replica *replica)
{
    return replica->located ? &replica->at : NULL;
}

bool replica_snapshot(const struct replica *replica,
                      struct replica_state *state)
{
    if (!replica_coordinator_is_current(replica) || replica->fenced ||
        replica->ending)
        return false;
    *state = replica->own;
    return true;
}

const char *replica_status_name(enum replica_status status)
{
    static const char *const names[] = {
        [REPLICA_STATUS_OPEN] = "OPEN",
        [REPLICA_STATUS_LAGGING] = "LAGGING",
        [REPLICA_STATUS_WAITING] = "WAITING",
        [REPLICA_STATUS_IN_DOUBT] = "IN-DOUBT",
        [REPLICA_STATUS_FENCED] = "FENCED",
        [REPLICA_STATUS_ROLLED_BACK] = "ROLLED_BACK",
        [REPLICA_STATUS_SEALED] = "SEALED",
        [REPLICA_STATUS_UNLISTED] = "UNLISTED",
        [REPLICA_STATUS_EPOCH] = "EPOCH",
        [REPLICA_STATUS_CONFLICT] = "CONFLICT",
        [REPLICA_STATUS_REFUSED] = "REFUSED",
        [REPLICA_STATUS_RETIRED] = "RETIRED",
        [REPLICA_STATUS_STOPPED] = "STOPPED",
    };

    return names[status];
}

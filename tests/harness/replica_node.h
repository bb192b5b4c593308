// SPDX-License-Identifier: BSD-3-Clause
// A single state machine of a replica group, for tests that play a schedule on
// it: what it hears from others, and what it does.
#ifndef HARNESS_REPLICA_NODE_H
#define HARNESS_REPLICA_NODE_H

#include <stdlib.h>
#include <string.h>

#include "replica/node.h"

// Peer 2 is a witness.
static inline struct replica *opened(uint16_t peer, uint64_t incarnation,
                                     const struct replica_position *position)
{
    struct replica_params params = {
        .self = {peer, 0, incarnation},
        .witness = peer == 2,
        .records = 1,
        .minimum = 1,
        .attempts = 3,
        .position = position,
        .peers = 7,
        .decide_after_us = 10,
        .apply_after_us = 100,
        .stagger_us = 10,
        .retry_us = 1000,
        .idle_us = 1000,
    };

    return replica_open(malloc(replica_memory()), &params);
}

// One for which nothing is due for so long, but a leader's stagger.
static inline struct replica *idle_node(struct replica_name self,
                                        const struct replica_position *position,
                                        int64_t stagger_us, int64_t later_us)
{
    struct replica_params params = {
        .self = self,
        .records = 1,
        .minimum = 1,
        .attempts = 3,
        .position = position,
        .decide_after_us = later_us,
        .apply_after_us = later_us,
        .stagger_us = stagger_us,
        .retry_us = later_us,
        .idle_us = later_us,
    };

    return replica_open(malloc(replica_memory()), &params);
}

static inline struct replica_message from(uint16_t peer, uint64_t incarnation,
                                          enum replica_message_kind kind,
                                          const struct replica_position *at)
{
    struct replica_message message;

    memset(&message, 0, sizeof(message));
    message.kind = (uint8_t)kind;
    message.from = (struct replica_name){peer, 0, incarnation};
    message.lineage = at->epoch.lineage;
    message.epoch = at->epoch.number;
    message.instance = at->next;
    message.previous = at->previous;
    return message;
}

static inline const struct replica_action *
hears(struct replica *node, const struct replica_message *message,
      size_t *count)
{
    uint8_t bytes[REPLICA_MESSAGE_MAX];
    struct replica_event event = {.kind = REPLICA_EVENT_MESSAGE,
                                  .bytes = bytes};

    event.length = replica_message_encode(message, 1, bytes);
    return replica_handle(node, &event, node->now + 1, count);
}

// Tells a node the decision that is next for it.
static inline const struct replica_action *
learns(struct replica *node, struct replica_position *at, uint8_t kind,
       uint64_t members, size_t *count)
{
    struct replica_message message = from(1, 2, REPLICA_DECISION, at);

    message.value.kind = kind;
    message.value.members = members;
    message.value.digest =
        replica_value_digest(&message.value, at->next, at->previous, 1);
    replica_position_advance(at, &message.value);
    return hears(node, &message, count);
}

static inline bool reports(const struct replica_action *actions, size_t count,
                           enum replica_status status)
{
    for (size_t i = 0; i < count; i++)
        if (actions[i].kind == REPLICA_ACTION_REPORT &&
            actions[i].status == status)
            return true;
    return false;
}

static inline const struct replica_action *
action_of(const struct replica_action *actions, size_t count,
          enum replica_action_kind kind)
{
    for (size_t i = 0; i < count; i++)
        if (actions[i].kind == kind)
            return &actions[i];
    return NULL;
}

static inline bool acts(const struct replica_action *actions, size_t count,
                        enum replica_action_kind kind)
{
    return action_of(actions, count, kind) != NULL;
}

// Whether a message of that kind goes to just these peers.
static inline bool sends(const struct replica_action *actions, size_t count,
                         enum replica_message_kind kind, uint64_t peers)
{
    struct replica_message message;

    for (size_t i = 0; i < count; i++)
        if (actions[i].kind == REPLICA_ACTION_SEND &&
            actions[i].peers == peers &&
            replica_message_decode(actions[i].bytes, actions[i].length, 1,
                                   &message) &&
            message.kind == kind)
            return true;
    return false;
}

#endif

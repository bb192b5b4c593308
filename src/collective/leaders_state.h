// SPDX-License-Identifier: BSD-3-Clause
// The inside of leaders.h, for the two files that make and run them.
#ifndef COLLECTIVE_LEADERS_STATE_H
#define COLLECTIVE_LEADERS_STATE_H

#include <assert.h>

#include "collective/leaders.h"

#define SEQUENCE_BITS 20
#define STAGE_BITS 6
#define SENDER_BITS 22

#define MESSAGE_MAGIC 0x54616c31u // "Tal1": layout and byte order

#define SEND_BUFFERS 2

struct message {
    uint32_t magic;
    uint32_t sender;
    uint64_t sequence;
    int64_t lanes[];
};

struct stage {
    struct schedule_step step; // peers are ranks of the group here
    size_t first_send;         // index of its requests
    size_t first_receive;      // index of its requests and messages
};

// One piece of memory with all that the transport is given.
struct mailbox {
    struct links_kept kept;
    size_t send_count; // of one reduction
    size_t receive_count;
    tally_request_t *sends;    // [SEND_BUFFERS][send_count]
    tally_request_t *receives; // [receive_count]
    unsigned char *sent;       // [SEND_BUFFERS][stage_count] messages
    unsigned char *received;   // [receive_count] messages
};

struct leaders {
    struct links *links;
    const struct tally_transport_ops *ops;
    tally_transport_t *transport;
    int32_t rank;
    uint16_t tag_space;
    uint32_t records;
    uint32_t max_lanes;
    uint32_t message_bytes;
    size_t message_stride;
    struct mailbox *mailbox;
    uint64_t sequence;
    tally_status_t failure; // of start
    int32_t failed;         // rank at fault; -1: none
    int32_t stage;          // under way
    bool connecting;        // first reduction: see descriptors.h
    bool sent;              // its messages were given to the transport
    uint32_t missing;       // bit i: receive_from[i] of it is to come
    int32_t confirmed;      // in stages below it all sends are complete
    int32_t stage_count;
    struct stage stages[];
};

static_assert(SCHEDULE_PEERS_MAX <= 32, "a bit a peer");
static_assert(16 + SEQUENCE_BITS + STAGE_BITS + SENDER_BITS == 64, "a tag");
static_assert(SCHEDULE_FACTORS_MAX + 2 <= 1 << STAGE_BITS, "stages fit");

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Messages are packed: what goes to a peer at once is one packet, of messages,
// each behind its length. Here are the buffers of packets, and the queue of
// what goes to one incarnation. It knows of no peers and no connections.
#ifndef REPLICA_LOOP_PACKETS_H
#define REPLICA_LOOP_PACKETS_H

#include <stdbool.h>
#include <tally/transport.h>

#include "replica/message.h"

#define REPLICA_PACKET_LENGTH_BYTES 2
#define REPLICA_PACKET_MAX (REPLICA_PACKET_LENGTH_BYTES + REPLICA_MESSAGE_MAX)

struct replica_packet {
    tally_request_t request;
    bool posted;
    uint8_t bytes[REPLICA_PACKET_MAX];
};

static inline bool replica_packet_is_free(const struct replica_packet *packet)
{
    return !packet->posted || packet->request.status != TALLY_NOT_YET;
}

// Packets that are sent. Some transports keep the sends to one that is gone
// until they are closed, and with them the memory: so each incarnation has a
// bank, which another one may have when nothing of it is on its way.
struct replica_packet_bank;

void replica_packet_banks_free(struct replica_packet_bank *banks);

// All zeros: nothing can be added.
struct replica_packet_queue {
    struct replica_packet_bank *bank; // NULL: no memory, so all is lost
    struct replica_packet *packet;    // being filled; NULL: none
    size_t filled;
};

// For another incarnation: what was on its way to the last one is cancelled,
// and what was to go there is lost.
void replica_packet_queue_begin(struct replica_packet_queue *queue,
                                struct replica_packet_bank **banks,
                                const tally_transport_ops_t *ops,
                                tally_transport_t *transport);

// Whether a message fits into the packet that is being filled, or there is
// none.
bool replica_packet_queue_fits(const struct replica_packet_queue *queue,
                               size_t length);

// A message that fits. False: too much is on its way, it is lost.
bool replica_packet_queue_add(struct replica_packet_queue *queue,
                              const uint8_t *bytes, size_t length);

// Sends what was filled; endpoint NULL: there is none. False: it is lost.
bool replica_packet_queue_post(struct replica_packet_queue *queue,
                               const tally_transport_ops_t *ops,
                               tally_endpoint_t *endpoint, uint64_t tag);

// Takes the next message from what is left of a packet; NULL: there is none.
const uint8_t *replica_packet_take(const uint8_t **at, size_t *rest,
                                   size_t *length);

#endif

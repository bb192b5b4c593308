// SPDX-License-Identifier: BSD-3-Clause
// What the files of this folder share: the network and its ranks. There may be
// a hundred thousand of them, so nothing of a rank grows with their number.
#ifndef TRANSPORT_SIM_STATE_H
#define TRANSPORT_SIM_STATE_H

#include "transport/sim/heap.h"
#include "transport/sim/sim.h"

struct sim_message {
    struct sim_message *next;
    int64_t came_ns; // through the receiver's card
    uint64_t tag;
    int32_t source;
    uint32_t bytes;
    unsigned char data[];
};

// First in, first out.
struct sim_messages {
    struct sim_message *first;
    struct sim_message *last;
};

struct sim_receive {
    uint64_t tag;
    void *buffer;
    size_t room;
    tally_request_t *request;
};

struct tally_endpoint {
    tally_transport_t *transport;
    tally_endpoint_t *next; // of the transport
    int32_t peer;
    int64_t last_ns; // when the last message to it arrives
};

struct tally_transport {
    struct sim_network *network;
    int32_t rank;
    int64_t now_ns;      // its processor has done all it was given
    int64_t card_out_ns; // its card is free to send
    int64_t card_in_ns;  // its card is free to receive
    struct sim_messages inbox;
    struct sim_messages unexpected; // came before their receives
    struct sim_receive *receives;   // [receive_room], in order of posting
    size_t receive_room;
    tally_endpoint_t *endpoints;
    struct sim_counts counts; // posted: used of receives
};

struct sim_cut {
    int32_t source;
    int32_t destination;
    int64_t from_ns;
};

struct sim_network {
    int32_t size;
    struct sim_options options;
    struct sim_heap heap;
    int64_t now_ns;
    uint64_t random;
    uint64_t digest;
    struct sim_cut *cuts;
    size_t cut_count;
    tally_transport_t **transports; // [size]; NULL: not open
};

void sim_messages_put(struct sim_messages *messages,
                      struct sim_message *message);
void sim_messages_free(struct sim_messages *messages);

// What a message costs the processor of a rank, given the overhead of others.
int64_t sim_overhead_ns(const struct sim_network *network, int32_t rank,
                        int64_t overhead_ns);

// How long a card is busy with a message.
int64_t sim_card_ns(const struct sim_network *network, size_t bytes);

// Puts a message on its way, which is taken: it leaves the processor at
// left_ns. False: no memory, and nothing was done.
bool sim_message_carry(tally_endpoint_t *endpoint, struct sim_message *message,
                       int64_t left_ns);

void sim_transport_free(tally_transport_t *transport);

#endif

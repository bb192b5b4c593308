// SPDX-License-Identifier: BSD-3-Clause
// What stands behind plain.h, for the files that make it up.
#ifndef BOOTSTRAP_SIM_STATE_H
#define BOOTSTRAP_SIM_STATE_H

#include "bootstrap/sim/plain.h"
#include "transport/sim/heap.h"

enum state { STATE_FREE, STATE_LISTENING, STATE_CONNECTING, STATE_OPEN };

struct plain_socket {
    enum state state;
    uint32_t generation; // tells who had the same number before
    int32_t host;
    int32_t remote; // the host on the other side
    int peer;       // the socket on the other side; -1: not known yet
    uint32_t peer_generation;
    void *subject; // of watch
    uint32_t watched;
    bool listed; // on the host's list of what may be ready
    bool counted;
    bool ended; // the other side sends no more
    bool finished;
    int error;
    int tries;          // to connect
    int64_t arrives_ns; // what was sent last: bytes stay in order
    uint8_t *bytes;     // come, and not received
    size_t begin, end, room;
    int *queue; // of a listener
    int32_t queue_begin, queue_count;
};

enum kind { KIND_SYN, KIND_OPENED, KIND_REFUSED, KIND_BYTES, KIND_END };

// What is on its way. The heap holds it as its opaque message.
struct arrival {
    enum kind kind;
    int socket; // to which, or (SYN) of whom
    uint32_t generation;
    int peer; // OPENED: the other side's
    uint32_t peer_generation;
    size_t count;
    uint8_t bytes[];
};

struct host {
    struct network base;
    struct plain *plain;
    int32_t number;
    int64_t now_ns;  // its processor has done all that it was given
    int64_t wake_ns; // INT64_MAX: nothing is to happen
    int listener;
    int *ready; // sockets that may be
    int32_t ready_count, ready_room;
    struct plain_counts counts;
};

struct plain {
    struct plain_options options;
    uint64_t random;
    struct sim_heap heap;
    struct plain_socket *sockets;
    int socket_count, socket_room;
    int *idle; // numbers to be used again
    int idle_count, idle_room;
    bool out_of_memory;
    struct host hosts[];
};

extern const struct network_ops plain_ops; // calls.c

// flight.c
uint64_t plain_random(struct plain *plain);
void plain_wake_at(struct plain *plain, struct host *host, int64_t time_ns);
// From a host that has no connection to it yet.
void plain_send_syn(struct plain *plain, int64_t now_ns, int fd);
// To the other side of an open socket, in order, from `now_ns` on.
void plain_send_in_order(struct plain *plain, struct plain_socket *from,
                         int64_t now_ns, enum kind kind, const void *bytes,
                         size_t count);
// What was on its way is there.
void plain_arrive(struct plain *plain, int64_t time_ns,
                  const struct arrival *arrival);
// A number for a socket; -1: no memory.
int plain_socket_take(struct plain *plain, int32_t host, enum state state);
void plain_socket_give(struct plain *plain, int fd);
uint32_t plain_ready_events(const struct plain_socket *socket);
// It may be ready from this time on.
void plain_list(struct plain *plain, int fd, int64_t time_ns);

#endif

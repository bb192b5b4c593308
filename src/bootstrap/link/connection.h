// SPDX-License-Identifier: BSD-3-Clause
// One TCP connection that carries frames both ways, never blocking: what cannot
// be sent now is kept, what has come in part waits for the rest. It does not
// know what frames mean. One thread.
#ifndef BOOTSTRAP_LINK_CONNECTION_H
#define BOOTSTRAP_LINK_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bootstrap/link/network.h"
#include "bootstrap/link/wire.h"

struct connection_buffer {
    uint8_t *bytes;
    size_t begin, end, room; // begin..end is in use
};

struct connection {
    struct network *network; // borrowed
    int fd;
    int role;                        // the owner's
    int32_t rank;                    // of the other side; -1: not known
    uint8_t nonce[WIRE_NONCE_BYTES]; // sent, for the other side's MAC
    struct socket_place place;       // of the other side
    uint32_t body_max;
    bool connecting;
    bool broken;      // nothing more can be sent or received
    bool closing;     // to be closed once all is sent
    uint32_t watched; // the owner's: events of epoll
    int64_t since_us; // the owner's: when it came
    bool proven;      // the owner's: has answered a welcome
    struct connection_buffer in, out;
    struct connection *next; // the owner's list
};

struct connection_frame {
    struct wire_header header;
    const uint8_t *body; // borrowed, until the next call
};

enum connection_next {
    CONNECTION_FRAME,
    CONNECTION_NOTHING,
    CONNECTION_GARBAGE // these are no frames, or one is too long
};

// Takes the descriptor. NULL: no memory; the descriptor is closed.
struct connection *connection_create_take(struct network *network, int fd);
void connection_free(struct connection *connection);

// Sends a frame, or keeps it. Where that fails, the connection is broken.
void connection_send(struct connection *connection, enum wire_type type,
                     const void *body, size_t bytes);

// Sends what was kept.
void connection_flush(struct connection *connection);
bool connection_has_unsent(const struct connection *connection);

// Reads what has come, up to a bound; at the end of the stream the connection
// is broken, after what was read.
void connection_receive(struct connection *connection);

enum connection_next connection_next(struct connection *connection,
                                     struct connection_frame *frame);

#endif

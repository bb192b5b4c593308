// SPDX-License-Identifier: BSD-3-Clause
// How a coordinator, or a witness, reaches the others over a tagged transport,
// and which of them it thinks are alive. It knows addresses and heartbeats, and
// nothing of what the messages say.
//
// Thread contract: one thread at a time, whoever may call the transport (the
// holder of the progress lock).
#ifndef REPLICA_LOOP_PEERS_H
#define REPLICA_LOOP_PEERS_H

#include <poll.h>
#include <stdbool.h>
#include <tally/transport.h>

#include "core/log.h"
#include "replica/message.h"

// What a process tells others so that they reach it.
#define REPLICA_ADDRESS_BYTES_MAX 4096

struct replica_peers;

struct replica_peers_params {
    const tally_transport_ops_t *ops;
    tally_transport_t *transport; // of its own; open until free
    struct replica_name self;
    uint16_t count;   // of peers: numbers 0 to count - 1
    uint64_t layout;  // digest; 0: that of the first that it knows (a witness)
    uint32_t records; // with it
    int64_t heartbeat_us;
    uint32_t dead_after; // heartbeats that are missing
    const struct core_log *log;
    // A message from a peer; the bytes are valid within the call.
    void (*receive)(void *context, const uint8_t *bytes, size_t length);
    void *context;
};

// Posts the receives. Errors: MEMORY, those of the transport.
tally_status_t replica_peers_create(const struct replica_peers_params *params,
                                    struct replica_peers **out);
// After the transport is closed, which may use its buffers until then.
void replica_peers_free(struct replica_peers *peers);

// This process's address for the others. Errors: MEMORY, those of the
// transport.
tally_status_t replica_peers_address(struct replica_peers *peers, void *address,
                                     size_t *bytes);

// Where an incarnation of a peer is found. An older one than is known changes
// nothing; a newer one takes its place. Connects when something is sent.
void replica_peers_know(struct replica_peers *peers, uint16_t peer,
                        uint64_t incarnation, const void *address, size_t bytes,
                        int64_t now_us);

// Sends to a coordinator or witness, at the flush at the latest. What cannot be
// sent now is lost.
void replica_peers_send(struct replica_peers *peers, uint16_t peer,
                        const uint8_t *bytes, size_t length);
void replica_peers_flush(struct replica_peers *peers);

// With what else goes there, or when it is released.
void replica_peers_hold(struct replica_peers *peers, uint16_t peer,
                        const uint8_t *bytes, size_t length);
bool replica_peers_holds(const struct replica_peers *peers);
void replica_peers_release(struct replica_peers *peers);

// Takes what has come: calls `receive`, which may send.
void replica_peers_progress(struct replica_peers *peers, int64_t now_us);

// Heartbeats out, and who is thought dead: among those that are known.
uint64_t replica_peers_check(struct replica_peers *peers, int64_t now_us);

// When the next heartbeat goes out, or the next peer is thought dead if nothing
// comes from it: as of the last check, and after it.
int64_t replica_peers_due(const struct replica_peers *peers);

// A hint of the transport: one missing heartbeat less is enough then.
void replica_peers_hint(struct replica_peers *peers, uint16_t peer);

// What a heartbeat tells besides that its sender is alive.
struct replica_peers_beat {
    uint64_t located; // 1: it knows where the job is
    uint64_t root;    // the incarnation of peer 0 that it would begin with
};

// From now on.
void replica_peers_beat(struct replica_peers *peers,
                        struct replica_peers_beat beat);

// The incarnation of a peer that is known, and its last heartbeat; false: none
// is, or it is not to be talked to.
bool replica_peers_heard(const struct replica_peers *peers, uint16_t peer,
                         uint64_t *incarnation,
                         struct replica_peers_beat *beat);

// What all have in common, as far as it is known; false: it is not yet.
bool replica_peers_layout(const struct replica_peers *peers, uint64_t *layout,
                          uint32_t *records);

// Descriptors that become readable when a process of this host has ended: at
// most REPLICA_PEERS_MAX.
size_t replica_peers_pidfds(const struct replica_peers *peers,
                            struct pollfd *out);

#endif

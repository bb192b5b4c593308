// SPDX-License-Identifier: BSD-3-Clause
// A tagged transport between ranks of one process, which delays, reorders,
// fails and corrupts as a test asks. What it does depends on the seed and the
// calls of each rank alone. It is a network for tests, not a backend.
#ifndef HARNESS_FAKE_TRANSPORT_H
#define HARNESS_FAKE_TRANSPORT_H

#include <stdbool.h>
#include <tally/transport.h>

struct fake_network;

#define FAKE_NOBODY (-1)

struct fake_options {
    uint64_t seed;
    // A send completes after up to so many of the sender's calls of progress,
    // and its buffer is read only then. 0: at once.
    uint32_t send_delay_max;
    // Its request completes up to so many calls after it was read, and what was
    // read must be in the buffer still: counts.overwritten.
    uint32_t send_lag_max;
    // A message arrives after up to so many of the receiver's; those of one
    // sender stay in order, those of different ones do not.
    uint32_t arrival_delay_max;
    // Ranks to which something happens; FAKE_NOBODY.
    int32_t silent;       // its sends never complete, nothing of it arrives
    int32_t dead;         // sends to it complete with PEER
    int32_t unreachable;  // connect to it fails
    int32_t refusing;     // tsend to it fails
    int32_t garbling;     // its messages arrive as the next two say
    uint32_t garble_byte; // this one changed; beyond the end: none
    uint32_t garble_cut;  // so many bytes less at the end
    int32_t deaf;         // its trecv fails
    // Cancelled receives stay posted until close, as a real transport's may.
    bool keeps_cancelled;
    void (*arrived)(int32_t rank); // told of each message, if not NULL
    size_t message_max;
};

// Nothing happens.
struct fake_options fake_options_calm(uint64_t seed);

struct fake_network *fake_network_create(int32_t size,
                                         const struct fake_options *options);
void fake_network_free(struct fake_network *network);

// open() takes the network as host->context; this fills in a host.
const struct tally_transport_ops *
fake_network_ops(const struct fake_network *network);
tally_transport_t *fake_network_open(struct fake_network *network,
                                     int32_t rank);

// What a rank's open transport has seen.
struct fake_counts {
    int32_t connected;   // endpoints
    int32_t sent;        // messages
    int32_t posted;      // receives that wait
    int32_t late;        // messages that came into receives cancelled before
    int32_t overwritten; // sends whose buffer changed before they were complete
};
struct fake_counts fake_transport_counts(const tally_transport_t *transport);

#endif

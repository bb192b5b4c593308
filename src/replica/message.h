// SPDX-License-Identifier: BSD-3-Clause
// Messages between processes of replica groups, and their one layout on the
// wire: little-endian, fixed fields, no more and no fewer bytes than the kind
// asks for.
#ifndef REPLICA_MESSAGE_H
#define REPLICA_MESSAGE_H

#include "replica/table.h"

#define REPLICA_WIRE_VERSION 1
// An entry with a proposal, or a position, and all records; header included.
#define REPLICA_MESSAGE_MAX 6144

enum replica_message_kind {
    REPLICA_ENTRY = 1, // a contribution or a vote on the gradient, to acceptors
    REPLICA_VOTE,      // an acceptor accepted: round 0 to all, else its leader
    REPLICA_PREPARE,
    REPLICA_PROMISE,
    REPLICA_ACCEPT,
    REPLICA_REFUSED,  // promised to a higher ballot
    REPLICA_DECISION, // COMMIT, and the answer to what is late
    REPLICA_ASK,      // index 0: I know nothing
    REPLICA_POSITION, // TOO_OLD: go on from here
    REPLICA_JOIN,     // a learner holds this state
    REPLICA_SEAL,     // the lineage is to end
    REPLICA_SEALED,   // and this is my frontier
    REPLICA_FENCE,    // a newer incarnation or lineage exists
    REPLICA_MESSAGE_KINDS
};

struct replica_message {
    uint8_t kind;
    struct replica_name from;
    uint64_t group; // digest of the job's key and the model's layout
    uint32_t lineage;
    uint32_t epoch;
    struct replica_instance instance;
    uint64_t previous; // digest of the decision before it

    struct replica_ballot ballot;   // VOTE to REFUSED
    struct replica_ballot accepted; // PROMISE: of value; round 0 too
    bool has_value;                 // PROMISE: accepted and value are set
    uint64_t held; // PREPARE, PROMISE: entries; FENCE: the newer incarnation
    struct replica_state state; // the sender's: JOIN, SEALED, POSITION
    union {
        struct replica_entry entry;       // ENTRY
        struct replica_value value;       // VOTE, PROMISE, ACCEPT, DECISION
        struct replica_position position; // POSITION, without what is coming
        struct replica_epoch survivors;   // SEAL
    };
};

// Returns the length; `bytes` has REPLICA_MESSAGE_MAX.
size_t replica_message_encode(const struct replica_message *message,
                              uint32_t records, uint8_t *bytes);

// False, and nothing can be said of *out: not a whole message of this version
// and number of records, with every field in its range.
bool replica_message_decode(const uint8_t *bytes, size_t length,
                            uint32_t records, struct replica_message *out);

// Of a kind that was decoded.
const char *replica_message_name(uint8_t kind);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What is agreed on: epochs, positions in a lineage, and the values of
// decisions, with their digests. A value is a fold of the contribution table
// (table.h) and depends on nothing else.
#ifndef REPLICA_VALUE_H
#define REPLICA_VALUE_H

#include "numeric/record.h"
#include "replica/names.h"

// Who takes part, and who decides. Never changed once decided.
struct replica_epoch {
    uint32_t lineage;
    uint32_t number;
    uint64_t revision;       // of the provider's proposal that it came from
    uint64_t members;        // replicas
    uint32_t acceptor_count; // 2f + 1
    struct replica_name acceptors[REPLICA_ACCEPTORS_MAX];
    uint64_t incarnations[REPLICA_PEERS_MAX]; // of members, else 0
};

// The model's state: what was applied last (0: nothing yet), and a digest of
// all that was applied until then.
struct replica_state {
    uint64_t index;
    uint64_t digest;
};

// A place between decisions: what a process must know to go on from there.
struct replica_position {
    struct replica_epoch epoch;
    struct replica_instance next;
    uint64_t previous;          // digest of the decision before `next`
    struct replica_state group; // what a member that lags has not applied
    bool has_coming;
    struct replica_epoch coming; // from the next index on
};

enum replica_value_kind {
    REPLICA_COUNT = 1, // S and its totals
    REPLICA_ABORT,     // nobody counts in this index
    REPLICA_APPLY,     // G and N_G: the optimizer steps
    REPLICA_RETRY,     // the gradient is reduced again, over the smaller set
    REPLICA_DISCARD,   // nothing is applied in this index
};

struct replica_value {
    uint8_t kind;
    bool has_next;
    uint64_t members;          // S or G; 0 for ABORT and DISCARD
    uint64_t digest;           // chained to the decision before
    struct replica_epoch next; // from the next index on; all 0 if !has_next
    struct numeric_record totals[REPLICA_RECORDS_MAX]; // canonical
};

// Whether both name the same processes; number and revision aside.
bool replica_epoch_same(const struct replica_epoch *a,
                        const struct replica_epoch *b);

uint64_t replica_epoch_digest(uint64_t digest,
                              const struct replica_epoch *epoch);

// Acceptors that make a decision: f + 1.
static inline int replica_epoch_quorum(const struct replica_epoch *epoch)
{
    return (int)epoch->acceptor_count / 2 + 1;
}

// The place of an acceptor in its epoch; -1: it is none. A process that was
// started again has forgotten its votes and another incarnation, so it is none.
int replica_epoch_acceptor(const struct replica_epoch *epoch,
                           struct replica_name name);

bool replica_epoch_member(const struct replica_epoch *epoch, uint16_t peer,
                          uint64_t incarnation);

// The peers of acceptors.
uint64_t replica_epoch_acceptors(const struct replica_epoch *epoch);

// The peers of members and acceptors, and whether that start is one of them.
uint64_t replica_epoch_peers(const struct replica_epoch *epoch);
bool replica_epoch_names(const struct replica_epoch *epoch,
                         struct replica_name name);

uint64_t replica_records_digest(uint64_t digest,
                                const struct numeric_record *records,
                                uint32_t count);

// What value->digest must be.
uint64_t replica_value_digest(const struct replica_value *value,
                              struct replica_instance instance,
                              uint64_t previous, uint32_t records);

// Copies no more than `records` totals.
void replica_value_copy(struct replica_value *to,
                        const struct replica_value *from, uint32_t records);

static inline bool replica_value_ends_index(const struct replica_value *value)
{
    return value->kind != REPLICA_COUNT && value->kind != REPLICA_RETRY;
}

// The position after a decision at `position`.
void replica_position_advance(struct replica_position *position,
                              const struct replica_value *value);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The contribution table of one decision: at most one entry a replica, written
// once; and the folds that make a value of it. Whoever holds the same entries
// makes the same value, to the bit.
#ifndef REPLICA_TABLE_H
#define REPLICA_TABLE_H

#include "replica/value.h"

enum replica_vote {
    REPLICA_COUNTS = 1, // attempt 0: these are my totals
    REPLICA_READY,      // all my ranks hold the gradient over exactly G
    REPLICA_UNREADY,    // it failed, I can reduce it again over a smaller set
    REPLICA_OUT,        // a rank of mine has no scale: leave me out
    REPLICA_VETO,       // the trainer wants nothing applied
};

// What a replica says about one decision. Its content is frozen when it is
// made: two digests for one key are a fault of that replica.
struct replica_entry {
    uint16_t replica;
    uint64_t incarnation;
    uint64_t applied_through; // index - 1: what its model's state follows from
    uint8_t vote;
    bool has_proposal;
    struct replica_epoch proposal; // all 0 if !has_proposal
    struct numeric_record records[REPLICA_RECORDS_MAX]; // canonical
};

struct replica_table_entry {
    uint64_t incarnation;
    uint64_t digest;
    uint64_t applied_through;
    uint8_t vote;
    bool has_proposal;
    struct numeric_record records[REPLICA_RECORDS_MAX];
};

struct replica_table {
    uint64_t held;
    bool has_proposal;
    struct replica_epoch proposal; // the latest of all entries
    struct replica_table_entry entries[REPLICA_PEERS_MAX];
    // Of each entry that has one, for who must be told.
    struct replica_epoch proposals[REPLICA_PEERS_MAX];
};

enum replica_table_put {
    REPLICA_TABLE_NEW,
    REPLICA_TABLE_HELD,     // the same is there
    REPLICA_TABLE_CONFLICT, // another one is there, and stays
};

void replica_table_clear(struct replica_table *table);

enum replica_table_put replica_table_put(struct replica_table *table,
                                         const struct replica_entry *entry,
                                         uint32_t records);

// An entry that is held, as it came.
void replica_table_get(const struct replica_table *table, uint16_t replica,
                       uint32_t records, struct replica_entry *out);

uint64_t replica_entry_digest(const struct replica_entry *entry,
                              uint32_t records);

// What the fold goes by, beside the table.
struct replica_fold {
    const struct replica_position *at;
    uint64_t eligible; // members, or G
    uint32_t minimum;  // replicas that make a step
    uint32_t attempts; // to apply, before the step is discarded
    uint32_t records;
};

// The value of what is held: all of value but `digest` of an unfinished fold.
void replica_table_fold(const struct replica_table *table,
                        const struct replica_fold *fold,
                        struct replica_value *value);

#endif

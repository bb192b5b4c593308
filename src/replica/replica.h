// SPDX-License-Identifier: BSD-3-Clause
// One process of a job of replica groups: a replica's coordinator, what takes
// over from it, or a witness. A state machine, (state, event, now) -> actions:
// no I/O, no clock, no allocation after open, bounded memory, and the same
// actions for the same events. Whoever binds it moves messages, keeps the timer
// and carries out actions in their order; it may stop at any action for good.
//
// What it promises, assumes and does not cover is in doc/fault.md.
//
// Thread contract: one call at a time on one object. `now` never goes back.
#ifndef REPLICA_REPLICA_H
#define REPLICA_REPLICA_H

#include "replica/table.h"

struct replica;

struct replica_params {
    struct replica_name self;
    uint64_t group; // digest of the job's key and the model's layout
    bool witness;   // votes, and has no model
    // It follows a coordinator that is gone, on another rank: it learns, relays
    // and fences. It never contributes and is no acceptor.
    bool takeover;
    uint32_t records;  // 1 to REPLICA_RECORDS_MAX
    uint32_t minimum;  // replicas that make a step, >= 1
    uint32_t attempts; // to apply a step before it is discarded, 1 to 4
    // NULL: knows nothing, learns. Else where all that are named start, or what
    // the ranks of a takeover know.
    const struct replica_position *position;
    struct replica_state own; // the model's
    uint64_t peers;           // whom to ask as long as it knows of no epoch

    int64_t decide_after_us; // of the first entry, the slow path begins
    int64_t apply_after_us;  // of a COUNT or RETRY: longer than any gradient
    int64_t stagger_us;      // between leaders; above a round trip
    int64_t retry_us;        // what waits for an answer is sent again
    int64_t idle_us; // who waits for nothing asks what it may have missed
};

enum replica_event_kind {
    REPLICA_EVENT_MESSAGE,      // bytes, length
    REPLICA_EVENT_TIMER,        // as set
    REPLICA_EVENT_CONTRIBUTION, // records: the shard reduce's result
    REPLICA_EVENT_ACKNOWLEDGED, // decision, scaled: by all ranks
    REPLICA_EVENT_GRADIENT,     // decision, vote: the gradient over its set
    REPLICA_EVENT_RESTORED,     // state: the model now holds it
    REPLICA_EVENT_PROPOSAL,     // epoch: what the provider would have
    REPLICA_EVENT_SUSPECTS,     // peers: all that are thought dead now
    REPLICA_EVENT_RANK_LOST,    // a rank of this replica died
    REPLICA_EVENT_ASK,          // a rank is in doubt
    REPLICA_EVENT_FORCE,        // epoch: the operator lists the survivors
    REPLICA_EVENT_LINEAGE,      // position: what the provider's register holds
};

struct replica_event {
    enum replica_event_kind kind;
    const uint8_t *bytes;
    size_t length;
    const struct numeric_record *records; // canonical
    uint64_t decision; // digest of the COUNT or RETRY: names no other, ever
    bool scaled;       // ACKNOWLEDGED: the decision won every rank's slot
    uint8_t vote; // GRADIENT: REPLICA_READY, REPLICA_UNREADY or REPLICA_VETO
    struct replica_state state;
    uint64_t peers;
    const struct replica_epoch *epoch;
    const struct replica_position *position;
};

enum replica_action_kind {
    REPLICA_ACTION_SEND,      // bytes to each of peers (its `rank`)
    REPLICA_ACTION_BROADCAST, // a decision, to all ranks of this replica
    REPLICA_ACTION_APPLY,     // the same, and all its ranks step the optimizer
    REPLICA_ACTION_TIMER,     // the one timer, at at_us (INT64_MAX: none)
    REPLICA_ACTION_PROVIDER,  // compare-and-swap: position follows its parent
    REPLICA_ACTION_REPORT,    // status
};

enum replica_status {
    REPLICA_STATUS_OPEN,        // it may contribute to instance
    REPLICA_STATUS_LAGGING,     // the model must be restored from a peer
    REPLICA_STATUS_WAITING,     // a contribution cannot be taken now
    REPLICA_STATUS_IN_DOUBT,    // instance is not decided here
    REPLICA_STATUS_FENCED,      // for good: this incarnation is over
    REPLICA_STATUS_ROLLED_BACK, // what it applied is void; LAGGING too
    // No more of this lineage; the model stays what it is: no copy of another
    // may replace it, the frontier that it reported must be there.
    REPLICA_STATUS_SEALED,
    REPLICA_STATUS_UNLISTED, // peers survived not: a lineage is forced without
    REPLICA_STATUS_EPOCH,    // an epoch begins; it may be no member
    REPLICA_STATUS_CONFLICT, // two digests for one key: peers says whose
    REPLICA_STATUS_REFUSED,  // a message not to be understood, or forged
    // No acceptor any more, and f + 1 of those that are have decided something:
    // nobody asks it for what it voted.
    REPLICA_STATUS_RETIRED,
    REPLICA_STATUS_STOPPED, // more than f acceptors are thought dead
};

struct replica_action {
    enum replica_action_kind kind;
    uint64_t peers;
    uint16_t rank;
    // SEND: it may wait a moment for what else goes there. They need it only if
    // others are lost.
    bool later;
    const uint8_t *bytes; // valid until the next event
    size_t length;
    struct replica_instance instance;
    // BROADCAST, APPLY: what was decided, and where the replica is then. A
    // COUNT releases the scale and a RETRY changes it for who is in
    // value->members; the others, and all with another kind, end the index
    // without.
    const struct replica_value *value;
    const struct replica_position *position;
    int64_t at_us;
    enum replica_status status;
};

// Actions of one event; those that find no room are lost messages.
#define REPLICA_ACTIONS_MAX 256

// What open needs: aligned as for any object.
size_t replica_memory(void);

// `memory` is the caller's and holds the object until nobody uses it. The first
// actions come with the first event; give it a TIMER at once.
struct replica *replica_open(void *memory, const struct replica_params *params);

// The actions; they and what they point to are valid until the next event.
const struct replica_action *replica_handle(struct replica *replica,
                                            const struct replica_event *event,
                                            int64_t now, size_t *count);

// Where it is; NULL as long as it knows of no epoch.
const struct replica_position *replica_position(const struct replica *replica);

// The state a peer gets with a copy of this model, taken while no optimizer
// step runs. False: not to be copied.
bool replica_snapshot(const struct replica *replica,
                      struct replica_state *state);

const char *replica_status_name(enum replica_status status);

#endif

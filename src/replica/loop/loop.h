// SPDX-License-Identifier: BSD-3-Clause
// The loop around the state machine of replica.h: a thread that moves messages
// over a tagged transport, keeps timers and heartbeats, and reads who is there.
// It holds what the trainer has contributed until it may be said, and hands
// back, once, what became of it. It decides nothing.
//
// Threads: the calls below take a lock for a few microseconds and return, but
// for those that say otherwise; they come from any thread. `decided` is called
// by the loop's own thread, without the lock.
#ifndef REPLICA_LOOP_LOOP_H
#define REPLICA_LOOP_LOOP_H

#include <tally/transport.h>

#include "core/log.h"
#include "quorum/quorum.h"
#include "recorder/recorder.h"
#include "replica/table.h"

struct replica_loop;

// What became of a contribution or of a vote on the gradient.
struct replica_outcome {
    tally_replica_status_t status;
    uint32_t lineage;
    uint32_t epoch;
    struct replica_instance instance; // of the decision; index 0: none
    uint64_t members;
    uint64_t digest;
    struct replica_state state; // that the model holds, or must be restored to
    struct numeric_record totals[REPLICA_RECORDS_MAX]; // of members
};

struct replica_loop_params {
    const tally_transport_ops_t *ops;
    tally_transport_t *transport; // open until replica_loop_stop has returned
    struct quorum *quorum;        // borrowed: who is there
    struct recorder *recorder;    // borrowed; NULL: none is kept
    struct replica_name self;
    bool witness;
    uint16_t replicas;  // peers 0 to replicas - 1
    uint16_t witnesses; // and those after
    uint32_t records;
    uint32_t minimum;
    uint32_t acceptors; // at most; an odd number of them is named
    uint64_t layout;    // digest of what all must have in common
    int64_t heartbeat_us;
    uint32_t dead_after;     // missing heartbeats
    int64_t deadline_us;     // of a decision
    int64_t decide_after_us; // for who is late with a contribution
    int64_t apply_after_us;  // for who is late with a gradient
    int64_t force_us; // without a quorum, until a lineage is forced; 0: never
    const struct core_log *log;
    void (*decided)(void *context, const struct replica_outcome *outcome);
    void *context;
};

// Posts receives, tells the others where this process is, starts the thread.
// Errors: MEMORY, SYSTEM, those of the transport and of quorum_announce.
tally_status_t replica_loop_start(const struct replica_loop_params *params,
                                  struct replica_loop **out);
// Ends the thread. The transport is closed before free.
void replica_loop_stop(struct replica_loop *loop);
void replica_loop_free(struct replica_loop *loop);

// A hint of the transport: within its progress, so by the loop's thread.
void replica_loop_hint(struct replica_loop *loop, int32_t peer);

// The shard reduce's result. `decided` comes within the deadline: COUNTED, or
// what it is instead.
void replica_loop_contribute(struct replica_loop *loop,
                             const struct numeric_record *records);

// After COUNTED or RETRY: the replica's vote (REPLICA_READY, ...). `decided`
// comes within the deadline; after IN_DOUBT it is asked for again by
// replica_loop_await.
void replica_loop_vote(struct replica_loop *loop, uint8_t vote);
void replica_loop_await(struct replica_loop *loop);

// The model of all ranks holds this state now.
void replica_loop_restored(struct replica_loop *loop,
                           struct replica_state state);

// A checkpoint of that state is stored: the register is told, and its answer is
// waited for. Errors: INVALID (a state that was not applied here), BUSY, and
// those of quorum_checkpoint_publish.
tally_status_t replica_loop_publish(struct replica_loop *loop, uint32_t lineage,
                                    struct replica_state state);

// The caller, who waits for `decided`, moves the loop in place of its thread
// until is_over(context), or for limit_us: `decided` may be called within.
void replica_loop_move(struct replica_loop *loop,
                       bool (*is_over)(void *context), void *context,
                       int64_t limit_us);

// The process exits: the loop moves only where the thread that does it calls
// replica_loop_move.
bool replica_loop_rests(const struct replica_loop *loop);

// A rank of this replica is gone.
void replica_loop_rank_lost(struct replica_loop *loop);

#endif

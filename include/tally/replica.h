// SPDX-License-Identifier: BSD-3-Clause
// What a trainer in replica groups calls beside tally.h, which includes this:
// the second decision of a step, the state that the model holds, and witnesses.
// doc/fault.md says how it goes together.
#ifndef TALLY_REPLICA_H
#define TALLY_REPLICA_H

#include <tally/tally.h>

#ifdef __cplusplus
extern "C" {
#endif

// Membership that the trainer has already ("callback" of TALLY_QUORUM): such as
// torchft's manager, which configures process groups with (store, replica id,
// rank, world size, quorum id). A coordinator, rank 0 of a replica group, or a
// witness.
typedef struct tally_member {
    size_t size;
    uint32_t abi;
    uint32_t peer; // replicas and witnesses share one numbering, 0 to 63
    // Greater at every start of a peer than at all before.
    uint64_t incarnation;
    const void *address; // Tally's, to be handed on as it is; up to 4 KiB
    size_t address_bytes;
} tally_member_t;

// Called by one thread of Tally, one call at a time, without any of its locks.
// The struct is copied; `context` must live until the group is freed. The calls
// return soon, and call nothing of Tally but `tell`.
typedef struct tally_membership {
    size_t size;
    uint32_t abi;
    void *context;
    // Of this start of this peer. 0: the clock's, which must then not go back
    // between two starts.
    uint64_t incarnation;
    // Makes this process known to the others (in the store, say). OK; else it
    // is called again later.
    tally_status_t (*announce)(void *context, const tally_member_t *self);
    // Calls tell(tally, member) for every process that is there now, this one
    // or not. Called a few times a second. OK; else nothing has changed, and
    // the operator is told that membership cannot be reached.
    tally_status_t (*look)(void *context,
                           void (*tell)(void *tally,
                                        const tally_member_t *member),
                           void *tally);
    // Takes back what was announced. NULL: nothing to do.
    void (*withdraw)(void *context);
} tally_membership_t;

// A replica group: the ranks of one full copy of the model, of which several
// train together and any may vanish (doc/fault.md). Each is a job of its own
// (its own rendezvous); the replicas find each other by TALLY_QUORUM.
typedef struct tally_replica_params {
    size_t size;
    uint32_t abi;
    int32_t replica; // number of this one, 0 to replicas - 1; -1: TALLY_REPLICA
    int32_t replicas;  // how many there may be; 0: TALLY_REPLICAS
    int32_t witnesses; // tally_witness processes; 0: TALLY_WITNESSES
    int32_t minimum;   // replicas that make a step; 0: TALLY_REPLICA_MIN
    // A vote of the trainer's own, NULL for none: called by tally_replica_ready
    // at each rank with the index and what the rank says; returns whether it
    // may be applied. Where any rank says no, the step is discarded everywhere.
    int (*commit)(void *context, uint64_t index, int ready);
    void *context;
    // At rank 0, with TALLY_QUORUM=callback; else NULL.
    const tally_membership_t *membership;
} tally_replica_params_t;

// The text of a status: static, never NULL. Any thread.
TALLY_API const char *
tally_replica_status_string(tally_replica_status_t status);

// What the model's parameters follow from: the last index that was applied (0:
// none) and the digest of all that were until then.
typedef struct tally_replica_state {
    size_t size;
    uint32_t abi;
    uint32_t lineage;
    uint64_t index;
    uint64_t digest;
} tally_replica_state_t;

typedef struct tally_replica_verdict {
    size_t size;
    uint32_t abi;
    tally_replica_status_t status;
    uint32_t lineage;
    uint32_t epoch;
    uint32_t attempt;
    uint64_t index;
    uint64_t members; // APPLY, RETRY: whose gradients
    uint64_t digest;
    // APPLY: what the model holds once the optimizer has stepped. LAGGING: what
    // it must be restored to.
    tally_replica_state_t state;
} tally_replica_verdict_t;

// What a rank says of its gradient.
typedef enum tally_replica_vote {
    TALLY_REPLICA_READY = 0,   // it holds the gradient over exactly `members`
    TALLY_REPLICA_UNREADY = 1, // some did not come: over fewer, it can
    TALLY_REPLICA_OUT = 2,     // it cannot at all: without this replica
    TALLY_REPLICA_VETO = 3     // nobody should apply this step
} tally_replica_vote_t;

// After tally_step_end of an epoch that was COUNTED, and after RETRY: what this
// rank says of the gradient, reduced over the ranks of the replicas that were
// counted (replica_members of the result, members of the verdict). A replica is
// as ready as its worst rank. All ranks of the replica must call it. Does not
// block. Errors: INVALID, ORDER.
TALLY_API tally_status_t tally_replica_ready(tally_step_t *step,
                                             tally_replica_vote_t vote);

// Waits for the verdict, at most TALLY_REPLICA_DEADLINE and TALLY_TIMEOUT.
//   APPLY     step the optimizer now. No step without it: so all that were
//             counted apply the same gradient, or none does.
//   RETRY     some replicas are gone. The scales were derived again for
//             `members`: reduce the gradient again over them, times new scale /
//             old scale, and call tally_replica_ready. (With more than one
//             channel and TALLY_COUNT_FIRST the gradient must be computed
//             again.)
//   IN_DOUBT  it may be applied yet: keep the gradient, call this again.
//   EXCLUDED, DISCARDED, LAGGING, FENCED: drop the gradient.
// All ranks of the replica must call it. Returns OK with a verdict of any kind.
// Errors: INVALID, ABI, ORDER, and those of tally_step_wait.
TALLY_API tally_status_t tally_replica_apply(tally_step_t *step,
                                             tally_replica_verdict_t *verdict);

// The state that the model must hold: that of the group as this replica knows
// it. Before any step: index 0. Errors: INVALID, ABI, ORDER (no replica group).
TALLY_API tally_status_t tally_replica_state(const tally_step_t *step,
                                             tally_replica_state_t *state);

// The model of this rank now holds this state: copied from another replica's
// rank that had applied it, or read from a checkpoint of it, as when all were
// started again and begin with what is published. Called by all ranks, when all
// hold it, and between epochs. Errors: INVALID, ABI, ORDER.
TALLY_API tally_status_t
tally_replica_restored(tally_step_t *step, const tally_replica_state_t *state);

// A checkpoint of this state is stored, by all ranks of the replica, and can be
// restored from. Publishes it in the register of lineages (etcd's): from then
// on no lineage that is forced begins below it. Before OK nobody may use it: it
// may yet become void. Of several replicas that store the same state, each is
// told OK. Where membership has no register no lineage is forced, and it is OK
// too. At the first rank of the replica, in any thread, beside steps too. Waits
// for the register: milliseconds, and seconds where it is not reached. Errors:
// INVALID, ABI, ORDER (no replica group, another rank); MISMATCH: a later
// checkpoint is published, or the state's lineage is over; TIMEOUT, BUSY: it is
// not known yet, call it again.
TALLY_API tally_status_t
tally_replica_publish(tally_step_t *step, const tally_replica_state_t *state);

// A witness: votes on what replica groups decide, by threads of its own, and
// has no ranks and no model. The tool tally_witness is one.
typedef struct tally_witness tally_witness_t;

// TALLY_REPLICA is its number, at least TALLY_REPLICAS. host: NULL for all
// defaults; allgather is not used. Does not block. Errors: INVALID, ABI,
// CONFIG, TRANSPORT, MEMORY, SYSTEM.
TALLY_API tally_status_t tally_witness_open(const tally_host_t *host,
                                            tally_witness_t **out);
// The replica groups lose its vote. NULL: nothing.
TALLY_API tally_status_t tally_witness_close(tally_witness_t *witness);

#ifdef __cplusplus
}
#endif

#endif

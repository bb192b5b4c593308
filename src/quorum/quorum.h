// SPDX-License-Identifier: BSD-3-Clause
// Membership: which processes of a job of replica groups are there now, under
// which incarnations, and where to reach them; what the next epoch might be;
// and, where a provider has one, the durable register of lineages. It decides
// nothing: it tells the loop around replica/replica.h, which decides.
//
// Threads: a provider has a thread of its own ("tally-quorum"), which does all
// that may wait. Every call here but quorum_close takes a lock for well under a
// microsecond and returns; what comes of it is an event. The loop polls
// quorum_fd and takes events by quorum_next until there are none. Calls may
// come from several threads; quorum_next from one.
#ifndef QUORUM_QUORUM_H
#define QUORUM_QUORUM_H

#include <tally/tally.h>

#include "core/log.h"
#include "quorum/membership.h"
#include "replica/value.h"

// Of an address blob.
#define QUORUM_BLOB_MAX 4096
// Ranks of a peer that may be registered; others need no place here.
#define QUORUM_RANKS_MAX 1024

struct quorum;

enum quorum_kind {
    QUORUM_REPLICA = 1, // of a shard mesh; rank 0 coordinates
    QUORUM_WITNESS,     // votes, and has no model
};

// Where a process runs: who is on the same host (and in the same namespace of
// processes) may watch it by a pidfd. All 0: not known.
struct quorum_host {
    uint64_t host;    // digest of boot and namespace
    int32_t pid;      // there
    uint64_t started; // as /proc/PID/stat says: the pid is not another's
};

// One process that is there. `incarnation` is that of its peer: rank 0 gets it
// from the provider, the others say theirs.
struct quorum_member {
    struct replica_name name;
    enum quorum_kind kind;
    struct quorum_host where;
    const void *blob; // how to reach it; the binding's
    size_t blob_bytes;
};

// What the register of lineages holds (doc/fault.md). A checkpoint that is
// published is never below the base of a later lineage.
struct quorum_record {
    struct replica_position position;
    struct replica_state published; // index 0: none yet
};

enum quorum_event_kind {
    // This process is registered: `member.name.incarnation` is its own. Comes
    // once; the provider keeps the registration alive until close.
    QUORUM_EVENT_REGISTERED,
    // `member` is there. A later one of the same peer and rank replaces it; a
    // greater incarnation ends the one before, on all its ranks.
    QUORUM_EVENT_SEEN,
    // `member.name` is not there any more: its lease has ended, or its
    // connection broke. A hint: it may be seen again under the same incarnation.
    QUORUM_EVENT_GONE,
    // For good: a process with the greater `member.name.incarnation` has this
    // one's place. Nothing else comes after it.
    QUORUM_EVENT_FENCED,
    // `epoch` is what somebody proposed: for REPLICA_EVENT_PROPOSAL.
    QUORUM_EVENT_PROPOSAL,
    // `record` is in the register: for REPLICA_EVENT_LINEAGE.
    QUORUM_EVENT_LINEAGE,
    // The answer to the request `request`: `status` is
    //   OK         done; LINEAGE with what was written comes before it
    //   MISMATCH   the register holds something that forbids it: `sentence`
    //              says what, and LINEAGE with it came before
    //   TIMEOUT    not answered in time; it may still happen
    QUORUM_EVENT_ANSWER,
    // The provider cannot be reached (status, `sentence`), or is there again
    // (OK). Members that were seen stay so.
    QUORUM_EVENT_PROVIDER,
};

// What it points to is valid until the next quorum_next.
struct quorum_event {
    enum quorum_event_kind kind;
    struct quorum_member member;
    struct replica_epoch epoch;
    struct quorum_record record;
    uint64_t request;
    tally_status_t status;
    const char *sentence;
};

struct quorum_params {
    const char *provider; // "static", "etcd", "callback"
    const char *job;      // keeps jobs apart that share a provider
    uint64_t group;       // as in replica_params: digest of key and layout
    uint32_t records;     // as in replica_params
    uint16_t peer;
    uint16_t rank; // within the peer
    enum quorum_kind kind;
    // Rank 0: 0, and the provider gives one. Others: what their coordinator got.
    uint64_t incarnation;
    const void *blob;
    size_t blob_bytes;
    const void *secret; // NULL: none
    size_t secret_bytes;
    // The value in force of a TALLY_* row.
    const char *(*setting)(void *context, const char *name);
    void *setting_context;
    const char *plugin_path;
    const struct core_log *log; // borrowed until close
    // "callback": the trainer's; copied.
    const tally_membership_t *membership;
};

// Begins to register; does not wait for it. Errors: CONFIG (a setting is
// missing or wrong, this peer is not in the list), UNSUPPORTED (the provider is
// not built or not found), ABI, MEMORY, SYSTEM.
tally_status_t quorum_open(const struct quorum_params *params,
                           struct quorum **out);

// For who has no loop yet: waits for REGISTERED and returns the incarnation.
// Events stay where they are. Errors: TIMEOUT, with why; PEER: fenced.
tally_status_t quorum_await(struct quorum *quorum, int64_t timeout_us,
                            uint64_t *incarnation);

// Takes the registration back and ends the thread. Waits for at most 2 s.
void quorum_close(struct quorum *quorum);

// Readable while there are events; for poll, never to be read.
int quorum_fd(const struct quorum *quorum);

// False: there are none.
bool quorum_next(struct quorum *quorum, struct quorum_event *event);

// Hands others what the next epoch might be; they, and this process, get
// PROPOSAL. Where the provider has a register for it, the first of those made
// after the one seen last wins, and its revision orders them; else it comes back
// to this process alone, which carries it in its contribution. A proposal that
// was superseded is dropped. Errors: INVALID.
tally_status_t quorum_propose(struct quorum *quorum,
                              const struct replica_epoch *epoch);

// REPLICA_ACTION_PROVIDER: a compare-and-swap. It wins if the register holds
// the lineage before `position`'s (lineage 1: nothing), with a published index
// no higher than position->group.index. *request: of the ANSWER. Errors:
// UNSUPPORTED where there is no register: the job stays stopped, and
// core_error_text says how to go on.
tally_status_t quorum_lineage_swap(struct quorum *quorum,
                                   const struct replica_position *position,
                                   uint64_t *request);

// Publishes a checkpoint: wins if the register still holds `lineage`, and
// nothing later is published. From then on no lineage begins below it. Who lost
// must not let anybody use the checkpoint. Errors as above.
tally_status_t quorum_checkpoint_publish(struct quorum *quorum,
                                         uint32_t lineage,
                                         struct replica_state state,
                                         uint64_t *request);

// This process, for its registration. Fields that cannot be read are 0.
struct quorum_host quorum_host_self(void);

#endif

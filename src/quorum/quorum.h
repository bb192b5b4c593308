// SPDX-License-Identifier: BSD-3-Clause
// Membership of a job of replica groups: under which incarnation this process
// runs, which coordinators and witnesses there are and how they are reached,
// and, where a provider has one, the durable register of lineages. It decides
// nothing: it tells the loop around replica/replica.h.
//
// What may wait is done by a thread of its own ("tally-quorum"). Calls take a
// lock for a few microseconds and return, but for those that say otherwise; any
// thread may make them, quorum_next one at a time.
#ifndef QUORUM_QUORUM_H
#define QUORUM_QUORUM_H

#include <tally/replica.h>

#include "core/log.h"
#include "replica/value.h"

// Of what a process tells others so that they reach it.
#define QUORUM_ADDRESS_MAX 4096
#define QUORUM_SENTENCE_BYTES 512

struct quorum;

// A coordinator or a witness that is there.
struct quorum_member {
    uint16_t peer;
    uint64_t incarnation;
    const void *address;
    size_t address_bytes;
};

// What the register of lineages holds. A lineage never begins below a
// checkpoint that is published (doc/fault.md). As long as nothing was written
// it is taken to hold lineage 1, of which no more is known than its checkpoint.
struct quorum_record {
    struct replica_position position;
    struct replica_state published; // index 0: none yet
};

enum quorum_event_kind {
    // `member` is there; a greater incarnation has ended the one before.
    QUORUM_SEEN,
    // member.peer is not there any more, under member.incarnation. A hint: its
    // lease has ended or it is not reached; it may be seen again.
    QUORUM_GONE,
    // For good: a process with the greater member.incarnation has this one's
    // place.
    QUORUM_FENCED,
    // `record` is in the register.
    QUORUM_LINEAGE,
    // The operator says that lineage `ends` is to end, though too few are left.
    QUORUM_FORCE,
    // The answer to `request`. OK: done. MISMATCH: what the register holds
    // forbids it. With both, `record` is what it was seen to hold before.
    // TIMEOUT: not answered; it may have happened. `sentence` says more.
    QUORUM_ANSWER,
    // The provider cannot be reached (status, `sentence`), or is there again
    // (OK). Members that were seen stay so.
    QUORUM_PROVIDER,
};

// What it points to is valid until the next quorum_next.
struct quorum_event {
    enum quorum_event_kind kind;
    struct quorum_member member;
    struct quorum_record record;
    uint32_t ends;
    uint64_t request;
    tally_status_t status;
    const char *sentence;
};

struct quorum_params {
    const char *provider; // a name of quorum_providers
    const char *job;      // keeps jobs apart that share a provider
    uint16_t peer;
    uint16_t peers; // replicas and witnesses: numbers 0 to peers - 1
    // The value in force of a TALLY_* row; NULL: there is no such row.
    const char *(*setting)(void *context, const char *name);
    void *setting_context;
    const struct core_log *log; // borrowed until close
    // "callback": the trainer's, copied; else NULL.
    const tally_membership_t *membership;
};

// Finds and opens the provider. Errors: CONFIG (a setting is missing or wrong),
// UNSUPPORTED (it is not built, or a library of its is not there), ABI, MEMORY,
// SYSTEM.
tally_status_t quorum_open(const struct quorum_params *params,
                           struct quorum **out);

// This process's incarnation: greater than that of every start of the peer
// before. Waits, and asks again, for at most timeout_us. Before
// quorum_announce. Errors: TIMEOUT with what the provider said last, CONFIG.
tally_status_t quorum_incarnation(struct quorum *quorum, int64_t timeout_us,
                                  uint64_t *incarnation);

// Tells the others that this process is there, from now until close, and begins
// to look for them. Once. Errors: INVALID (an address that is too long),
// SYSTEM.
tally_status_t quorum_announce(struct quorum *quorum, const void *address,
                               size_t bytes);

// Whether there is a register, so that a lineage can be forced.
bool quorum_has_register(const struct quorum *quorum);

// False: nothing is new.
bool quorum_next(struct quorum *quorum, struct quorum_event *event);

// Asks what the register holds, by a linearizable read. *request: of the
// QUORUM_ANSWER. Errors: UNSUPPORTED where there is no register (the sentence
// says how to go on), BUSY while another request has no answer yet.
tally_status_t quorum_register_read(struct quorum *quorum, uint64_t *request);

// REPLICA_ACTION_PROVIDER: a compare-and-swap. Wins if the register holds the
// lineage before `position`'s (for lineage 2, nothing), and no checkpoint above
// its index is published. *request and errors as above.
tally_status_t quorum_lineage_swap(struct quorum *quorum,
                                   const struct replica_position *position,
                                   uint64_t *request);

// Publishes a checkpoint: wins if the register holds `lineage` still (1: or
// nothing), and nothing as late is published but the same. From then on no
// lineage begins below it. Who lost must let nobody use the checkpoint. Errors
// as above.
tally_status_t quorum_checkpoint_publish(struct quorum *quorum,
                                         uint32_t lineage,
                                         struct replica_state state,
                                         uint64_t *request);

// Takes the registration back. Waits for at most a second. NULL: nothing.
void quorum_close(struct quorum *quorum);

#endif

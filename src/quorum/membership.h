// SPDX-License-Identifier: BSD-3-Clause
// Membership that the trainer brings ("callback"): to be part of tally.h. For
// trainers that have a membership system of their own, as torchft's manager,
// which configures process groups with (store, replica id, rank, world size,
// quorum id): `poll` waits for the next such configuration.
#ifndef QUORUM_MEMBERSHIP_H
#define QUORUM_MEMBERSHIP_H

#include <tally/tally.h>

// One process. Replicas and witnesses share one numbering, 0 to 63.
typedef struct tally_member {
    size_t size;
    uint32_t abi;
    uint16_t peer;
    uint16_t rank;    // within the replica; 0 for a witness
    uint32_t witness; // 1: has no model
    // Greater at every start of a peer than at all before, and the same at all
    // its ranks.
    uint64_t incarnation;
    // For Tally: where it runs and how it is reached; given back as it is.
    const void *address;
    size_t address_bytes; // at most 8 KiB
} tally_member_t;

// Called by one thread of Tally, one call at a time, without any of its locks;
// so a call may wait, up to what it says, and must not call Tally. The struct is
// copied; `context` must live until the group is freed.
typedef struct tally_membership {
    size_t size;
    uint32_t abi;
    void *context;
    // Makes this process known. self->incarnation is 0 at rank 0, which sets
    // *incarnation (to 0: Tally takes the clock's, which must then not go back
    // between two starts of a peer). Returns OK, NOT_YET (it is called again),
    // or an error, and is called again later.
    tally_status_t (*enroll)(void *context, const tally_member_t *self,
                             uint64_t *incarnation);
    // Waits for up to timeout_ms until membership is not what it was when it
    // returned OK last: NOT_YET if it still is. Then calls `tell` for every
    // process that is there, this one or not, and returns OK.
    tally_status_t (*poll)(void *context, int timeout_ms,
                           void (*tell)(void *tally,
                                        const tally_member_t *member),
                           void *tally);
    // Takes the registration back. NULL: nothing to do.
    void (*withdraw)(void *context);
} tally_membership_t;

#endif

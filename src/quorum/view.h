// SPDX-License-Identifier: BSD-3-Clause
// Who is there, gathered from events, and what a next epoch would be made of.
// No I/O; what the sim's provider does, over real events.
#ifndef QUORUM_VIEW_H
#define QUORUM_VIEW_H

#include "quorum/quorum.h"

// Coordinators and witnesses (rank 0), this process among them.
struct quorum_view {
    uint64_t replicas;  // that are there
    uint64_t witnesses; // that are there
    // Of those, and of those that were: the greatest that was seen.
    uint64_t incarnations[REPLICA_PEERS_MAX];
};

// Takes what REGISTERED, SEEN and GONE say (others change nothing). `self` and
// `kind` are this process's. Returns whether anything changed.
bool quorum_view_take(struct quorum_view *view, const struct quorum_event *event,
                      enum quorum_kind kind);

// What the provider would have after `current`: all replicas that are there;
// acceptors that are gone give way to witnesses, then to replicas; as many as
// `acceptors` (odd, as far as there are processes). False, and *out is not to be
// used: that is what `current` is, or nobody is there.
bool quorum_view_propose(const struct quorum_view *view,
                         const struct replica_epoch *current,
                         uint32_t acceptors, struct replica_epoch *out);

#endif

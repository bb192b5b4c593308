// SPDX-License-Identifier: BSD-3-Clause
// What replica groups of trainers on one host share: gradients, and copies of
// the model for a replica that comes back. It stands for what a framework does
// between replicas (an all-reduce that can be done again, a peer-to-peer
// restore), and is no part of Tally.
//
// Sums are made in the order of replicas and ranks in float64: whoever sums
// over the same set gets the same bits.
#ifndef TRAINER_REPLICA_SHARE_H
#define TRAINER_REPLICA_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

#include "model/model.h"
#include "model/optimizer.h"

struct replica_share;

struct replica_share_params {
    const char *name; // of the POSIX shared-memory segment, without '/'
    int32_t replica, replicas;
    int32_t rank, ranks; // within a replica
};

// Makes the segment if it is not there; it stays when all have closed it.
bool replica_share_open(const struct replica_share_params *params,
                        struct replica_share **out);
// NULL: nothing.
void replica_share_close(struct replica_share *share);

// Offers this rank's gradient for a count, named by the digest of its decision.
void replica_share_offer(struct replica_share *share, uint64_t decision,
                         const double gradient[MODEL_PARAMETERS]);

// The sum over all ranks of the members; false if some did not come within
// patience_ms. The same offers can be summed again over fewer members.
bool replica_share_sum(struct replica_share *share, uint64_t decision,
                       uint64_t members, int patience_ms,
                       double gradient[MODEL_PARAMETERS]);

// Offers a copy of the model: rank 0 of a replica, after each step.
void replica_share_publish(struct replica_share *share,
                           const tally_replica_state_t *state,
                           const struct model *parameters,
                           const struct optimizer *optimizer);

// A copy of the model as it was in just that state; false if no replica has
// one within patience_ms.
bool replica_share_restore(struct replica_share *share,
                           const tally_replica_state_t *state, int patience_ms,
                           struct model *parameters,
                           struct optimizer *optimizer);

#endif

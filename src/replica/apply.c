// SPDX-License-Identifier: BSD-3-Clause
// A replica's vote on its gradient. It is ready when all its ranks hold the
// gradient over exactly G and have acknowledged the decision; a rank that
// released a NaN instead takes the replica out of this index.
#include "replica/node.h"

static bool is_asked(const struct replica *node, uint64_t decision)
{
    return replica_coordinator_takes_part(node) && !node->entered &&
           node->at.next.attempt > 0 && decision == node->at.previous &&
           (node->eligible & replica_bit(node->params.self.peer)) != 0;
}

static void vote(struct replica *node)
{
    if (node->acknowledged && !node->scaled)
        replica_coordinator_enter(node, REPLICA_OUT);
    else if (node->gradient == REPLICA_UNREADY ||
             node->gradient == REPLICA_VETO ||
             (node->gradient == REPLICA_READY && node->acknowledged))
        replica_coordinator_enter(node, node->gradient);
}

void replica_apply_acknowledged(struct replica *node, uint64_t decision,
                                bool scaled)
{
    if (!is_asked(node, decision))
        return;
    node->acknowledged = true;
    node->scaled = scaled;
    vote(node);
}

void replica_apply_gradient(struct replica *node, uint64_t decision,
                            uint8_t gradient)
{
    if (!is_asked(node, decision))
        return;
    node->gradient = gradient;
    vote(node);
}

// SPDX-License-Identifier: BSD-3-Clause
// Where a small job of replica groups is.
#ifndef HARNESS_REPLICA_POSITION_H
#define HARNESS_REPLICA_POSITION_H

#include "replica/replica.h"

// Two replicas and a witness, in epoch 1, before the first index.
static inline struct replica_position two_and_a_witness(void)
{
    struct replica_position position = {.next = {.index = 1}};

    position.epoch.lineage = 1;
    position.epoch.number = 1;
    position.epoch.members = 3;
    position.epoch.acceptor_count = 3;
    for (uint16_t peer = 0; peer < 3; peer++) {
        position.epoch.acceptors[peer] =
            (struct replica_name){peer, 0, 1u + peer};
        if (peer < 2)
            position.epoch.incarnations[peer] = 1u + peer;
    }
    return position;
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a process says of itself before its transport's address. No addresses
// and no connections.
#ifndef REPLICA_LOOP_HEAD_H
#define REPLICA_LOOP_HEAD_H

#include "replica/loop/identity.h"
#include "replica/loop/peers.h"

struct peer_head {
    uint64_t magic;
    uint64_t layout;
    uint64_t records;
    struct process_identity process;
    char transport[16];
};

void peer_head_write(struct peer_head *head,
                     const struct replica_peers_params *params);

// Why a process with this head, and so many bytes in all, is not talked to;
// NULL: it is.
const char *peer_head_refusal(const struct peer_head *head, size_t bytes,
                              const struct replica_peers_params *params);

#endif

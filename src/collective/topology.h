// SPDX-License-Identifier: BSD-3-Clause
// Which ranks of a group share a node. Ranks are of one node if they can read
// back a nonce through a segment of shared memory, nothing less: host names and
// boot ids only say who tries with whom.
#ifndef COLLECTIVE_TOPOLOGY_H
#define COLLECTIVE_TOPOLOGY_H

#include <stdbool.h>
#include <sys/types.h>

#include "bootstrap/exchange.h"

struct topology {
    int32_t rank; // index in the group
    int32_t size; // of the group
    int32_t node; // of this rank
    int32_t node_count;
    int32_t *node_of;    // [size]
    int32_t *leader_of;  // [node_count]: the lowest rank of the node
    int32_t local_index; // of this rank in its node
    int32_t local_size;
    int32_t *local_ranks; // [local_size], ascending; group ranks
    pid_t *local_pids;    // [local_size]; 0 where in another PID namespace
};

struct topology_params {
    bool node_shm;         // false: every rank is a node of its own
    const char *node_name; // ranks with other names are never of one node; ""
};

// Collective over the group.
tally_status_t topology_detect(struct exchange *exchange,
                               struct exchange_group *group,
                               const struct topology_params *params,
                               struct topology **out);
void topology_free(struct topology *topology);

#endif

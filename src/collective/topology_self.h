// SPDX-License-Identifier: BSD-3-Clause
// What a rank says of itself before anything is proven: with whom sharing
// memory is worth a try, and which process it is.
#ifndef COLLECTIVE_TOPOLOGY_SELF_H
#define COLLECTIVE_TOPOLOGY_SELF_H

#include "collective/topology.h"

// Travels through the exchange as it is.
struct topology_self {
    uint64_t hint;          // of the running kernel and its /dev/shm
    uint64_t name;          // hash of params.node_name
    uint64_t pid_namespace; // 0: not known
    int32_t pid;
    uint32_t alone; // 1: shares memory with nobody
};

// A hash of the running kernel's boot id: the same for all that run on it.
uint64_t topology_self_boot(void);

void topology_self_read(const struct topology_params *params,
                        struct topology_self *self);

// topology_detect for a rank that says this of itself. Collective.
tally_status_t topology_prove(struct exchange *exchange,
                              struct exchange_group *group,
                              const struct topology_self *self,
                              struct topology **out);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Watches the processes of the own node by pidfd, where they are in the same
// PID namespace, and reports those that ended. A look now and then, no thread.
#ifndef COLLECTIVE_WATCH_H
#define COLLECTIVE_WATCH_H

#include "collective/topology.h"
#include "core/health.h"

struct watch;

// world_ranks: of the group, [topology->size]. Borrows nothing but the health.
tally_status_t watch_open(const struct topology *topology,
                          const int32_t *world_ranks, struct health *health,
                          struct watch **out);

// One look: reports HEALTH_DIED, once a rank. Does not block.
void watch_check(struct watch *watch);

void watch_close(struct watch *watch); // NULL: nothing

#endif

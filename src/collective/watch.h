// SPDX-License-Identifier: BSD-3-Clause
// Watches the processes of a group's ranks on the own node and reports to
// health.h those that ended. It does not see other nodes, other PID namespaces,
// nor processes that hang.
#ifndef COLLECTIVE_WATCH_H
#define COLLECTIVE_WATCH_H

#include "collective/topology.h"
#include "core/health.h"

struct watch;

// world_ranks[topology->size]: of the group's ranks. health is borrowed until
// close, the others only here. A process that is gone already is reported by
// the first check. Ranks that are threads of this process are not watched.
// Errors: MEMORY.
tally_status_t watch_open(const struct topology *topology,
                          const int32_t *world_ranks, struct health *health,
                          struct watch **out);

// Reports who ended since the last check. One system call, or one a process
// where the kernel has no pidfd (there, a zombie is not seen until it is
// reaped, nor is an end whose pid was given away again). One thread at a time.
void watch_check(struct watch *watch);

void watch_close(struct watch *watch);

#endif

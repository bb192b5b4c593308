// SPDX-License-Identifier: BSD-3-Clause
// How the nodes of a group are joined: by the first transport, in the order of
// TALLY_TRANSPORT, over which their leaders have reached each other. The ranks
// decide together, so one that cannot use a transport moves all to the next.
#ifndef CORE_JOIN_H
#define CORE_JOIN_H

#include "core/objects.h"

// Sets the group's links and its transport, which is polled from now on.
// Collective over the group; says at one rank why a transport was passed over.
// Errors: TRANSPORT (none joins all ranks: the sentence has the reasons), those
// of the exchange.
tally_status_t join_nodes(tally_group_t *group);

// Logs, at one rank, why `rank` of the group cannot use a transport ("ucx"; or
// with the way that was tried), and adds it to the reasons in `why`.
void join_pass_over(const tally_group_t *group, int32_t rank, const char *what,
                    const char *reason, bool worrying, char *why,
                    size_t why_bytes);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The leaders' stage: one rank of each node exchanges partial sums with others
// over tagged messages, as schedule.h says. It knows nothing of what a node
// does.
//
// A message is a header and the lanes: 64 bytes a record, then 8 a MAX lane.
// Its tag is [tag_space 16 | sequence 20 | stage 6 | sender 22], most
// significant first; sender is a rank of the group. The sequence in the tag
// wraps, which is harmless: no rank is more than one reduction ahead of
// another. The header has all of it, to be checked.
//
// Receives of all stages are posted when a reduction starts, and it is not
// complete before they are: one buffer for each suffices. Sends may still be
// under way when the next reduction starts, so theirs are double, by the parity
// of the sequence, and used again only when free.
#ifndef COLLECTIVE_LEADERS_H
#define COLLECTIVE_LEADERS_H

#include "collective/allreduce.h"

struct leaders;

// For a rank that leads its node. Local: asks nothing of others.
// Errors: TRANSPORT, MEMORY, INVALID.
tally_status_t leaders_create(const struct allreduce_params *params,
                              struct leaders **out);

// Cancels receives; sends go on, others may need them. What the transport still
// holds is left to links_free.
void leaders_free(struct leaders *leaders);

// Posts the receives of reduction `sequence` (1, 2, ...).
void leaders_start(struct leaders *leaders, uint64_t sequence);

// Moves it, and when a stage is complete adds it to total [8 * records +
// max_lanes], which at the first call is the node's. OK, NOT_YET, or an error
// with a sentence that names the peer.
tally_status_t leaders_progress(struct leaders *leaders, int64_t *total);

// Whether all that this reduction sent, now that it is complete, is out: who
// makes no more progress must know. OK, NOT_YET, or an error as above.
tally_status_t leaders_settle(struct leaders *leaders);

// The rank of the group whose message is awaited, or failed; -1: none.
int32_t leaders_awaited(const struct leaders *leaders);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The two ways of messages between ranks: shared memory of a node, and a
// transport of tagged messages between nodes.
#ifndef JOB_WAYS_H
#define JOB_WAYS_H

#include <stddef.h>
#include <tally/transport.h>

#include "collective/links.h"
#include "doctor/job/pairs.h"

// --- shared.c
// Bytes of the segment of `local` ranks.
size_t shared_bytes(int32_t local);

// `locals` are the numbers of the node's members, in order; `own` is one of
// them. `memory` is zeroed and stays until free; `locals` is copied. NULL: no
// memory.
struct pairs_way *shared_open(void *memory, const int32_t *locals,
                              int32_t local, int32_t own);
void shared_free(struct pairs_way *way);

// --- tagged.c
// Members of the pairs have other numbers among `links`: link_of[member], which
// is copied. The links are borrowed until free. `space` tells apart openings on
// one transport. NULL: no memory.
struct tagged_params {
    const tally_transport_ops_t *ops;
    tally_transport_t *transport;
    struct links *links;
    const int32_t *link_of;
    int32_t count, own;
    uint32_t space;
};
struct pairs_way *tagged_open(const struct tagged_params *params);
// Posts no more. Its memory is the transport's until that is closed.
void tagged_cancel(struct pairs_way *way);
// After the transport was closed.
void tagged_free(struct pairs_way *way);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a rank of a test needs to all-reduce: topology, fake transport, links.
#ifndef HARNESS_COLLECTIVE_H
#define HARNESS_COLLECTIVE_H

#include "collective/allreduce.h"
#include "harness/callback_exchange.h"
#include "harness/fake_transport.h"
#include "harness/lanes.h"
#include "harness/random.h"
#include "harness/ranks.h"

// World ranks are not group ranks.
#define COLLECTIVE_FIRST_WORLD_RANK 100

// The node of a rank, 0 to 63.
typedef int32_t (*collective_layout_fn)(int32_t rank);

int32_t layout_one(int32_t rank);    // all on one
int32_t layout_two(int32_t rank);    // by turns on two
int32_t layout_each(int32_t rank);   // one each
int32_t layout_uneven(int32_t rank); // 1, 3 and the rest, which come first

struct collective_rank {
    int32_t rank;
    struct callback_exchange exchange;
    struct topology *topology;
    struct fake_network *network;
    tally_transport_t *transport; // NULL: one node
    struct links *links;
};

// Collective; asserts that it works. The network may be NULL where the layout
// is one node.
void collective_open(struct collective_rank *rank, callback_allgather_fn gather,
                     void *context, int32_t index, int32_t size,
                     collective_layout_fn layout, struct fake_network *network);
void collective_close(struct collective_rank *rank);

struct allreduce_params collective_params(struct collective_rank *rank,
                                          const struct lanes_shape *shape,
                                          uint32_t radix, uint16_t tag_space);

// Collective; asserts that it works.
struct allreduce *collective_allreduce(struct collective_rank *rank,
                                       const struct lanes_shape *shape,
                                       uint32_t radix, uint16_t tag_space);

// Moves transport and all-reduce.
tally_status_t collective_progress(struct collective_rank *rank,
                                   struct allreduce *allreduce);

// Reductions of several ranks in one thread, moved in random order.
struct collective_race {
    int32_t size;
    struct collective_rank *ranks;
    struct allreduce **allreduces; // [size]
    struct lanes_shape shape;
    uint64_t done; // reductions before, of these objects
    uint64_t reductions;
    uint64_t seed;
};

// Runs them to the end and asserts that every result is right, to the bit.
void collective_race_run(const struct collective_race *race);

#endif

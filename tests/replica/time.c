// SPDX-License-Identifier: BSD-3-Clause
// Virtual time: what happens next, and chance.
#include "sim.h"

#include <assert.h>
#include <stdlib.h>

static bool earlier(const struct happening *a, const struct happening *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

struct happening *world_push(struct world *world,
                             const struct happening *happening)
{
    if (world->heap_count == world->heap_room) {
        world->heap_room = world->heap_room == 0 ? 1024 : 2 * world->heap_room;
        world->heap =
            realloc(world->heap, world->heap_room * sizeof(world->heap[0]));
        assert(world->heap != NULL);
    }
    size_t at = world->heap_count++;
    while (at > 0 && earlier(happening, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = *happening;
    return &world->heap[at];
}

bool world_take(struct world *world, struct happening *out)
{
    if (world->heap_count == 0)
        return false;
    *out = world->heap[0];
    struct happening last = world->heap[--world->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->heap_count)
            break;
        if (child + 1 < world->heap_count &&
            earlier(&world->heap[child + 1], &world->heap[child]))
            child++;
        if (!earlier(&world->heap[child], &last))
            break;
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    return true;
}

int64_t world_between(struct world *world, int64_t least, int64_t most)
{
    return least + (int64_t)(random_next(&world->random) %
                             (uint64_t)(most - least + 1));
}

bool world_chance(struct world *world, uint32_t ppm)
{
    return random_next(&world->random) % 1000000 < ppm;
}

// The caller may fill in what the kind needs, until it schedules another.
struct happening *world_schedule(struct world *world, int64_t after,
                                 enum happening_kind kind, uint16_t process)
{
    struct happening happening = {
        .at = world->now + after,
        .order = world->order++,
        .kind = kind,
        .process = process,
    };

    if (process != SIM_NOBODY)
        happening.generation = world->processes[process].generation;
    return world_push(world, &happening);
}

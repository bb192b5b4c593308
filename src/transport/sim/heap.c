// SPDX-License-Identifier: BSD-3-Clause
// See heap.h. A binary heap.
#include "transport/sim/heap.h"

#include <stdlib.h>

#define ROOM_MIN 64

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    if (a->time_ns != b->time_ns)
        return a->time_ns < b->time_ns;
    return a->order < b->order;
}

static bool heap_grow(struct sim_heap *heap)
{
    size_t room = heap->room == 0 ? ROOM_MIN : 2 * heap->room;
    struct sim_event *events = realloc(heap->events, room * sizeof(*events));

    if (events == NULL)
        return false;
    heap->events = events;
    heap->room = room;
    return true;
}

bool sim_heap_push(struct sim_heap *heap, struct sim_event event)
{
    if (heap->count == heap->room && !heap_grow(heap))
        return false;
    size_t at = heap->count++;
    event.order = heap->pushed++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;

        if (!earlier(&event, &heap->events[parent]))
            break;
        heap->events[at] = heap->events[parent];
        at = parent;
    }
    heap->events[at] = event;
    return true;
}

bool sim_heap_pop(struct sim_heap *heap, struct sim_event *out)
{
    size_t at = 0;

    if (heap->count == 0)
        return false;
    *out = heap->events[0];
    const struct sim_event *last = &heap->events[--heap->count];
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count &&
            earlier(&heap->events[child + 1], &heap->events[child]))
            child++;
        if (!earlier(&heap->events[child], last))
            break;
        heap->events[at] = heap->events[child];
        at = child;
    }
    heap->events[at] = *last;
    return true;
}

void sim_heap_free(struct sim_heap *heap)
{
    free(heap->events);
    *heap = (struct sim_heap){.events = NULL};
}

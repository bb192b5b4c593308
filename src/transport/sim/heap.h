// SPDX-License-Identifier: BSD-3-Clause
// What is to happen in a simulated network, earliest first; what happens at the
// same time, in the order in which it was pushed. It knows no clock.
#ifndef TRANSPORT_SIM_HEAP_H
#define TRANSPORT_SIM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_message;

struct sim_event {
    int64_t time_ns;
    uint64_t order;              // given by push
    int32_t rank;                // to whom it happens
    struct sim_message *message; // arrives, owned; NULL: a timer
};

// Begin with zeros.
struct sim_heap {
    struct sim_event *events;
    size_t count;
    size_t room;
    uint64_t pushed;
};

// False: no memory.
bool sim_heap_push(struct sim_heap *heap, struct sim_event event);

// False: there is none.
bool sim_heap_pop(struct sim_heap *heap, struct sim_event *out);

// Frees the heap, not the messages.
void sim_heap_free(struct sim_heap *heap);

#endif

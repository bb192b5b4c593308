// SPDX-License-Identifier: BSD-3-Clause
// A stack and the place on it where to go on. Fibers of one thread only.
#ifndef KERNELS_SIMT_FIBER_H
#define KERNELS_SIMT_FIBER_H

#include <stddef.h>

struct fiber {
    void *place; // the saved stack pointer, or the context
    char *stack; // NULL: the thread's own
    size_t size;
    void *sanitizer; // of the address sanitizer: its fake stack
    void *thread;    // of the thread sanitizer
    void (*entry)(void *);
    void *argument;
};

// The thread that calls, as a fiber.
void fiber_adopt(struct fiber *fiber);
// A fiber that begins with entry(argument) and must end with fiber_switch.
void fiber_create(struct fiber *fiber, void (*entry)(void *), void *argument);
// To be begun anew, on the same stack.
void fiber_rewind(struct fiber *fiber);
void fiber_free(struct fiber *fiber);
void fiber_switch(struct fiber *from, struct fiber *to);

#endif

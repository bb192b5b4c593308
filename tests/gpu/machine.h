// SPDX-License-Identifier: BSD-3-Clause
// What runs the kernels in these tests: the emulator or a GPU, whichever the
// program is linked with.
#ifndef GPU_MACHINE_H
#define GPU_MACHINE_H

#include <stddef.h>

#include "kernels/launch.h"
#include "kernels/slot.h"

enum kernel_name {
    RUN_COUNT,
    RUN_COUNT_PUBLISH,
    RUN_PUBLISH,
    RUN_WAIT,
    RUN_CONTRIBUTE,
    RUN_SETTLE,
    RUN_MAXIMUM,
    RUN_FINISH,
    RUN_LOSS,
    RUN_LOSS_ROWS,
    RUN_LOSS_GRAD,
    RUN_LOSS_GRAD_LONG,
    RUN_BACKWARD,
    RUN_MULTIPLY
};

struct machine_kernel {
    enum kernel_name name;
    enum kernel_element type; // of those from RUN_LOSS on
    bool shaped;              // of those from RUN_FINISH on
};

struct kernel_device machine_device();
bool machine_is_emulated();

// Memory of the machine. Failures end the program.
void *machine_alloc(size_t bytes);
void machine_free(void *memory);
void machine_put(void *to, const void *from, size_t bytes);
void machine_get(void *to, const void *from, size_t bytes);
// Whether kernels may touch it. On the emulator whole pages of it are taken
// away, and a kernel that touches them ends the program; a GPU does nothing.
void machine_allow(void *at, size_t bytes, bool allowed);
void machine_fill(void *to, int value, size_t bytes);
// Index of the first byte that is not `value`; `bytes`, if there is none.
size_t machine_differs(const void *from, int value, size_t bytes);

// Runs to its end. The emulator's order of threads is the seed's.
void machine_run(const struct machine_kernel &kernel, const void *params,
                 size_t params_bytes, const struct kernel_shape &shape,
                 uint64_t seed);

// Called when a word that a kernel stores for the host has come: what is in
// memory is what others see. NULL: not called. The emulator alone.
void machine_watch(void (*seen)(const uint64_t *at));

#endif

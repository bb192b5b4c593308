// SPDX-License-Identifier: BSD-3-Clause
// Runs a kernel on the CPU: all blocks of a cluster at once, clusters one after
// the other, threads in an order that depends on the seed alone. A kernel that
// cannot go on, that reads past shared memory under a sanitizer, or that uses
// the machine in a way the GPU does not allow ends the process with a message.
#ifndef KERNELS_SIMT_SIMT_H
#define KERNELS_SIMT_SIMT_H

#include <stdint.h>

#include "kernels/launch.h"

void simt_launch(void (*kernel)(const void *params), const void *params,
                 const struct kernel_shape &shape, uint64_t seed);

// Of this host thread: whether kernels are launched before the one in front has
// ended, so that all threads of theirs must wait for that (false at first).
void simt_launch_early(bool early);

// Of this host thread: called when a word that a kernel has stored for the host
// is there. NULL: nobody looks.
void simt_watch(void (*seen)(const uint64_t *at));

#endif

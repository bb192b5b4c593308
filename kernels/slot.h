// SPDX-License-Identifier: BSD-3-Clause
// How a stream hands a step's lanes to the host and gets its scales back: what
// the kernels and the progress engine both see. C and CUDA.
//
// The device counts what it publishes: sequence 1, 2, ... A published record
// goes to slot sequence % KERNEL_SLOTS of pinned memory, its sequence last. The
// answer is a 64-bit word a channel: the low 32 bits of the sequence above the
// bits of the scale, so that one load tells whether it has come and what it is.
// Nothing in a launch depends on the epoch: a captured one can be replayed.
#ifndef KERNELS_SLOT_H
#define KERNELS_SLOT_H

#include <stdint.h>

#include "numeric/record.h"

// Two publications an epoch, of which the stream waits for one: at most three
// are under way.
#define KERNEL_SLOTS 16

// What a slot carries.
#define KERNEL_SLOT_WEIGHTS 1u // begins an epoch; its scales are waited for
#define KERNEL_SLOT_LOSSES 2u  // ends it

// Followed by its lanes: the channels' records, then MAX lanes.
struct kernel_slot {
    uint64_t sequence; // last, with release
    uint64_t epoch;
    uint32_t carries;
    int32_t micro_batches;
    uint64_t reserved[5];
};

// Device memory, of one step.
struct kernel_state {
    uint64_t sequence; // of the last publication
    uint64_t epoch;
    uint64_t awaited; // sequence of the last weights
    uint64_t expired; // the wait for this sequence ended by its deadline; 0
};

struct kernel_publish {
    struct kernel_state *state;
    char *slots; // pinned, as the device sees it
    uint64_t slot_bytes;
    struct numeric_record *records; // folded, copied and cleared
    int64_t *maxima;                // the same; NULL: none is offered
    uint32_t channels;
    uint32_t max_lanes;
    uint32_t carries;
    int32_t micro_batches;
    int64_t ranks; // of the group
};

struct kernel_wait {
    struct kernel_state *state;
    const uint64_t *answers; // pinned: [KERNEL_SLOTS][channels]
    uint64_t *expired;       // pinned: as in the state
    float *scales;           // [channels]
    uint32_t channels;
    uint32_t reserved;
    uint64_t deadline_ns; // from the beginning of the wait
};

struct kernel_maximum {
    int64_t *code;
    const float *value;
};

// Threads of publish and wait, one block: a lane of a channel each, or fewer.
#define KERNEL_SLOT_THREADS 128

#endif

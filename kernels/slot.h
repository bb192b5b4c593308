// SPDX-License-Identifier: BSD-3-Clause
// How a stream hands a step's lanes to the host and gets its scales back: what
// the kernels and the progress engine both see. C and CUDA.
//
// The device counts what it publishes: sequence 1, 2, ... A publication goes to
// slot sequence % KERNEL_SLOTS of pinned memory. All that passes between the
// two is in 64-bit words: the low 32 bits of the sequence above 32 bits of what
// it says. So one load tells of a word whether it has come and what it is, and
// no order between words is asked for: a fence would last until the bus has
// acknowledged what was stored before it, about a microsecond. The answer is a
// word a channel with the bits of the scale. Nothing in a launch depends on the
// epoch: a captured one can be replayed.
//
// What that rests on: a word is aligned to its 8 bytes and read and written at
// once, by relaxed atomics of system scope; two words that a thread stores
// together are two stores in any order (PTX ISA, "Memory Consistency Model":
// vectors, single-copy atomicity), on the bus as well. A word is stored at each
// publication to its slot, so what it holds is of the one that is awaited, of
// one before it, by KERNEL_SLOTS at least, or, where the stream has gone on
// without the host, of one behind it: who finds in all words of a slot the
// sequence that it looks for has all of that publication and nothing else. 32
// bits tell them apart as long as the host is less than 2^31 behind. Words that
// were never stored are 0, which is the half of no sequence before 2^32: by
// then all of them have been.
//
// Where the stream reduces by itself (NCCL), it contributes to lanes of device
// memory, and settles behind the reduction: scales from the totals, which go to
// the slot. The host answers nothing and may lag behind.
#ifndef KERNELS_SLOT_H
#define KERNELS_SLOT_H

#include <stdint.h>

#include "kernels/params.h"
#include "numeric/record.h"

// Two publications an epoch, of which the stream waits for one: at most three
// are under way.
#define KERNEL_SLOTS 16

// What a slot carries.
#define KERNEL_SLOT_WEIGHTS 1u // begins an epoch; its scales are waited for
#define KERNEL_SLOT_LOSSES 2u  // ends it
// Settled without totals: the group ends, or is dead.
#define KERNEL_SLOT_POISONED 4u

// The first lanes of a slot. Then come the channels' records and MAX lanes. A
// lane is two words, its low half first.
struct kernel_slot {
    uint64_t epoch;
    uint32_t carries;
    int32_t micro_batches;
};

#define KERNEL_SLOT_HEAD_LANES 2
#define KERNEL_LANE_WORDS 2

// Device memory, of one step.
struct kernel_state {
    uint64_t sequence; // of the last publication
    uint64_t epoch;
    uint64_t awaited;  // sequence of the last weights
    uint64_t expired;  // the wait for this sequence ended by its deadline; 0
    uint64_t poisoned; // a sum was not one of all ranks, or the group is dead
    uint64_t arrived;  // blocks of a count that publishes
};

// What a stream that reduces by itself and the host tell each other; pinned.
struct kernel_mirror {
    uint64_t started;  // the sequence before the reduction
    uint64_t finished; // and behind it, if its totals can be believed
    uint64_t dead;     // by the host, before it aborts anything: not 0
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

// The last count of an epoch, which publishes what is counted then.
struct kernel_count_publish {
    struct kernel_count count;
    struct kernel_publish publish;
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

// A step has no more.
#define KERNEL_CHANNELS_MAX 64

struct kernel_contribute {
    struct kernel_state *state;
    struct kernel_mirror *mirror;
    struct numeric_record *records; // folded, sealed, copied and cleared
    int64_t *maxima;                // the same; NULL: none is offered
    int64_t *lanes;                 // the channels' records, then MAX lanes
    uint64_t step;                  // of the seal: its number in the group
    int64_t rank;
    int64_t ranks;
    uint32_t channels;
    uint32_t max_lanes;
    uint32_t carries;
    uint32_t reserved;
};

struct kernel_settle {
    struct kernel_state *state;
    struct kernel_mirror *mirror;
    const int64_t *lanes; // sums and maxima of all ranks
    char *slots;
    uint64_t slot_bytes;
    float *scales; // [channels], written if it carries weights
    uint64_t step;
    int64_t ranks;
    uint32_t channels;
    uint32_t max_lanes;
    uint32_t carries;
    int32_t micro_batches;
    double divisor; // numeric_scale()
    double coefficients[KERNEL_CHANNELS_MAX];
};

struct kernel_maximum {
    int64_t *code;
    const float *value;
};

// Threads of publish, wait, contribute and settle, one block: a channel each.
#define KERNEL_SLOT_THREADS 128
// Shared memory of settle: two words a warp.
#define KERNEL_SETTLE_BYTES (2 * 4 * KERNEL_SLOT_THREADS / 32)
// And of count_publish: whether the block is the last one.
#define KERNEL_COUNT_PUBLISH_BYTES 8

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What the host finds in a slot that a stream publishes to (kernels/slot.h):
// all of a publication, or nothing of it. C, and C++ of the tests.
#ifndef ORDER_SLOT_H
#define ORDER_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/slot.h"

enum slot_state {
    SLOT_NOT_YET, // not all of it is there
    SLOT_WHOLE,
    SLOT_PASSED // the stream has come round to the slot since
};

// How a word is to the one of that sequence. Of one that comes a turn of 32
// bits later nobody asks.
static inline enum slot_state slot_word_state(uint64_t word, uint64_t sequence)
{
    const uint32_t ahead = (uint32_t)(word >> 32) - (uint32_t)sequence;

    if (ahead == 0)
        return SLOT_WHOLE;
    return ahead >> 31 != 0 ? SLOT_NOT_YET : SLOT_PASSED;
}

// So many lanes; unless it is WHOLE what is in *lanes is of no use. They need
// no acquire, as nothing but the words themselves is taken from the device.
static inline enum slot_state slot_read_lanes(const uint64_t *words,
                                              uint64_t sequence, size_t count,
                                              int64_t *lanes)
{
    uint64_t lane = 0;

    for (size_t i = 0; i < KERNEL_LANE_WORDS * count; i++) {
        const uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        const enum slot_state state = slot_word_state(word, sequence);
        if (state != SLOT_WHOLE)
            return state;
        lane = lane >> 32 | word << 32; // first the low half, then the high one
        lanes[i / KERNEL_LANE_WORDS] = (int64_t)lane;
    }
    return SLOT_WHOLE;
}

// The slot of that sequence: its head, and lane_count lanes behind it.
static inline enum slot_state slot_read(const uint64_t *words,
                                        uint64_t sequence,
                                        struct kernel_slot *head,
                                        size_t lane_count, int64_t *lanes)
{
    int64_t first[KERNEL_SLOT_HEAD_LANES];
    enum slot_state state =
        slot_read_lanes(words, sequence, KERNEL_SLOT_HEAD_LANES, first);

    if (state == SLOT_WHOLE)
        state =
            slot_read_lanes(words + KERNEL_LANE_WORDS * KERNEL_SLOT_HEAD_LANES,
                            sequence, lane_count, lanes);
    if (state == SLOT_WHOLE)
        memcpy(head, first, sizeof(*head));
    return state;
}

// Whether what was last published to a slot, the low half of whose sequence
// goes to *sequence, carries weights: one word says both. For who is behind it
// on the stream.
static inline bool slot_carries_weights(const uint64_t *words,
                                        uint32_t *sequence)
{
    const size_t place =
        offsetof(struct kernel_slot, carries) / sizeof(uint32_t);
    const uint64_t word = __atomic_load_n(&words[place], __ATOMIC_RELAXED);

    *sequence = (uint32_t)(word >> 32);
    return (word & KERNEL_SLOT_WEIGHTS) != 0;
}

#endif

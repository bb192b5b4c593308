// SPDX-License-Identifier: BSD-3-Clause
// How ranks of one node sleep until another of them has written: one word in
// their segment, which costs who writes no more than a look at it.
//
// Who sleeps (S) and who writes (W) do
//
//     S1 seen = calls                    W1 write the line
//     S2 asleep = 1                      W2 if asleep, and it was not set back
//     S3 membarrier                         by another: calls++, wake all
//     S4 look for the line again
//     S5 sleep while calls == seen
//
// W1 and W2 may change places in the processor: there is no fence between them,
// as it would cost every reduction. Instead S3 runs a fence on every processor
// that runs a rank of the node. Where it interrupts W before W2, W2 sees S2;
// where after W2, W1 is there for S4. So either S4 finds the line, or W2 finds
// `asleep`. In the second case, W, or who set `asleep` back before it, adds to
// `calls` after S2, hence after S1, and S5 does not sleep, or is woken. Whoever
// is woken looks, and begins again at S1.
//
// `asleep` may be left set by who did not sleep after all, or died: the next
// write sets it back, and wakes nobody.
#ifndef COLLECTIVE_WAKE_H
#define COLLECTIVE_WAKE_H

#include <stdatomic.h>
#include <stdint.h>
#include <tally/tally.h>

// In the segment, zeroed. A cache line of its own, which is read only as long
// as nobody sleeps.
struct wake {
    _Atomic uint32_t asleep;
    _Atomic uint32_t calls;   // what is slept on (futex, not private)
    _Atomic uint32_t refused; // a rank's kernel has no such barrier
    char rest[52];
};

// A rank that will write. Before any rank of the node sleeps.
void wake_join(struct wake *wake);

// W2.
void wake_call(struct wake *wake);

static inline void wake_sleepers(struct wake *wake)
{
    atomic_signal_fence(memory_order_seq_cst); // W1 stays before W2
    if (atomic_load_explicit(&wake->asleep, memory_order_relaxed) != 0)
        wake_call(wake);
}

// S1 to S3; the caller then does S4 and S5. OK, or UNSUPPORTED: nobody would
// wake it.
tally_status_t wake_arm(struct wake *wake, uint32_t *seen);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// A rank's part: the slot that its device waits for. Decision and deadline race
// for one atomic word; who loses changes nothing. Two threads may race; begin
// is for when neither can.
#ifndef REPLICA_RANK_H
#define REPLICA_RANK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum replica_slot_state {
    REPLICA_SLOT_PENDING = 1, // the device waits
    REPLICA_SLOT_RELEASED,    // with the decision's scale
    REPLICA_SLOT_EXPIRED,     // with a quiet NaN, and a sticky status
};

// Lineage and index in the upper bits, the state in the lower two: what is late
// for one cannot touch the next. A forced lineage begins at an index that the
// one before may have had.
struct replica_slot {
    _Atomic uint64_t word;
};

void replica_slot_begin(struct replica_slot *slot, uint32_t lineage,
                        uint64_t index);

// True: it won, and the caller must hand the device what it won with. False:
// the other one has, or the index is over.
bool replica_slot_release(struct replica_slot *slot, uint32_t lineage,
                          uint64_t index);
bool replica_slot_expire(struct replica_slot *slot, uint32_t lineage,
                         uint64_t index);

// What the rank acknowledges: that the device has the decision's scale.
bool replica_slot_scaled(const struct replica_slot *slot, uint32_t lineage,
                         uint64_t index);

#endif

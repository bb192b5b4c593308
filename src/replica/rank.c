// SPDX-License-Identifier: BSD-3-Clause
// The race of decision and deadline for a rank's slot.
#include "replica/rank.h"

// More steps than any lineage has; 2^16 lineages.
#define INDEX_BITS 46

static uint64_t word_of(uint32_t lineage, uint64_t index,
                        enum replica_slot_state state)
{
    return (uint64_t)lineage << (INDEX_BITS + 2) | index << 2 | (uint64_t)state;
}

void replica_slot_begin(struct replica_slot *slot, uint32_t lineage,
                        uint64_t index)
{
    atomic_store_explicit(&slot->word,
                          word_of(lineage, index, REPLICA_SLOT_PENDING),
                          memory_order_release);
}

static bool take(struct replica_slot *slot, uint32_t lineage, uint64_t index,
                 enum replica_slot_state state)
{
    uint64_t pending = word_of(lineage, index, REPLICA_SLOT_PENDING);

    return atomic_compare_exchange_strong_explicit(
        &slot->word, &pending, word_of(lineage, index, state),
        memory_order_acq_rel, memory_order_acquire);
}

bool replica_slot_release(struct replica_slot *slot, uint32_t lineage,
                          uint64_t index)
{
    return take(slot, lineage, index, REPLICA_SLOT_RELEASED);
}

bool replica_slot_expire(struct replica_slot *slot, uint32_t lineage,
                         uint64_t index)
{
    return take(slot, lineage, index, REPLICA_SLOT_EXPIRED);
}

bool replica_slot_scaled(const struct replica_slot *slot, uint32_t lineage,
                         uint64_t index)
{
    return atomic_load_explicit(&slot->word, memory_order_acquire) ==
           word_of(lineage, index, REPLICA_SLOT_RELEASED);
}

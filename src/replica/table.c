// SPDX-License-Identifier: BSD-3-Clause
// The contribution table and its folds.
#include "replica/table.h"

#include <assert.h>
#include <string.h>

void replica_table_clear(struct replica_table *table)
{
    table->held = 0;
    table->has_proposal = false;
}

uint64_t replica_entry_digest(const struct replica_entry *entry,
                              uint32_t records)
{
    uint64_t digest = replica_digest(0, entry->incarnation);

    digest =
        replica_digest(digest, (uint64_t)entry->vote << 16 | entry->replica);
    digest = replica_digest(digest, entry->applied_through);
    if (entry->has_proposal)
        digest = replica_epoch_digest(digest, &entry->proposal);
    return replica_records_digest(digest, entry->records, records);
}

// Of two proposals the later one; the provider's revisions may repeat.
static bool later(const struct replica_epoch *a, const struct replica_epoch *b)
{
    if (a->revision != b->revision)
        return a->revision > b->revision;
    return replica_epoch_digest(0, a) > replica_epoch_digest(0, b);
}

enum replica_table_put replica_table_put(struct replica_table *table,
                                         const struct replica_entry *entry,
                                         uint32_t records)
{
    struct replica_table_entry *to = &table->entries[entry->replica];
    uint64_t bit = replica_bit(entry->replica);
    uint64_t digest = replica_entry_digest(entry, records);

    if ((table->held & bit) != 0)
        return to->digest == digest ? REPLICA_TABLE_HELD
                                    : REPLICA_TABLE_CONFLICT;
    table->held |= bit;
    to->incarnation = entry->incarnation;
    to->digest = digest;
    to->applied_through = entry->applied_through;
    to->vote = entry->vote;
    to->has_proposal = entry->has_proposal;
    memcpy(to->records, entry->records, records * sizeof(to->records[0]));
    if (entry->has_proposal) {
        table->proposals[entry->replica] = entry->proposal;
        if (!table->has_proposal || later(&entry->proposal, &table->proposal))
            table->proposal = entry->proposal;
        table->has_proposal = true;
    }
    return REPLICA_TABLE_NEW;
}

void replica_table_get(const struct replica_table *table, uint16_t replica,
                       uint32_t records, struct replica_entry *out)
{
    const struct replica_table_entry *from = &table->entries[replica];

    assert((table->held & replica_bit(replica)) != 0);
    out->replica = replica;
    out->incarnation = from->incarnation;
    out->applied_through = from->applied_through;
    out->vote = from->vote;
    out->has_proposal = from->has_proposal;
    if (from->has_proposal)
        out->proposal = table->proposals[replica];
    memcpy(out->records, from->records, records * sizeof(out->records[0]));
}

static void add_up(const struct replica_table *table, uint64_t members,
                   uint32_t records, struct replica_value *value)
{
    assert((members & ~table->held) == 0);
    for (uint64_t rest = members; rest != 0; rest &= rest - 1) {
        int replica = __builtin_ctzll(rest);
        for (uint32_t i = 0; i < records; i++)
            numeric_record_add(&value->totals[i],
                               &table->entries[replica].records[i]);
    }
    for (uint32_t i = 0; i < records; i++)
        numeric_record_fold(&value->totals[i]);
}

// Whether an epoch has a member that the one before has not.
static bool joins(const struct replica_epoch *before,
                  const struct replica_epoch *next)
{
    for (uint64_t rest = next->members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        if (!replica_epoch_member(before, peer, next->incarnations[peer]))
            return true;
    }
    return false;
}

// Whether somebody that it names is known to be there: who is counted by the
// decision that names it, or a joiner, who has said so. Of all the others the
// provider's word may be old, or they are sealed, and nobody would contribute.
static bool is_attended(const struct replica_epoch *before,
                        const struct replica_epoch *next, uint64_t counted)
{
    return (next->members & counted) != 0 || joins(before, next);
}

// Who is counted. A decision that names a joiner counts nobody: so the state
// that the joiner holds when it is named is still the group's when it takes
// part.
static void fold_count(const struct replica_table *table,
                       const struct replica_fold *fold,
                       struct replica_value *value)
{
    const struct replica_epoch *epoch = &fold->at->epoch;

    value->kind = REPLICA_COUNT;
    if (table->has_proposal &&
        is_attended(epoch, &table->proposal, table->held)) {
        value->has_next = true;
        value->next = table->proposal;
        value->next.lineage = epoch->lineage;
        value->next.number = epoch->number + 1;
        if (joins(epoch, &value->next))
            value->kind = REPLICA_ABORT;
    }
    if (replica_set_size(table->held) < (int)fold->minimum)
        value->kind = REPLICA_ABORT;
    if (value->kind == REPLICA_COUNT)
        value->members = table->held;
}

// Whose gradients are applied: G if all of it is ready. Else those that are
// there try again, without who is silent or has no scale.
static void fold_apply(const struct replica_table *table,
                       const struct replica_fold *fold,
                       struct replica_value *value)
{
    uint64_t ready = 0;
    uint64_t again = 0;
    bool veto = false;

    for (uint64_t rest = table->held; rest != 0; rest &= rest - 1) {
        int replica = __builtin_ctzll(rest);
        uint8_t vote = table->entries[replica].vote;
        if (vote == REPLICA_READY)
            ready |= rest & -rest;
        if (vote == REPLICA_READY || vote == REPLICA_UNREADY)
            again |= rest & -rest;
        veto = veto || vote == REPLICA_VETO;
    }
    value->kind = REPLICA_DISCARD;
    if (veto)
        return;
    if (ready == fold->eligible) {
        value->kind = REPLICA_APPLY;
        value->members = ready;
    } else if (replica_set_size(again) >= (int)fold->minimum &&
               fold->at->next.attempt < fold->attempts) {
        value->kind = REPLICA_RETRY;
        value->members = again;
    }
}

void replica_table_fold(const struct replica_table *table,
                        const struct replica_fold *fold,
                        struct replica_value *value)
{
    assert((table->held & ~fold->eligible) == 0);
    memset(value, 0, sizeof(*value));
    if (fold->at->next.attempt == 0)
        fold_count(table, fold, value);
    else
        fold_apply(table, fold, value);
    add_up(table, value->members, fold->records, value);
    value->digest = replica_value_digest(value, fold->at->next,
                                         fold->at->previous, fold->records);
}

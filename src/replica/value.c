// SPDX-License-Identifier: BSD-3-Clause
// Epochs, positions, values and their digests.
#include "replica/value.h"

#include <assert.h>
#include <string.h>

bool replica_epoch_same(const struct replica_epoch *a,
                        const struct replica_epoch *b)
{
    if (a->members != b->members || a->acceptor_count != b->acceptor_count)
        return false;
    for (uint32_t i = 0; i < a->acceptor_count; i++)
        if (!replica_name_equal(a->acceptors[i], b->acceptors[i]))
            return false;
    return memcmp(a->incarnations, b->incarnations, sizeof(a->incarnations)) ==
           0;
}

static uint64_t name_digest(uint64_t digest, struct replica_name name)
{
    digest = replica_digest(digest, replica_name_place(name));
    return replica_digest(digest, name.incarnation);
}

uint64_t replica_epoch_digest(uint64_t digest,
                              const struct replica_epoch *epoch)
{
    digest =
        replica_digest(digest, (uint64_t)epoch->lineage << 32 | epoch->number);
    digest = replica_digest(digest, epoch->revision);
    digest = replica_digest(digest, epoch->members);
    digest = replica_digest(digest, epoch->acceptor_count);
    for (uint32_t i = 0; i < epoch->acceptor_count; i++)
        digest = name_digest(digest, epoch->acceptors[i]);
    for (uint64_t rest = epoch->members; rest != 0; rest &= rest - 1)
        digest =
            replica_digest(digest, epoch->incarnations[__builtin_ctzll(rest)]);
    return digest;
}

int replica_epoch_acceptor(const struct replica_epoch *epoch,
                           struct replica_name name)
{
    for (uint32_t i = 0; i < epoch->acceptor_count; i++)
        if (replica_name_equal(epoch->acceptors[i], name))
            return (int)i;
    return -1;
}

bool replica_epoch_member(const struct replica_epoch *epoch, uint16_t peer,
                          uint64_t incarnation)
{
    return (epoch->members & replica_bit(peer)) != 0 &&
           epoch->incarnations[peer] == incarnation;
}

uint64_t replica_epoch_acceptors(const struct replica_epoch *epoch)
{
    uint64_t peers = 0;

    for (uint32_t i = 0; i < epoch->acceptor_count; i++)
        peers |= replica_bit(epoch->acceptors[i].peer);
    return peers;
}

uint64_t replica_epoch_peers(const struct replica_epoch *epoch)
{
    return epoch->members | replica_epoch_acceptors(epoch);
}

bool replica_epoch_names(const struct replica_epoch *epoch,
                         struct replica_name name)
{
    return name.rank == 0 &&
           (replica_epoch_member(epoch, name.peer, name.incarnation) ||
            replica_epoch_acceptor(epoch, name) >= 0);
}

uint64_t replica_records_digest(uint64_t digest,
                                const struct numeric_record *records,
                                uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        digest = replica_digest(digest, (uint64_t)records[i].loss_hi);
        digest = replica_digest(digest, (uint64_t)records[i].loss_lo);
        digest = replica_digest(digest, (uint64_t)records[i].weight_hi);
        digest = replica_digest(digest, (uint64_t)records[i].weight_lo);
        digest = replica_digest(digest, (uint64_t)records[i].count);
        digest = replica_digest(digest, (uint64_t)records[i].nonfinite);
        digest = replica_digest(digest, (uint64_t)records[i].bad_labels);
    }
    return digest;
}

uint64_t replica_value_digest(const struct replica_value *value,
                              struct replica_instance instance,
                              uint64_t previous, uint32_t records)
{
    uint64_t digest = replica_digest(previous, instance.index);

    digest =
        replica_digest(digest, (uint64_t)instance.attempt << 32 | value->kind);
    digest = replica_digest(digest, value->members);
    digest = replica_records_digest(digest, value->totals, records);
    if (value->has_next)
        digest = replica_epoch_digest(digest, &value->next);
    return digest;
}

void replica_value_copy(struct replica_value *to,
                        const struct replica_value *from, uint32_t records)
{
    memcpy(to, from,
           offsetof(struct replica_value, totals) +
               records * sizeof(from->totals[0]));
}

void replica_position_advance(struct replica_position *position,
                              const struct replica_value *value)
{
    if (value->kind == REPLICA_APPLY) {
        position->group.index = position->next.index;
        position->group.digest =
            replica_digest(position->group.digest, value->digest);
    }
    position->previous = value->digest;
    if (value->has_next) {
        assert(position->next.attempt == 0);
        position->has_coming = true;
        position->coming = value->next;
    }
    if (!replica_value_ends_index(value)) {
        position->next.attempt++;
        return;
    }
    position->next.index++;
    position->next.attempt = 0;
    if (position->has_coming)
        position->epoch = position->coming;
    position->has_coming = false;
}

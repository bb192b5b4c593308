// SPDX-License-Identifier: BSD-3-Clause
// Encoding and strict decoding of messages. Both go through the same walk of
// fields, so that they cannot differ.
#include "replica/message.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

// A cursor over bytes that are written, or read and checked.
struct walk {
    uint8_t *to;         // writing
    const uint8_t *from; // reading
    size_t at;
    size_t length;
    bool bad;
};

// Inline, as a word of so many bytes is one instruction then.
static inline void walk_word(struct walk *walk, uint64_t *word, size_t bytes)
{
    uint64_t little = 0;

    if (walk->bad || walk->length - walk->at < bytes) {
        walk->bad = true;
        *word = 0;
        return;
    }
    if (walk->to != NULL) {
        little = htole64(*word);
        memcpy(walk->to + walk->at, &little, bytes);
    } else {
        memcpy(&little, walk->from + walk->at, bytes);
        *word = le64toh(little);
    }
    walk->at += bytes;
}

static void walk_u64(struct walk *walk, uint64_t *word)
{
    walk_word(walk, word, 8);
}

static void walk_u32(struct walk *walk, uint32_t *value)
{
    uint64_t word = *value;

    walk_word(walk, &word, 4);
    *value = (uint32_t)word;
}

static void walk_u16(struct walk *walk, uint16_t *value, uint16_t bound)
{
    uint64_t word = *value;

    walk_word(walk, &word, 2);
    walk->bad = walk->bad || word >= bound;
    *value = (uint16_t)word;
}

static void walk_kind(struct walk *walk, uint8_t *kind, uint8_t least,
                      uint8_t most)
{
    uint64_t word = *kind;

    walk_word(walk, &word, 1);
    walk->bad = walk->bad || word < least || word > most;
    *kind = (uint8_t)word;
}

static void walk_bool(struct walk *walk, bool *value)
{
    uint8_t byte = *value;

    walk_kind(walk, &byte, 0, 1);
    *value = byte == 1;
}

static void walk_name(struct walk *walk, struct replica_name *name)
{
    walk_u16(walk, &name->peer, REPLICA_PEERS_MAX);
    walk_u16(walk, &name->rank, UINT16_MAX);
    walk_u64(walk, &name->incarnation);
}

static void walk_instance(struct walk *walk, struct replica_instance *instance)
{
    walk_u64(walk, &instance->index);
    walk_u32(walk, &instance->attempt);
}

static void walk_ballot(struct walk *walk, struct replica_ballot *ballot)
{
    walk_u32(walk, &ballot->round);
    walk_name(walk, &ballot->leader);
}

static void walk_state(struct walk *walk, struct replica_state *state)
{
    walk_u64(walk, &state->index);
    walk_u64(walk, &state->digest);
}

static void walk_epoch(struct walk *walk, struct replica_epoch *epoch)
{
    walk_u32(walk, &epoch->lineage);
    walk_u32(walk, &epoch->number);
    walk_u64(walk, &epoch->revision);
    walk_u64(walk, &epoch->members);
    walk_u32(walk, &epoch->acceptor_count);
    if (epoch->acceptor_count > REPLICA_ACCEPTORS_MAX ||
        epoch->acceptor_count % 2 == 0) {
        walk->bad = true;
        return;
    }
    for (uint32_t i = 0; i < epoch->acceptor_count; i++)
        walk_name(walk, &epoch->acceptors[i]);
    for (uint64_t rest = epoch->members; rest != 0; rest &= rest - 1)
        walk_u64(walk, &epoch->incarnations[__builtin_ctzll(rest)]);
}

static void walk_records(struct walk *walk, struct numeric_record *records,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int64_t *lanes[] = {&records[i].loss_hi,    &records[i].loss_lo,
                            &records[i].weight_hi,  &records[i].weight_lo,
                            &records[i].count,      &records[i].nonfinite,
                            &records[i].bad_labels, &records[i].reserved};
        for (int lane = 0; lane < NUMERIC_LANES; lane++) {
            uint64_t word = (uint64_t)*lanes[lane];
            walk_u64(walk, &word);
            *lanes[lane] = (int64_t)word;
        }
        // Not canonical: whoever sent it has folded by other rules.
        if ((uint64_t)records[i].loss_lo >> 32 != 0 ||
            (uint64_t)records[i].weight_lo >> 32 != 0 ||
            records[i].reserved != 0)
            walk->bad = true;
    }
}

static void walk_entry(struct walk *walk, struct replica_entry *entry,
                       uint32_t records)
{
    walk_u16(walk, &entry->replica, REPLICA_PEERS_MAX);
    walk_u64(walk, &entry->incarnation);
    walk_u64(walk, &entry->applied_through);
    walk_kind(walk, &entry->vote, REPLICA_COUNTS, REPLICA_VETO);
    walk_bool(walk, &entry->has_proposal);
    if (entry->has_proposal)
        walk_epoch(walk, &entry->proposal);
    walk_records(walk, entry->records, records);
}

static void walk_value(struct walk *walk, struct replica_value *value,
                       uint32_t records)
{
    walk_kind(walk, &value->kind, REPLICA_COUNT, REPLICA_DISCARD);
    walk_bool(walk, &value->has_next);
    walk_u64(walk, &value->members);
    walk_u64(walk, &value->digest);
    if (value->has_next)
        walk_epoch(walk, &value->next);
    walk_records(walk, value->totals, records);
}

static void walk_position(struct walk *walk, struct replica_position *position)
{
    walk_epoch(walk, &position->epoch);
    walk_instance(walk, &position->next);
    walk_u64(walk, &position->previous);
    walk_state(walk, &position->group);
    walk->bad = walk->bad || position->next.attempt != 0;
}

static void walk_body(struct walk *walk, struct replica_message *message,
                      uint32_t records)
{
    switch (message->kind) {
    case REPLICA_ENTRY:
        walk_entry(walk, &message->entry, records);
        break;
    case REPLICA_VOTE:
    case REPLICA_ACCEPT:
        walk_ballot(walk, &message->ballot);
        walk_value(walk, &message->value, records);
        break;
    case REPLICA_PREPARE:
        walk_ballot(walk, &message->ballot);
        walk_u64(walk, &message->held);
        break;
    case REPLICA_PROMISE:
        walk_ballot(walk, &message->ballot);
        walk_u64(walk, &message->held);
        walk_bool(walk, &message->has_value);
        if (message->has_value) {
            walk_ballot(walk, &message->accepted);
            walk_value(walk, &message->value, records);
        }
        break;
    case REPLICA_REFUSED:
        walk_ballot(walk, &message->ballot);
        break;
    case REPLICA_DECISION:
        walk_value(walk, &message->value, records);
        break;
    case REPLICA_POSITION:
        walk_position(walk, &message->position);
        walk_state(walk, &message->state);
        break;
    case REPLICA_JOIN:
    case REPLICA_SEALED:
        walk_state(walk, &message->state);
        break;
    case REPLICA_SEAL:
        walk_epoch(walk, &message->survivors);
        break;
    case REPLICA_FENCE:
        walk_u64(walk, &message->held);
        break;
    default: // ASK: the header says it all
        break;
    }
}

static void walk_message(struct walk *walk, struct replica_message *message,
                         uint32_t records)
{
    uint8_t version = REPLICA_WIRE_VERSION;
    uint16_t records_there = (uint16_t)records;

    walk_kind(walk, &version, REPLICA_WIRE_VERSION, REPLICA_WIRE_VERSION);
    walk_kind(walk, &message->kind, REPLICA_ENTRY, REPLICA_MESSAGE_KINDS - 1);
    walk_u16(walk, &records_there, REPLICA_RECORDS_MAX + 1);
    walk->bad = walk->bad || records_there != records;
    walk_u64(walk, &message->group);
    walk_name(walk, &message->from);
    walk_u32(walk, &message->lineage);
    walk_u32(walk, &message->epoch);
    walk_instance(walk, &message->instance);
    walk_u64(walk, &message->previous);
    if (!walk->bad)
        walk_body(walk, message, records);
}

size_t replica_message_encode(const struct replica_message *message,
                              uint32_t records, uint8_t *bytes)
{
    struct walk walk = {.to = bytes, .length = REPLICA_MESSAGE_MAX};

    assert(bytes != NULL);
    // Writing changes nothing in the message.
    walk_message(&walk, (struct replica_message *)(uintptr_t)message, records);
    assert(!walk.bad);
    return walk.at;
}

bool replica_message_decode(const uint8_t *bytes, size_t length,
                            uint32_t records, struct replica_message *out)
{
    struct walk walk = {.from = bytes, .length = length};

    memset(out, 0, sizeof(*out));
    walk_message(&walk, out, records);
    return !walk.bad && walk.at == length;
}

const char *replica_message_name(uint8_t kind)
{
    static const char *const names[REPLICA_MESSAGE_KINDS] = {
        [REPLICA_ENTRY] = "ENTRY",       [REPLICA_VOTE] = "VOTE",
        [REPLICA_PREPARE] = "PREPARE",   [REPLICA_PROMISE] = "PROMISE",
        [REPLICA_ACCEPT] = "ACCEPT",     [REPLICA_REFUSED] = "REFUSED",
        [REPLICA_DECISION] = "DECISION", [REPLICA_ASK] = "ASK",
        [REPLICA_POSITION] = "POSITION", [REPLICA_JOIN] = "JOIN",
        [REPLICA_SEAL] = "SEAL",         [REPLICA_SEALED] = "SEALED",
        [REPLICA_FENCE] = "FENCE",
    };

    assert(kind > 0 && kind < REPLICA_MESSAGE_KINDS);
    return names[kind];
}

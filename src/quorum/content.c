// SPDX-License-Identifier: BSD-3-Clause
// See content.h. Positions travel as the message POSITION does.
#include "quorum/content.h"

#include <assert.h>
#include <string.h>

#include "quorum/words.h"
#include "replica/message.h"

#define VERSION 1
#define RECORD_HEAD_BYTES 25

static_assert(QUORUM_VALUE_MAX >= RECORD_HEAD_BYTES + REPLICA_MESSAGE_MAX,
              "a record has room");

void content_record_encode(const struct quorum_record *record,
                           const struct content_author *author, uint64_t job,
                           struct quorum_value *value)
{
    const struct replica_message message = {
        .kind = REPLICA_POSITION,
        .from = {author->peer, 0, author->incarnation},
        .group = job,
        .lineage = record->position.epoch.lineage,
        .epoch = record->position.epoch.number,
        .position = record->position,
    };
    uint8_t *at = value->bytes;

    at = word_put(at, VERSION, 1);
    at = word_put(at, author->request, 8);
    at = word_put(at, record->published.index, 8);
    at = word_put(at, record->published.digest, 8);
    assert(at == value->bytes + RECORD_HEAD_BYTES);
    value->length = RECORD_HEAD_BYTES + replica_message_encode(&message, 0, at);
}

bool content_record_decode(const struct quorum_value *value, uint64_t job,
                           struct quorum_record *record,
                           struct content_author *author)
{
    const uint8_t *at = value->bytes;
    struct replica_message message;
    uint64_t version;

    if (value->length < RECORD_HEAD_BYTES)
        return false;
    at = word_get(at, &version, 1);
    at = word_get(at, &author->request, 8);
    at = word_get(at, &record->published.index, 8);
    at = word_get(at, &record->published.digest, 8);
    if (version != VERSION ||
        !replica_message_decode(at, value->length - RECORD_HEAD_BYTES, 0,
                                &message) ||
        message.kind != REPLICA_POSITION || message.group != job)
        return false;
    record->position = message.position;
    author->peer = message.from.peer;
    author->incarnation = message.from.incarnation;
    return true;
}

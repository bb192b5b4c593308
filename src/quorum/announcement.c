// SPDX-License-Identifier: BSD-3-Clause
// Announcements (content.h): the part that providers in files of their own have
// within, too.
#include <assert.h>
#include <string.h>

#include "quorum/content.h"
#include "quorum/words.h"

#define VERSION 1

uint64_t content_digest(const char *text)
{
    uint64_t digest = 1;

    for (; *text != '\0'; text++)
        digest = replica_digest(digest, (uint8_t)*text);
    return digest;
}

size_t content_announcement_encode(const struct quorum_member *member,
                                   uint64_t job, uint8_t *bytes)
{
    uint8_t *at = bytes;

    assert(member->address_bytes <= QUORUM_ADDRESS_MAX);
    at = word_put(at, VERSION, 1);
    at = word_put(at, member->peer, 2);
    at = word_put(at, job, 8);
    at = word_put(at, member->incarnation, 8);
    assert(at == bytes + CONTENT_ANNOUNCEMENT_HEAD);
    if (member->address_bytes > 0)
        memcpy(at, member->address, member->address_bytes);
    return CONTENT_ANNOUNCEMENT_HEAD + member->address_bytes;
}

bool content_announcement_decode(const void *bytes, size_t length, uint64_t job,
                                 struct quorum_member *member)
{
    const uint8_t *at = bytes;
    uint64_t version, peer, job_there;

    if (length < CONTENT_ANNOUNCEMENT_HEAD || length > CONTENT_ANNOUNCEMENT_MAX)
        return false;
    at = word_get(at, &version, 1);
    at = word_get(at, &peer, 2);
    at = word_get(at, &job_there, 8);
    at = word_get(at, &member->incarnation, 8);
    member->peer = (uint16_t)peer;
    member->address = at;
    member->address_bytes = length - CONTENT_ANNOUNCEMENT_HEAD;
    return version == VERSION && peer < REPLICA_PEERS_MAX && job_there == job &&
           member->incarnation != 0;
}

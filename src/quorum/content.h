// SPDX-License-Identifier: BSD-3-Clause
// What providers move without reading it, as bytes: announcements of processes
// and the register's record. Little-endian; one length for one content.
#ifndef QUORUM_CONTENT_H
#define QUORUM_CONTENT_H

#include "quorum/provider.h"

#define CONTENT_ANNOUNCEMENT_HEAD 19
#define CONTENT_ANNOUNCEMENT_MAX                                               \
    (CONTENT_ANNOUNCEMENT_HEAD + QUORUM_ADDRESS_MAX)

// Who wrote a record, so that it knows its own again.
struct content_author {
    uint16_t peer;
    uint64_t incarnation;
    uint64_t request;
};

// A digest of text, for keeping jobs apart.
uint64_t content_digest(const char *text);

// Returns the length.
size_t content_announcement_encode(const struct quorum_member *member,
                                   uint64_t job, uint8_t *bytes);
// False: these are not the bytes of one, or it is of another job. The address
// borrows from `bytes`.
bool content_announcement_decode(const void *bytes, size_t length, uint64_t job,
                                 struct quorum_member *member);

// Sets the value's bytes and length.
void content_record_encode(const struct quorum_record *record,
                           const struct content_author *author, uint64_t job,
                           struct quorum_value *value);
// False: it holds no record of this job that can be understood.
bool content_record_decode(const struct quorum_value *value, uint64_t job,
                           struct quorum_record *record,
                           struct content_author *author);

#endif

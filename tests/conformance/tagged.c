// SPDX-License-Identifier: BSD-3-Clause
// See tagged.h: messages between healthy ranks.
#include "conformance/tagged.h"

#include <stdlib.h>
#include <string.h>

#include "conformance/pattern.h"
#include "harness/side.h"

#define BYTES_MAX ((size_t)64 << 10)

void tagged_all_to_all(struct processes_member *member)
{
    enum { ROUNDS = 50, BYTES = 80 };
    unsigned char out[BYTES], in[PROCESSES_MAX][BYTES];
    tally_request_t requests[PROCESSES_MAX];
    struct side side;

    side_join(&side, member);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (int32_t i = 0; i < member->size; i++)
            if (i != member->rank)
                EXPECT(side.ops->trecv(side.transport,
                                       (uint64_t)round << 32 | (uint64_t)i,
                                       in[i], BYTES, &requests[i]) == TALLY_OK);
        pattern_fill(out, BYTES,
                     round * PROCESSES_MAX + (unsigned)member->rank);
        for (int32_t i = 0; i < member->size; i++)
            if (i != member->rank)
                side_send(&side, i,
                          (uint64_t)round << 32 | (uint64_t)member->rank, out,
                          BYTES);
        for (int32_t i = 0; i < member->size; i++)
            if (i != member->rank) {
                EXPECT(side_wait(&side, &requests[i]) == TALLY_OK);
                EXPECT(requests[i].bytes == BYTES);
                EXPECT(pattern_holds(in[i], BYTES,
                                     round * PROCESSES_MAX + (unsigned)i));
            }
    }
    processes_barrier(member);
    side_close(&side);
}

void tagged_sizes(struct processes_member *member)
{
    static const size_t sizes[] = {
        0,        1,    7,    8,    63,   64,   65,   80,    255,
        1024,     4095, 4096, 8191, 8192, 8193, 8257, 32768, BYTES_MAX - 1,
        BYTES_MAX};
    int32_t peer = 1 - member->rank;
    unsigned char *out = malloc(BYTES_MAX);
    unsigned char *in = malloc(BYTES_MAX);
    tally_request_t request;
    struct side side;

    side_join(&side, member);
    EXPECT(side.ops->message_max >= BYTES_MAX);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memset(in, 0, BYTES_MAX);
        pattern_fill(out, sizes[i], i + (unsigned)member->rank);
        // The room is larger than the message: its length must be told.
        EXPECT(side.ops->trecv(side.transport, i, in, BYTES_MAX, &request) ==
               TALLY_OK);
        side_send(&side, peer, i, out, sizes[i]);
        EXPECT(side_wait(&side, &request) == TALLY_OK);
        EXPECT(request.bytes == sizes[i]);
        EXPECT(pattern_holds(in, sizes[i], i + (unsigned)peer));
        EXPECT(sizes[i] == BYTES_MAX || in[sizes[i]] == 0);
    }
    processes_barrier(member);
    side_close(&side);
    free(in);
    free(out);
}

// Tags that differ in one bit each, so that every bit must be compared.
void tagged_tags_in_any_order(struct processes_member *member)
{
    enum { TAGS = 64 };
    struct side side;

    side_join(&side, member);
    if (member->rank == 0)
        for (unsigned i = 0; i < TAGS; i++)
            side_send(&side, 1, 1ull << i, &i, sizeof(i));
    else
        for (unsigned i = TAGS; i-- > 0;) {
            unsigned got = TAGS;
            EXPECT(side_receive(&side, 1ull << i, &got, sizeof(got)) ==
                   sizeof(got));
            EXPECT(got == i);
        }
    processes_barrier(member);
    side_close(&side);
}

void tagged_equal_tags_in_order(struct processes_member *member)
{
    enum { MESSAGES = 200, TAG = 7 };
    tally_request_t requests[MESSAGES];
    unsigned got[MESSAGES];
    struct side side;

    side_join(&side, member);
    if (member->rank == 0)
        for (unsigned i = 0; i < MESSAGES; i++)
            side_send(&side, 1, TAG, &i, sizeof(i));
    // Half of the receives are posted early, half when the messages are there.
    for (unsigned i = 0; member->rank == 1 && i < MESSAGES; i++) {
        if (i == MESSAGES / 2)
            for (unsigned j = 0; j < i; j++)
                EXPECT(side_wait(&side, &requests[j]) == TALLY_OK);
        EXPECT(side.ops->trecv(side.transport, TAG, &got[i], sizeof(got[i]),
                               &requests[i]) == TALLY_OK);
    }
    for (unsigned i = 0; member->rank == 1 && i < MESSAGES; i++) {
        EXPECT(side_wait(&side, &requests[i]) == TALLY_OK);
        EXPECT(got[i] == i);
    }
    processes_barrier(member);
    side_close(&side);
}

void tagged_many_outstanding(struct processes_member *member)
{
    enum { MESSAGES = 1000, BYTES = 600 };
    int32_t peer = 1 - member->rank;
    tally_request_t *sends = calloc(MESSAGES, sizeof(*sends));
    tally_request_t *receives = calloc(MESSAGES, sizeof(*receives));
    unsigned char(*out)[BYTES] = calloc(MESSAGES, BYTES);
    unsigned char(*in)[BYTES] = calloc(MESSAGES, BYTES);
    struct side side;

    side_join(&side, member);
    for (unsigned i = 0; i < MESSAGES; i++) {
        pattern_fill(out[i], BYTES, i + (unsigned)member->rank);
        EXPECT(side.ops->tsend(side.peers[peer], i, out[i], BYTES, &sends[i]) ==
               TALLY_OK);
    }
    for (unsigned i = 0; i < MESSAGES; i++)
        EXPECT(side.ops->trecv(side.transport, i, in[i], BYTES, &receives[i]) ==
               TALLY_OK);
    for (unsigned i = 0; i < MESSAGES; i++) {
        EXPECT(side_wait(&side, &sends[i]) == TALLY_OK);
        EXPECT(side_wait(&side, &receives[i]) == TALLY_OK);
        EXPECT(pattern_holds(in[i], BYTES, i + (unsigned)peer));
    }
    processes_barrier(member);
    side_close(&side);
    free(in);
    free(out);
    free(receives);
    free(sends);
}

// The sender's side may fail too: a stream is of no use after it.
void tagged_short_receive(struct processes_member *member)
{
    unsigned char room[64 + 1] = {0};
    unsigned char message[128];
    tally_request_t request;
    struct side side;

    side_join(&side, member);
    pattern_fill(message, sizeof(message), 1);
    if (member->rank == 0) {
        EXPECT(side.ops->tsend(side.peers[1], 1, message, sizeof(message),
                               &request) == TALLY_OK);
        side_wait(&side, &request);
    } else {
        EXPECT(side.ops->trecv(side.transport, 1, room, sizeof(room) - 1,
                               &request) == TALLY_OK);
        EXPECT(side_wait(&side, &request) < TALLY_OK);
        EXPECT(room[sizeof(room) - 1] == 0);
    }
    processes_barrier(member);
    side_close(&side);
}

void tagged_message_after_short_receive(struct processes_member *member)
{
    unsigned char message[128];
    tally_request_t request;
    struct side side;

    side_join(&side, member);
    if (member->rank == 0) {
        pattern_fill(message, sizeof(message), 1);
        side_send(&side, 1, 1, message, sizeof(message));
        side_send(&side, 1, 2, message, sizeof(message));
    } else {
        EXPECT(side.ops->trecv(side.transport, 1, message, 1, &request) ==
               TALLY_OK);
        EXPECT(side_wait(&side, &request) < TALLY_OK);
        EXPECT(side_receive(&side, 2, message, sizeof(message)) ==
               sizeof(message));
        EXPECT(pattern_holds(message, sizeof(message), 1));
    }
    processes_barrier(member);
    side_close(&side);
}

void tagged_cancel(struct processes_member *member)
{
    enum { RECEIVES = 3, CANCELLED = 1, TAG = 5 };
    tally_request_t requests[RECEIVES];
    unsigned got[RECEIVES] = {0};
    struct side side;

    side_join(&side, member);
    if (member->rank == 1) {
        for (unsigned i = 0; i < RECEIVES; i++)
            EXPECT(side.ops->trecv(side.transport, TAG, &got[i], sizeof(got[i]),
                                   &requests[i]) == TALLY_OK);
        side.ops->cancel(side.transport, &requests[CANCELLED]);
        EXPECT(side_wait(&side, &requests[CANCELLED]) < TALLY_OK);
        // Again is nothing.
        side.ops->cancel(side.transport, &requests[CANCELLED]);
    }
    processes_barrier(member);
    if (member->rank == 0) {
        for (unsigned i = 1; i < RECEIVES; i++)
            side_send(&side, 1, TAG, &i, sizeof(i));
    } else {
        EXPECT(side_wait(&side, &requests[0]) == TALLY_OK);
        EXPECT(side_wait(&side, &requests[2]) == TALLY_OK);
        EXPECT(got[0] == 1 && got[1] == 0 && got[2] == 2);
    }
    processes_barrier(member);
    side_close(&side);
}

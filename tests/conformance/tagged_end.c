// SPDX-License-Identifier: BSD-3-Clause
// See tagged.h: how it ends, in order or not.
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conformance/pattern.h"
#include "conformance/tagged.h"
#include "harness/side.h"

void tagged_close_with_pending(struct processes_member *member)
{
    enum { RECEIVES = 20 };
    tally_request_t requests[RECEIVES];
    unsigned char *room = calloc(RECEIVES, 64);
    struct side side;

    side_join(&side, member);
    for (unsigned i = 0; i < RECEIVES; i++)
        EXPECT(side.ops->trecv(side.transport, i, room + i * 64, 64,
                               &requests[i]) == TALLY_OK);
    side_send(&side, 1 - member->rank, 0, "there", 6);
    EXPECT(side_wait(&side, &requests[0]) == TALLY_OK);
    processes_barrier(member);
    side_close(&side);
    for (unsigned i = 1; i < RECEIVES; i++)
        EXPECT(requests[i].status < TALLY_OK);
    free(room); // nothing may write to it any more: the sanitizers look
}

// They outlive their sender, though nobody reads yet, and though messages that
// it never read lie at its side.
void tagged_send_then_close(struct processes_member *member)
{
    enum { MESSAGES = 20, BYTES = 2000 };
    unsigned char buffer[BYTES];
    struct side side;

    side_join(&side, member);
    // Both sides are joined first: a connection is made by the first message.
    side_send(&side, 1 - member->rank, MESSAGES, buffer, 0);
    side_receive(&side, MESSAGES, buffer, 0);
    if (member->rank == 1)
        side_send(&side, 0, MESSAGES + 1, buffer, BYTES);
    processes_barrier(member);
    for (unsigned i = 0; member->rank == 0 && i < MESSAGES; i++) {
        pattern_fill(buffer, BYTES, i);
        side_send(&side, 1, i, buffer, BYTES);
    }
    if (member->rank == 0)
        side_close(&side);
    processes_barrier(member);
    for (unsigned i = 0; member->rank == 1 && i < MESSAGES; i++) {
        EXPECT(side_receive(&side, i, buffer, BYTES) == BYTES);
        EXPECT(pattern_holds(buffer, BYTES, i));
    }
    if (member->rank == 1)
        side_close(&side);
}

// The sends are not complete when close is called: it must see to them.
void tagged_close_flushes(struct processes_member *member)
{
    enum { MESSAGES = 100, BYTES = 4000, READY = 1000 };
    tally_request_t *requests = calloc(MESSAGES, sizeof(*requests));
    unsigned char *buffer = calloc(1, BYTES);
    struct side side;

    side_join(&side, member);
    // Both ways are up first: close is bounded in time, and a loaded machine
    // may need it all for that.
    if (member->rank == 0) {
        EXPECT(side_receive(&side, READY, buffer, BYTES) == 1);
        side_send(&side, 1, READY, buffer, 1);
    } else {
        side_send(&side, 0, READY, buffer, 1);
        EXPECT(side_receive(&side, READY, buffer, BYTES) == 1);
    }
    pattern_fill(buffer, BYTES, 1);
    for (unsigned i = 0; member->rank == 0 && i < MESSAGES; i++)
        EXPECT(side.ops->tsend(side.peers[1], i, buffer, BYTES, &requests[i]) ==
               TALLY_OK);
    for (unsigned i = 0; member->rank == 1 && i < MESSAGES; i++) {
        memset(buffer, 0, BYTES);
        EXPECT(side_receive(&side, i, buffer, BYTES) == BYTES);
        EXPECT(pattern_holds(buffer, BYTES, 1));
    }
    side_close(&side);
    for (unsigned i = 0; member->rank == 0 && i < MESSAGES; i++)
        EXPECT(requests[i].status == TALLY_OK);
    free(buffer);
    free(requests);
}

// Sends until the loss shows, in the send itself or in its request.
static tally_status_t send_until_error(struct side *side)
{
    static const unsigned char message[64];
    tally_request_t request;

    for (;;) {
        tally_status_t status = side->ops->tsend(side->peers[1], 1, message,
                                                 sizeof(message), &request);
        if (status == TALLY_OK)
            status = side_wait(side, &request);
        if (status != TALLY_OK)
            return status;
        for (int i = 0; i < 1000; i++)
            side->ops->progress(side->transport);
        usleep(1000);
    }
}

void tagged_peer_killed(struct processes_member *member)
{
    unsigned char buffer[64];
    tally_request_t receive, send;
    struct side side;

    side_join(&side, member);
    side_send(&side, 1 - member->rank, 0, buffer, sizeof(buffer));
    side_receive(&side, 0, buffer, sizeof(buffer));
    processes_barrier(member);
    if (member->rank == 1)
        kill(getpid(), SIGKILL);
    EXPECT(side.ops->trecv(side.transport, 2, buffer, sizeof(buffer),
                           &receive) == TALLY_OK);
    EXPECT(send_until_error(&side) == TALLY_ERR_PEER);
    while (side.losses[1] == 0)
        side.ops->progress(side.transport);
    EXPECT(side.losses[1] == 1 && side.losses[0] == 0);
    // From now on at once.
    EXPECT(side.ops->tsend(side.peers[1], 1, buffer, sizeof(buffer), &send) ==
           TALLY_ERR_PEER);
    // A receive is not told: it is for the caller to cancel.
    side.ops->cancel(side.transport, &receive);
    EXPECT(side_wait(&side, &receive) < TALLY_OK);
    side_close(&side);
}

// Fills what lies between the two until sends no longer complete.
static void flood(struct side *side, tally_request_t *requests, unsigned count,
                  const unsigned char *message, size_t bytes)
{
    for (unsigned i = 0; i < count; i++)
        EXPECT(side->ops->tsend(side->peers[1], i, message, bytes,
                                &requests[i]) == TALLY_OK);
    for (int i = 0; i < 1000; i++)
        side->ops->progress(side->transport);
    EXPECT(requests[count - 1].status == TALLY_NOT_YET);
}

void tagged_peer_stopped(struct processes_member *member)
{
    enum { MESSAGES = 400, BYTES = 60000 };
    tally_request_t *requests = calloc(MESSAGES, sizeof(*requests));
    unsigned char *message = calloc(1, BYTES);
    struct side side;

    side_join(&side, member);
    side_send(&side, 1 - member->rank, MESSAGES, message, 1);
    side_receive(&side, MESSAGES, message, 1);
    processes_barrier(member);
    if (member->rank == 1)
        kill(getpid(), SIGSTOP);
    flood(&side, requests, MESSAGES, message, BYTES);
    side_close(&side); // comes back: the test's time limit is the guard
    for (unsigned i = 0; i < MESSAGES; i++)
        EXPECT(requests[i].status != TALLY_NOT_YET);
    kill(processes_pid(member, 1), SIGKILL);
    free(message);
    free(requests);
}

static void meet_all(struct side *side)
{
    const struct processes_member *member = side->member;
    char byte = 0;

    for (int32_t i = 0; i < member->size; i++)
        if (i != member->rank)
            side_send(side, i, (uint64_t)member->rank, &byte, 1);
    for (int32_t i = 0; i < member->size; i++)
        if (i != member->rank)
            side_receive(side, (uint64_t)i, &byte, 1);
    processes_barrier(side->member);
}

// Round trips between 0 and 2, each of which starts with a send to the dead.
static void talk_past_the_dead(struct side *side, tally_request_t *requests,
                               unsigned rounds)
{
    enum { TAG = 100 };
    int32_t peer = 2 - side->member->rank;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned got = 0;

        requests[i].status = TALLY_ERR_PEER; // for a send that is refused
        (void)side->ops->tsend(side->peers[1], TAG, &requests[i],
                               sizeof(requests[i].bytes), &requests[i]);
        side_send(side, peer, TAG + i, &i, sizeof(i));
        EXPECT(side_receive(side, TAG + i, &got, sizeof(got)) == sizeof(got));
        EXPECT(got == i);
    }
}

void tagged_peer_killed_untold(struct processes_member *member)
{
    enum { ROUNDS = 200, NEVER_SENT = 50 };
    tally_request_t requests[ROUNDS], receive;
    char byte;
    struct side side;

    side_join(&side, member);
    meet_all(&side);
    if (member->rank == 1)
        kill(getpid(), SIGKILL);
    EXPECT(side.ops->trecv(side.transport, NEVER_SENT, &byte, 1, &receive) ==
           TALLY_OK);
    talk_past_the_dead(&side, requests, ROUNDS);
    EXPECT(side.losses[1] <= 1);
    EXPECT(side.losses[0] == 0 && side.losses[2] == 0);
    side.ops->cancel(side.transport, &receive);
    EXPECT(side_wait(&side, &receive) < TALLY_OK);
    for (unsigned i = 0; i < ROUNDS; i += 2)
        side.ops->cancel(side.transport, &requests[i]);
    side_close(&side); // comes back: the test's time limit is the guard
    for (unsigned i = 0; i < ROUNDS; i++)
        EXPECT(requests[i].status != TALLY_NOT_YET);
}

// SPDX-License-Identifier: BSD-3-Clause
// The guest's side of coming up: find the root among its candidate ports, be
// sent on to the parent, be welcomed. A root that is not there yet is asked
// again and again, until the deadline.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/secret.h"
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"

// Pauses between rounds of attempts double from the first to the last.
static const int64_t first_pause_us = 5000;
static const int64_t last_pause_us = 500000;
// A host that accepts and does not challenge us within this is none of ours.
static const int64_t challenge_us = 10000000;

// A parent was there when the root named it: after so many pauses it is gone.
// Then the root is asked again, so many times.
#define PARENT_ROUNDS_MAX 10
#define RETURNS_MAX 3

// A crowd that begins together comes to the root by and by, or the kernel there
// would have no place for most of it and let them wait for seconds.
#define CROWD_MIN 4096
static const int64_t crowd_each_us = 20;

#define ADDRESSES_MAX 8

static void remember(struct member *member, const char *why)
{
    snprintf(member->join.why, sizeof(member->join.why), "%s", why);
}

// Begins to connect to one of a host's addresses; each try takes the next.
static int connect_to_root(struct member *member)
{
    const struct identity *identity = &member->identity;
    struct member_join *join = &member->join;
    struct socket_place places[ADDRESSES_MAX];
    int32_t port = join->candidate % identity->port_count;
    int32_t round = join->candidate / identity->port_count;
    const char *why = "";

    snprintf(join->place, sizeof(join->place), "%s:%u", identity->host,
             identity->ports[port]);
    int count = member->network->ops->resolve(member->network, identity->host,
                                              identity->ports[port], places,
                                              ADDRESSES_MAX, &why);
    join->candidate++;
    if (count == 0) {
        remember(member, why);
        return -1;
    }
    // All its ports by one address, then all by the next.
    return member->network->ops->connect(member->network,
                                         &places[round % count]);
}

static void go_to(struct member *member, bool at_root, int64_t at_us)
{
    member->join.at_root = at_root;
    member->join.pause_us = first_pause_us;
    member->join.tries = 0;
    member->join.rounds = 0;
    member->join.retry_at_us = at_us; // join_tick goes
}

// The next pause: twice as long as the last one, or longer where the host says
// so. Ranks that began together do not come back together.
static void pause_at_least(struct member *member, int64_t least_us)
{
    struct member_join *join = &member->join;
    struct network *network = member->network;
    int64_t pause_us = join->pause_us / 2 +
                       network->ops->draw(network, (uint32_t)join->pause_us);

    if (join->pause_us < last_pause_us)
        join->pause_us *= 2;
    join->retry_at_us =
        network_now_us(network) + (pause_us > least_us ? pause_us : least_us);
}

static void pause_then_retry(struct member *member)
{
    struct member_join *join = &member->join;

    // All candidates of a round without a pause.
    if (++join->tries < (join->at_root ? member->identity.port_count : 1)) {
        join->retry_at_us = 0;
        return;
    }
    join->tries = 0;
    if (++join->rounds > PARENT_ROUNDS_MAX && !join->at_root) {
        // Whoever had its name may not have been it.
        if (++join->returns <= RETURNS_MAX) {
            go_to(member, true, 0);
            return;
        }
        member_fail(member, TALLY_ERR_BOOTSTRAP,
                    "rank %d is not at %s any more: %s",
                    (int)shape_parent(member->rank, member->radix), join->place,
                    join->why);
        return;
    }
    pause_at_least(member, 0);
}

static void try_connect(struct member *member)
{
    struct member_join *join = &member->join;

    join->retry_at_us = INT64_MAX;
    errno = 0;
    if (!join->at_root)
        socket_place_text(&join->parent, join->place);
    int fd = join->at_root ? connect_to_root(member)
                           : member->network->ops->connect(member->network,
                                                           &join->parent);
    if (fd < 0) {
        if (errno != 0)
            remember(member, strerror(errno));
        pause_then_retry(member);
        return;
    }
    join->link = member_connection_add(member, fd, ROLE_JOINING);
    if (join->link == NULL) {
        remember(member, "no memory");
        pause_then_retry(member);
        return;
    }
    // A parent hears us when it has a parent itself.
    join->give_up_at_us = join->at_root
                              ? network_now_us(member->network) + challenge_us
                              : INT64_MAX;
    join->link->connecting = true;
}

void join_begin(struct member *member)
{
    struct network *network = member->network;
    int64_t spread_us =
        member->size < CROWD_MIN ? 1 : member->size * crowd_each_us;

    go_to(member, true,
          network_now_us(network) +
              network->ops->draw(network, (uint32_t)spread_us));
}

void join_connected(struct member *member, struct connection *host)
{
    host->connecting = false;
    if (secret_nonce(host->nonce) != TALLY_OK)
        member_fail(member, TALLY_ERR_SYSTEM, "no random bytes");
}

void join_broken(struct member *member, const char *why)
{
    if (member->join.link != NULL) {
        member->join.link->broken = true;
        member->join.link->role = ROLE_FINISHED;
    }
    member->join.link = NULL;
    remember(member, why);
    if (member->state == MEMBER_COMING_UP)
        pause_then_retry(member);
}

static void take_redirect(struct member *member, struct connection *host,
                          const struct connection_frame *frame)
{
    struct wire_place place;

    if (!member->join.at_root ||
        !wire_place_decode(frame->body, frame->header.bytes, &place)) {
        join_broken(member, "it does not speak as the root does");
        return;
    }
    memcpy(member->join.parent.address, place.address, sizeof(place.address));
    member->join.parent.port = place.port;
    host->role = ROLE_FINISHED;
    host->closing = true;
    member->join.link = NULL;
    go_to(member, false, 0);
}

static void take_later(struct member *member, struct connection *host,
                       const struct connection_frame *frame)
{
    struct wire_later later;

    if (!wire_later_decode(frame->body, frame->header.bytes, &later)) {
        join_broken(member, "it does not speak as the root does");
        return;
    }
    host->role = ROLE_FINISHED;
    host->closing = true;
    member->join.link = NULL;
    member->join.sent_away = true;
    pause_at_least(member, (int64_t)later.pause_ms * 1000);
}

static void take_welcome(struct member *member, struct connection *host)
{
    host->role = ROLE_PARENT;
    host->body_max = WIRE_BODY_BYTES_MAX;
    host->rank =
        member->join.at_root ? 0 : shape_parent(member->rank, member->radix);
    member->parent = host;
    member_note_own(member, host);
    member->join.link = NULL;
    member->join.retry_at_us = INT64_MAX;
    presence_came(member, member->rank);
    admit_open(member);
}

static void take_refusal(struct member *member,
                         const struct connection_frame *frame)
{
    struct wire_refuse refuse;

    if (!wire_refuse_decode(frame->body, frame->header.bytes, &refuse)) {
        join_broken(member, "it does not speak as the root does");
        return;
    }
    // Another job may have one of our candidate ports.
    if (refuse.stranger && member->join.at_root &&
        member->identity.port_count > 1) {
        char why[MEMBER_SENTENCE_BYTES];

        snprintf(why, sizeof(why), "%.*s", (int)refuse.sentence.length,
                 refuse.sentence.bytes);
        join_broken(member, why);
        return;
    }
    member_fail(member, refuse.status, "%.*s", (int)refuse.sentence.length,
                refuse.sentence.bytes);
}

void join_frame(struct member *member, struct connection *host,
                const struct connection_frame *frame)
{
    struct wire_challenge challenge;

    if (frame->header.protocol != WIRE_PROTOCOL) {
        char why[96];

        snprintf(why, sizeof(why), "it speaks rendezvous protocol %u, not %d",
                 frame->header.protocol, WIRE_PROTOCOL);
        join_broken(member, why);
        return;
    }
    if ((frame->header.type == WIRE_WELCOME ||
         frame->header.type == WIRE_REDIRECT ||
         frame->header.type == WIRE_LATER) &&
        !hello_answer_proven(member, host, frame)) {
        join_broken(member, "who listens there does not know TALLY_SECRET");
        return;
    }
    switch (frame->header.type) {
    case WIRE_CHALLENGE:
        if (!wire_challenge_decode(frame->body, frame->header.bytes,
                                   &challenge)) {
            join_broken(member, "it does not speak as the root does");
            return;
        }
        member->join.give_up_at_us = INT64_MAX;
        hello_send(member, host, challenge.nonce);
        return;
    case WIRE_WELCOME:
        take_welcome(member, host);
        return;
    case WIRE_REDIRECT:
        take_redirect(member, host, frame);
        return;
    case WIRE_LATER:
        take_later(member, host, frame);
        return;
    case WIRE_REFUSE:
        take_refusal(member, frame);
        return;
    default:
        join_broken(member, "it does not speak as the root does");
    }
}

void join_tick(struct member *member, int64_t now_us)
{
    struct member_join *join = &member->join;

    if (member->state != MEMBER_COMING_UP)
        return;
    if (join->link != NULL && now_us >= join->give_up_at_us)
        join_broken(member, "who listens there says nothing");
    while (join->link == NULL && join->retry_at_us <= now_us &&
           member->state == MEMBER_COMING_UP)
        try_connect(member);
}

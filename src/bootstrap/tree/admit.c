// SPDX-License-Identifier: BSD-3-Clause
// The host's side of coming up. The root hears every rank's hello, checks it,
// and keeps its own children; others it sends to their parent, once that has
// come. A parent hears only its children.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bootstrap/link/inherited.h"
#include "bootstrap/secret.h"
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"
#include "core/clock.h"
#include "core/error.h"

// Taken at once, so that a crowd of guests does not starve the admitted.
#define ACCEPT_MAX 64

tally_status_t admit_listen(struct member *member)
{
    const struct identity *identity = &member->identity;
    bool loopback = socket_host_is_loopback(identity->host);
    int32_t count = member_is_root(member) ? identity->port_count : 1;

    for (int32_t i = 0; i < count && member->listen_fd < 0; i++)
        socket_listen(member_is_root(member) ? identity->ports[i] : 0, loopback,
                      &member->listen_fd, &member->port);
    if (member->listen_fd < 0 && member_is_root(member))
        return core_fail(TALLY_ERR_BOOTSTRAP,
                         "rank 0 cannot listen at %s of %s: %s",
                         count > 1 ? "any candidate port" : "the port",
                         identity->host, strerror(errno));
    if (member->listen_fd < 0)
        return core_fail(TALLY_ERR_BOOTSTRAP, "rank %d cannot listen: %s",
                         (int)member->rank, strerror(errno));
    inherited_watch(member->listen_fd);
    return TALLY_OK;
}

void admit_open(struct member *member)
{
    struct epoll_event event = {.events = EPOLLIN,
                                .data.ptr = &member->listen_fd};

    if (member->listen_fd < 0)
        return; // no children
    if (epoll_ctl(member->epoll_fd, EPOLL_CTL_ADD, member->listen_fd, &event) <
        0)
        member_fail(member, TALLY_ERR_SYSTEM, "epoll_ctl: %s", strerror(errno));
}

void admit_close(struct member *member)
{
    if (member->listen_fd >= 0)
        inherited_close(member->listen_fd);
    member->listen_fd = -1;
}

// Descriptors are for ranks: the guest that has been silent for longest gives
// its own away. A rank comes again. False: no guest is there.
static bool turn_out_a_guest(struct member *member)
{
    struct connection *first = NULL;

    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_GUEST && !one->broken)
            first = one; // new ones are put in front
    if (first != NULL)
        first->broken = true;
    return first != NULL;
}

void admit_accept(struct member *member)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        struct wire_challenge challenge;
        int fd = socket_accept(member->listen_fd);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE) &&
            !turn_out_a_guest(member))
            member_fail(member, TALLY_ERR_SYSTEM,
                        "rank %d has no file descriptors left (ulimit -n)",
                        (int)member->rank);
        if (fd < 0)
            return;
        struct connection *guest =
            member_connection_add(member, fd, ROLE_GUEST);
        if (guest == NULL)
            return;
        if (member->finishing) {
            member_say_failure(member, guest);
            continue;
        }
        if (secret_nonce(guest->nonce) != TALLY_OK) {
            guest->broken = true;
            continue;
        }
        memcpy(challenge.nonce, guest->nonce, sizeof(challenge.nonce));
        connection_send(guest, WIRE_CHALLENGE, &challenge, sizeof(challenge));
    }
}

static void refuse_stranger(struct member *member, struct connection *guest,
                            tally_status_t status, const char *sentence)
{
    uint8_t body[MEMBER_SENTENCE_BYTES + 64];
    struct wire_refuse refuse = {
        .status = status,
        .stranger = 1,
        .sentence = {sentence, (uint32_t)strlen(sentence)},
    };

    core_log(member->log, TALLY_LOG_WARN, "turned away: %s", sentence);
    connection_send(guest, WIRE_REFUSE, body,
                    wire_refuse_encode(&refuse, body, sizeof(body)));
    guest->role = ROLE_FINISHED;
    guest->closing = true;
}

static void welcome(struct member *member, struct connection *guest)
{
    struct wire_welcome answer = {{0}};

    // The guest's own nonce was taken over from its hello.
    hello_answer_mac(member, WIRE_WELCOME, guest->nonce, answer.mac,
                     sizeof(answer.mac));
    connection_send(guest, WIRE_WELCOME, answer.mac, sizeof(answer.mac));
    guest->role = ROLE_CHILD;
    guest->body_max = WIRE_BODY_BYTES_MAX;
    presence_came(member, guest->rank);
}

// Where a child finds its parent. A parent that reached the root by the
// loopback is on the root's host: others find it where they found the root.
static void redirect(struct member *member, struct connection *guest,
                     const struct socket_place *parent)
{
    struct wire_place answer = {.port = parent->port};
    uint8_t body[sizeof(answer)];
    struct socket_place own;

    memcpy(answer.address, parent->address, sizeof(answer.address));
    if (socket_place_is_loopback(parent) &&
        !socket_place_is_loopback(&guest->place) && socket_own(guest->fd, &own))
        memcpy(answer.address, own.address, sizeof(answer.address));
    size_t bytes = wire_place_encode(&answer, body, sizeof(body));
    hello_answer_mac(member, WIRE_REDIRECT, guest->nonce, body, bytes);
    connection_send(guest, WIRE_REDIRECT, body, bytes);
    guest->role = ROLE_FINISHED;
    guest->closing = true;
}

static void root_admit(struct member *member, struct connection *guest,
                       const struct wire_hello *hello)
{
    struct member_arrival *arrival = &member->arrivals[hello->rank];
    int64_t patience_at_us =
        clock_now_us() + (int64_t)hello->patience_ms * 1000;
    char before[SOCKET_TEXT_BYTES];
    char now[SOCKET_TEXT_BYTES];

    if (hello->rank == 0 || arrival->came) {
        socket_place_text(&arrival->place, before);
        socket_place_text(&guest->place, now);
        member_fail(member, TALLY_ERR_MISMATCH,
                    "rank %d came twice, from %s and from %s", (int)hello->rank,
                    hello->rank == 0 ? "the root's host" : before, now);
        return;
    }
    // The least patient rank decides for all.
    if (patience_at_us < member->deadline_us) {
        member->deadline_us = patience_at_us;
        member->patience_us = (int64_t)hello->timeout_ms * 1000;
    }
    member_note_own(member, guest);
    arrival->came = true;
    arrival->place = guest->place;
    arrival->place.port = hello->port;
    int32_t parent = shape_parent(hello->rank, member->radix);
    if (parent == 0) {
        welcome(member, guest);
    } else if (member->arrivals[parent].came) {
        redirect(member, guest, &member->arrivals[parent].place);
    } else {
        guest->role = ROLE_WAITING;
        arrival->waiting = guest;
    }
    int64_t child = shape_first_child(hello->rank, member->radix);
    for (int i = 0; i < member->radix && child + i < member->size; i++) {
        struct member_arrival *below = &member->arrivals[child + i];

        if (below->waiting != NULL)
            redirect(member, below->waiting, &arrival->place);
        below->waiting = NULL;
    }
}

static bool child_is_here(const struct member *member, int32_t rank)
{
    for (const struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_CHILD && one->rank == rank && !one->broken)
            return true;
    return false;
}

static void parent_admit(struct member *member, struct connection *guest,
                         const struct wire_hello *hello)
{
    char from[SOCKET_TEXT_BYTES];

    socket_place_text(&guest->place, from);
    if (hello->rank == 0 ||
        shape_parent(hello->rank, member->radix) != member->rank ||
        child_is_here(member, hello->rank)) {
        char sentence[MEMBER_SENTENCE_BYTES];

        snprintf(sentence, sizeof(sentence),
                 "rank %d (%s) has nothing to do at rank %d", (int)hello->rank,
                 from, (int)member->rank);
        refuse_stranger(member, guest, TALLY_ERR_MISMATCH, sentence);
        return;
    }
    welcome(member, guest);
}

void admit_frame(struct member *member, struct connection *guest,
                 const struct connection_frame *frame)
{
    char sentence[MEMBER_SENTENCE_BYTES];
    struct wire_hello hello;
    bool stranger;

    if (frame->header.protocol != WIRE_PROTOCOL) {
        char from[SOCKET_TEXT_BYTES];

        socket_place_text(&guest->place, from);
        snprintf(sentence, sizeof(sentence),
                 "%s speaks rendezvous protocol %u, rank %d speaks %d", from,
                 frame->header.protocol, (int)member->rank, WIRE_PROTOCOL);
        refuse_stranger(member, guest, TALLY_ERR_MISMATCH, sentence);
        return;
    }
    if (frame->header.type != WIRE_HELLO || member->finishing ||
        !wire_hello_decode(frame->body, frame->header.bytes, &hello)) {
        guest->broken = true;
        return;
    }
    if (!hello_fits(member, guest, frame, &hello, &stranger, sentence)) {
        if (stranger)
            refuse_stranger(member, guest, TALLY_ERR_MISMATCH, sentence);
        else
            member_fail(member, TALLY_ERR_MISMATCH, "%s", sentence);
        return;
    }
    guest->rank = hello.rank;
    memcpy(guest->nonce, hello.nonce, sizeof(guest->nonce));
    if (member_is_root(member))
        root_admit(member, guest, &hello);
    else
        parent_admit(member, guest, &hello);
}

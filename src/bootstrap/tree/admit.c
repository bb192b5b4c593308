// SPDX-License-Identifier: BSD-3-Clause
// The host's side of coming up. The root hears every rank's hello, checks it,
// and keeps its own children; others it sends to their parent, once that has
// come. A parent hears only its children.
//
// However many ranks come at once, in whatever order, and whoever else does: a
// host has no more connections than children and a fixed number of guests. The
// others are left with the kernel, which queues them, or told when to come
// again.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bootstrap/secret.h"
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"
#include "core/error.h"

// Taken at once, so that a crowd of guests does not starve the admitted.
#define ACCEPT_MAX 64

// Guests at once, and of them ranks that wait for their parent.
#define GUESTS_MAX 64
#define WAITING_MAX 32
// A guest that has said nothing for so long gives its place to another.
static const int64_t silence_us = 1000000;
// Appointments of those who are to come again: the first one, and how far apart
// they are, so that a crowd does not come back as one.
static const int64_t first_appointment_us = 5000;
static const int64_t between_appointments_us = 50;
static const int64_t longest_pause_us = 10000000;

tally_status_t admit_listen(struct member *member)
{
    const struct identity *identity = &member->identity;
    struct network *network = member->network;
    bool loopback = socket_host_is_loopback(identity->host);
    int32_t count = member_is_root(member) ? identity->port_count : 1;

    for (int32_t i = 0; i < count && member->listen_fd < 0; i++)
        network->ops->listen(network,
                             member_is_root(member) ? identity->ports[i] : 0,
                             loopback, &member->listen_fd, &member->port);
    if (member->listen_fd < 0 && member_is_root(member))
        return core_fail(TALLY_ERR_BOOTSTRAP,
                         "rank 0 cannot listen at %s of %s: %s",
                         count > 1 ? "any candidate port" : "the port",
                         identity->host, strerror(errno));
    if (member->listen_fd < 0)
        return core_fail(TALLY_ERR_BOOTSTRAP, "rank %d cannot listen: %s",
                         (int)member->rank, strerror(errno));
    return TALLY_OK;
}

static void hear_listener(struct member *member, bool added)
{
    if (member->network->ops->watch(member->network, member->listen_fd, added,
                                    member->crowded ? 0 : EPOLLIN,
                                    &member->listen_fd) < 0)
        member_fail(member, TALLY_ERR_SYSTEM, "epoll_ctl: %s", strerror(errno));
}

void admit_open(struct member *member)
{
    if (member->listen_fd >= 0) // or it has no children
        hear_listener(member, false);
}

void admit_close(struct member *member)
{
    if (member->listen_fd >= 0)
        member->network->ops->close(member->network, member->listen_fd);
    member->listen_fd = -1;
}

// The guest that has been silent for longest. NULL: none is.
static struct connection *silent_guest(const struct member *member)
{
    struct connection *first = NULL;

    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_GUEST && !one->broken)
            first = one; // new ones are put in front
    return first;
}

// Places and descriptors are for ranks: who is turned out and is one, comes
// again. False: nobody has been silent since `since_us`.
static bool turn_out_a_guest(struct member *member, int64_t since_us)
{
    struct connection *guest = silent_guest(member);

    if (guest == NULL || guest->since_us > since_us)
        return false;
    guest->broken = true;
    return true;
}

static bool is_full(const struct member *member)
{
    // Whoever comes late to a root that has failed is told so, at once.
    return !member->finishing &&
           member->connection_count >= member->radix + GUESTS_MAX;
}

void admit_tick(struct member *member, int64_t now_us)
{
    if (!member->crowded || member->listen_fd < 0)
        return;
    if (is_full(member)) {
        turn_out_a_guest(member, now_us - silence_us);
        return; // its place is free after the next sweep
    }
    member->crowded = false;
    hear_listener(member, true);
}

int64_t admit_next_us(const struct member *member)
{
    const struct connection *guest;

    if (!member->crowded || member->listen_fd < 0)
        return INT64_MAX;
    if (!is_full(member))
        return 0;
    guest = silent_guest(member);
    return guest != NULL ? guest->since_us + silence_us : INT64_MAX;
}

void admit_accept(struct member *member)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        struct wire_challenge challenge;

        if (is_full(member)) {
            member->crowded = true;
            hear_listener(member, true);
            return;
        }
        int fd =
            member->network->ops->accept(member->network, member->listen_fd);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE) &&
            !turn_out_a_guest(member, INT64_MAX))
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
    guest->role = ROLE_CHILD; // in the tree when it has answered
    guest->body_max = WIRE_BODY_BYTES_MAX;
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
        !socket_place_is_loopback(&guest->place) &&
        member->network->ops->own(member->network, guest->fd, &own))
        memcpy(answer.address, own.address, sizeof(answer.address));
    size_t bytes = wire_place_encode(&answer, body, sizeof(body));
    hello_answer_mac(member, WIRE_REDIRECT, guest->nonce, body, bytes);
    connection_send(guest, WIRE_REDIRECT, body, bytes);
    guest->role = ROLE_FINISHED;
    guest->closing = true;
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// It is to come again.
static void send_away(struct member *member, struct connection *guest)
{
    struct wire_later answer = {{0}, 0};
    uint8_t body[sizeof(answer)];
    int64_t now_us = network_now_us(member->network);
    int64_t pause_us =
        member->appointment_us + between_appointments_us - now_us;

    if (pause_us < first_appointment_us)
        pause_us = first_appointment_us;
    pause_us = at_most(pause_us, longest_pause_us);
    // By the deadline, to hear the verdict.
    pause_us = at_most(pause_us, member->deadline_us - now_us);
    if (pause_us < 0)
        pause_us = 0;
    member->appointment_us = now_us + pause_us;
    answer.pause_ms = (uint32_t)(pause_us / 1000);
    size_t bytes = wire_later_encode(&answer, body, sizeof(body));
    hello_answer_mac(member, WIRE_LATER, guest->nonce, body, bytes);
    connection_send(guest, WIRE_LATER, body, bytes);
    guest->role = ROLE_FINISHED;
    guest->closing = true;
}

static void wait_for_parent(struct member *member, struct connection *guest)
{
    if (member->waiting == WAITING_MAX) {
        send_away(member, guest);
        return;
    }
    member->waiting++;
    member->arrivals[guest->rank].waiting = guest;
    guest->role = ROLE_WAITING;
}

static void stop_waiting(struct member *member, int32_t rank)
{
    if (member->arrivals[rank].waiting == NULL)
        return;
    member->arrivals[rank].waiting = NULL;
    member->waiting--;
}

void admit_forget(struct member *member, struct connection *guest)
{
    if (member_is_root(member) && guest->role == ROLE_WAITING)
        stop_waiting(member, guest->rank);
}

void admit_children_of(struct member *member, int32_t rank)
{
    int64_t child = shape_first_child(rank, member->radix);

    member->arrivals[rank].came = true;
    for (int i = 0; rank > 0 && i < member->radix && child + i < member->size;
         i++) {
        struct connection *waiting = member->arrivals[child + i].waiting;

        stop_waiting(member, (int32_t)(child + i));
        if (waiting != NULL)
            redirect(member, waiting, &member->arrivals[rank].place);
    }
}

// The child of a rank that is here already, or NULL.
static struct connection *child_of_rank(const struct member *member,
                                        int32_t rank)
{
    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_CHILD && one->rank == rank && !one->broken)
            return one;
    return NULL;
}

// A child that has not answered its welcome may have been nobody, or its
// connection may have broken unnoticed: then the rank comes again, and has its
// place. Returns whether the guest may have it now; if not, it is sent away.
static bool may_replace(struct member *member, struct connection *guest)
{
    struct connection *first = child_of_rank(member, guest->rank);

    if (first == NULL)
        return true;
    if (network_now_us(member->network) < first->since_us + silence_us) {
        send_away(member, guest);
        return false;
    }
    first->broken = true;
    return true;
}

static void came_twice(struct member *member, const struct connection *guest,
                       char sentence[MEMBER_SENTENCE_BYTES])
{
    const struct connection *first = child_of_rank(member, guest->rank);
    char before[SOCKET_TEXT_BYTES] = "the root's host";
    char now[SOCKET_TEXT_BYTES];

    if (first != NULL)
        socket_place_text(&first->place, before);
    else if (guest->rank > 0)
        socket_place_text(&member->arrivals[guest->rank].place, before);
    socket_place_text(&guest->place, now);
    snprintf(sentence, MEMBER_SENTENCE_BYTES,
             "rank %d came twice, from %s and from %s", (int)guest->rank,
             before, now);
}

static void root_admit(struct member *member, struct connection *guest,
                       const struct wire_hello *hello)
{
    struct member_arrival *arrival = &member->arrivals[hello->rank];
    int64_t patience_at_us =
        network_now_us(member->network) + (int64_t)hello->patience_ms * 1000;
    char sentence[MEMBER_SENTENCE_BYTES];

    if (arrival->in_tree || arrival->waiting != NULL) {
        came_twice(member, guest, sentence);
        member_fail(member, TALLY_ERR_MISMATCH, "%s", sentence);
        return;
    }
    if (!may_replace(member, guest))
        return;
    // The least patient rank decides for all.
    if (patience_at_us < member->deadline_us) {
        member->deadline_us = patience_at_us;
        member->patience_us = (int64_t)hello->timeout_ms * 1000;
    }
    member_note_own(member, guest);
    arrival->place = guest->place;
    arrival->place.port = hello->port;
    int32_t parent = shape_parent(hello->rank, member->radix);
    if (parent == 0)
        welcome(member, guest);
    else if (member->arrivals[parent].came)
        redirect(member, guest, &member->arrivals[parent].place);
    else
        wait_for_parent(member, guest);
    if (parent != 0) // a child of ours has to answer first
        admit_children_of(member, hello->rank);
}

static void parent_admit(struct member *member, struct connection *guest)
{
    const struct connection *first = child_of_rank(member, guest->rank);
    char sentence[MEMBER_SENTENCE_BYTES];
    char from[SOCKET_TEXT_BYTES];

    socket_place_text(&guest->place, from);
    if (guest->rank == 0 ||
        shape_parent(guest->rank, member->radix) != member->rank) {
        snprintf(sentence, sizeof(sentence),
                 "rank %d (%s) has nothing to do at rank %d", (int)guest->rank,
                 from, (int)member->rank);
        refuse_stranger(member, guest, TALLY_ERR_MISMATCH, sentence);
    } else if (first != NULL && first->proven) {
        came_twice(member, guest, sentence);
        refuse_stranger(member, guest, TALLY_ERR_MISMATCH, sentence);
    } else if (may_replace(member, guest)) {
        welcome(member, guest);
    }
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
        parent_admit(member, guest);
}

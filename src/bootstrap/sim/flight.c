// SPDX-License-Identifier: BSD-3-Clause
// What is on its way between hosts, and what becomes of it where it arrives.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/sim/state.h"
#include "numeric/mix.h"

#define ROOM_MIN 256
#define SYN_RETRY_NS INT64_C(1000000000)
#define SYN_TRIES_MAX 6

uint64_t plain_random(struct plain *plain)
{
    uint64_t number = numeric_mix(plain->random);

    plain->random += NUMERIC_MIX_STEP;
    return number;
}

// Room for one more of `size` bytes each.
static bool grow(struct plain *plain, void **array, int *room, int count,
                 size_t size)
{
    if (count < *room)
        return true;
    int more = *room > 0 ? 2 * *room : 16;
    void *grown = realloc(*array, (size_t)more * size);

    if (grown == NULL) {
        plain->out_of_memory = true;
        return false;
    }
    *array = grown;
    *room = more;
    return true;
}

// ------------------------------------------------------------------ happenings

void plain_wake_at(struct plain *plain, struct host *host, int64_t time_ns)
{
    if (time_ns >= host->wake_ns)
        return;
    host->wake_ns = time_ns;
    if (!sim_heap_push(&plain->heap, (struct sim_event){
                                         .time_ns = time_ns,
                                         .rank = host->number,
                                     }))
        plain->out_of_memory = true;
}

static int64_t flight_ns(struct plain *plain)
{
    int64_t jitter_ns = plain->options.jitter_ns;

    if (jitter_ns == 0)
        return plain->options.one_way_ns;
    return plain->options.one_way_ns +
           (int64_t)(plain_random(plain) % (uint64_t)jitter_ns);
}

static void send_at(struct plain *plain, int64_t time_ns, int32_t host,
                    struct arrival head, const void *bytes)
{
    struct arrival *arrival = malloc(sizeof(*arrival) + head.count);

    if (arrival == NULL) {
        plain->out_of_memory = true;
        return;
    }
    *arrival = head;
    if (bytes != NULL)
        memcpy(arrival->bytes, bytes, head.count);
    if (!sim_heap_push(&plain->heap, (struct sim_event){
                                         .time_ns = time_ns,
                                         .rank = host,
                                         .message = (void *)arrival,
                                     })) {
        free(arrival);
        plain->out_of_memory = true;
    }
}

void plain_send_in_order(struct plain *plain, struct plain_socket *from,
                         int64_t now_ns, enum kind kind, const void *bytes,
                         size_t count)
{
    int64_t time_ns = now_ns + flight_ns(plain);

    if (time_ns < from->arrives_ns)
        time_ns = from->arrives_ns;
    from->arrives_ns = time_ns;
    send_at(plain, time_ns, from->remote,
            (struct arrival){.kind = kind,
                             .socket = from->peer,
                             .generation = from->peer_generation,
                             .count = count},
            bytes);
}

void plain_send_syn(struct plain *plain, int64_t now_ns, int fd)
{
    const struct plain_socket *socket = &plain->sockets[fd];

    send_at(plain, now_ns + flight_ns(plain), socket->remote,
            (struct arrival){.kind = KIND_SYN,
                             .socket = fd,
                             .generation = socket->generation},
            NULL);
}

int plain_socket_take(struct plain *plain, int32_t host, enum state state)
{
    int fd;

    if (plain->idle_count > 0) {
        fd = plain->idle[--plain->idle_count];
    } else {
        if (!grow(plain, (void **)&plain->sockets, &plain->socket_room,
                  plain->socket_count, sizeof(*plain->sockets)))
            return -1;
        fd = plain->socket_count++;
        plain->sockets[fd].generation = 0;
    }
    plain->sockets[fd] = (struct plain_socket){
        .state = state,
        .generation = plain->sockets[fd].generation + 1,
        .host = host,
        .peer = -1,
    };
    return fd;
}

void plain_socket_give(struct plain *plain, int fd)
{
    struct plain_socket *socket = &plain->sockets[fd];

    free(socket->bytes);
    free(socket->queue);
    *socket = (struct plain_socket){.state = STATE_FREE,
                                    .generation = socket->generation,
                                    .listed = socket->listed,
                                    .host = socket->host};
    // A number that is on a list is used again once it is taken off.
    if (!socket->listed && grow(plain, (void **)&plain->idle, &plain->idle_room,
                                plain->idle_count, sizeof(*plain->idle)))
        plain->idle[plain->idle_count++] = fd;
}

uint32_t plain_ready_events(const struct plain_socket *socket)
{
    uint32_t events = 0;

    if (socket->state == STATE_LISTENING)
        events = socket->queue_count > 0 ? EPOLLIN : 0;
    else if (socket->state == STATE_OPEN)
        events = EPOLLOUT |
                 (socket->begin < socket->end || socket->ended ? EPOLLIN : 0);
    else if (socket->error != 0)
        events = EPOLLIN | EPOLLOUT;
    return events & socket->watched;
}

void plain_list(struct plain *plain, int fd, int64_t time_ns)
{
    struct plain_socket *socket = &plain->sockets[fd];
    struct host *host = &plain->hosts[socket->host];

    if (plain_ready_events(socket) == 0)
        return;
    if (!socket->listed) {
        if (!grow(plain, (void **)&host->ready, &host->ready_room,
                  host->ready_count, sizeof(*host->ready)))
            return;
        socket->listed = true;
        host->ready[host->ready_count++] = fd;
    }
    plain_wake_at(plain, host, time_ns > host->now_ns ? time_ns : host->now_ns);
}

// ------------------------------------------------------------------- arrivals

static void syn_arrives(struct plain *plain, int64_t time_ns,
                        const struct arrival *arrival)
{
    struct plain_socket *guest = &plain->sockets[arrival->socket];
    struct host *host = &plain->hosts[guest->remote];
    struct arrival answer = {.kind = KIND_REFUSED,
                             .socket = arrival->socket,
                             .generation = arrival->generation,
                             .peer = -1};
    int64_t answer_ns = time_ns + flight_ns(plain);

    if (host->listener >= 0 &&
        plain->sockets[host->listener].queue_count == plain->options.backlog) {
        host->counts.turned_back++;
        if (guest->tries < SYN_TRIES_MAX)
            send_at(plain, time_ns + (SYN_RETRY_NS << guest->tries++),
                    host->number, *arrival, NULL);
        return;
    }
    if (host->listener >= 0) {
        int fd = plain_socket_take(plain, host->number, STATE_OPEN);
        if (fd < 0)
            return;
        struct plain_socket *accepted = &plain->sockets[fd];
        struct plain_socket *listener = &plain->sockets[host->listener];

        accepted->peer = arrival->socket;
        accepted->peer_generation = arrival->generation;
        accepted->remote = plain->sockets[arrival->socket].host;
        accepted->arrives_ns = answer_ns;
        listener->queue[(listener->queue_begin + listener->queue_count++) %
                        plain->options.backlog] = fd;
        plain_list(plain, host->listener, time_ns);
        answer.kind = KIND_OPENED;
        answer.peer = fd;
        answer.peer_generation = accepted->generation;
    }
    send_at(plain, answer_ns, plain->sockets[arrival->socket].host, answer,
            NULL);
}

static void bytes_arrive(struct plain *plain, struct plain_socket *socket,
                         const struct arrival *arrival)
{
    if (socket->room - socket->end < arrival->count) {
        size_t used = socket->end - socket->begin;
        size_t room = socket->room > 0 ? socket->room : ROOM_MIN;

        while (room - used < arrival->count)
            room *= 2;
        uint8_t *grown = malloc(room);
        if (grown == NULL) {
            plain->out_of_memory = true;
            return;
        }
        if (used > 0)
            memcpy(grown, socket->bytes + socket->begin, used);
        free(socket->bytes);
        socket->bytes = grown;
        socket->begin = 0;
        socket->end = used;
        socket->room = room;
    }
    memcpy(socket->bytes + socket->end, arrival->bytes, arrival->count);
    socket->end += arrival->count;
}

void plain_arrive(struct plain *plain, int64_t time_ns,
                  const struct arrival *arrival)
{
    struct plain_socket *socket = &plain->sockets[arrival->socket];

    if (socket->state == STATE_FREE ||
        socket->generation != arrival->generation)
        return; // it was closed
    switch (arrival->kind) {
    case KIND_SYN:
        syn_arrives(plain, time_ns, arrival);
        return;
    case KIND_OPENED:
        socket->state = STATE_OPEN;
        socket->peer = arrival->peer;
        socket->peer_generation = arrival->peer_generation;
        break;
    case KIND_REFUSED:
        socket->error = ECONNREFUSED;
        break;
    case KIND_BYTES:
        bytes_arrive(plain, socket, arrival);
        break;
    case KIND_END:
        socket->ended = true;
        break;
    }
    plain_list(plain, arrival->socket, time_ns);
}

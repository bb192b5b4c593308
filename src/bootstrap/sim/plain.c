// SPDX-License-Identifier: BSD-3-Clause
// See plain.h.
#include "bootstrap/sim/plain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/sim/heap.h"

#define ROOM_MIN 256
#define SYN_RETRY_NS INT64_C(1000000000)
#define SYN_TRIES_MAX 6

enum state { STATE_FREE, STATE_LISTENING, STATE_CONNECTING, STATE_OPEN };

struct plain_socket {
    enum state state;
    uint32_t generation; // tells who had the same number before
    int32_t host;
    int32_t remote; // the host on the other side
    int peer;       // the socket on the other side; -1: not known yet
    uint32_t peer_generation;
    void *subject; // of watch
    uint32_t watched;
    bool listed; // on the host's list of what may be ready
    bool counted;
    bool ended; // the other side sends no more
    bool finished;
    int error;
    int tries;          // to connect
    int64_t arrives_ns; // what was sent last: bytes stay in order
    uint8_t *bytes;     // come, and not received
    size_t begin, end, room;
    int *queue; // of a listener
    int32_t queue_begin, queue_count;
};

enum kind { KIND_SYN, KIND_OPENED, KIND_REFUSED, KIND_BYTES, KIND_END };

// What is on its way. The heap holds it as its opaque message.
struct arrival {
    enum kind kind;
    int socket; // to which, or (SYN) of whom
    uint32_t generation;
    int peer; // OPENED: the other side's
    uint32_t peer_generation;
    size_t count;
    uint8_t bytes[];
};

struct host {
    struct network base;
    struct plain *plain;
    int32_t number;
    int64_t now_ns;  // its processor has done all that it was given
    int64_t wake_ns; // INT64_MAX: nothing is to happen
    int listener;
    int *ready; // sockets that may be
    int32_t ready_count, ready_room;
    struct plain_counts counts;
};

struct plain {
    struct plain_options options;
    uint64_t random;
    struct sim_heap heap;
    struct plain_socket *sockets;
    int socket_count, socket_room;
    int *idle; // numbers to be used again
    int idle_count, idle_room;
    bool out_of_memory;
    struct host hosts[];
};

static struct host *host_of(struct network *network)
{
    return (struct host *)network;
}

static struct plain_socket *socket_of(struct network *network, int fd)
{
    return &host_of(network)->plain->sockets[fd];
}

// splitmix64 (Steele, Lea, Flood).
static uint64_t draw(struct plain *plain)
{
    uint64_t x = plain->random += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
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

static void wake_at(struct plain *plain, struct host *host, int64_t time_ns)
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
           (int64_t)(draw(plain) % (uint64_t)jitter_ns);
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
    if (head.count > 0)
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

// To the other side of an open socket, in order, from `now_ns` on.
static void send_in_order(struct plain *plain, struct plain_socket *from,
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

static int socket_take(struct plain *plain, int32_t host, enum state state)
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

static void socket_give(struct plain *plain, int fd)
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

static uint32_t ready_events(const struct plain_socket *socket)
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

static void list(struct plain *plain, int fd, int64_t time_ns)
{
    struct plain_socket *socket = &plain->sockets[fd];
    struct host *host = &plain->hosts[socket->host];

    if (ready_events(socket) == 0)
        return;
    if (!socket->listed) {
        if (!grow(plain, (void **)&host->ready, &host->ready_room,
                  host->ready_count, sizeof(*host->ready)))
            return;
        socket->listed = true;
        host->ready[host->ready_count++] = fd;
    }
    wake_at(plain, host, time_ns > host->now_ns ? time_ns : host->now_ns);
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
        int fd = socket_take(plain, host->number, STATE_OPEN);
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
        list(plain, host->listener, time_ns);
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

static void arrive(struct plain *plain, int64_t time_ns,
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
    list(plain, arrival->socket, time_ns);
}

// -------------------------------------------------------------- a host's calls

// Its processor is busy with a call.
static void call(struct host *host)
{
    host->now_ns += host->plain->options.call_ns;
    host->counts.busy_ns += host->plain->options.call_ns;
}

static struct socket_place place_of(int32_t host)
{
    return (struct socket_place){
        .address = {[10] = 0xff,
                    [11] = 0xff,
                    [12] = 10,
                    [13] = (uint8_t)(host >> 16),
                    [14] = (uint8_t)(host >> 8),
                    [15] = (uint8_t)host},
        .port = 1,
    };
}

static int64_t plain_us(struct network *network)
{
    return host_of(network)->now_ns / 1000;
}

static uint32_t plain_draw(struct network *network, uint32_t below)
{
    return (uint32_t)(draw(host_of(network)->plain) % below);
}

static void plain_listen(struct network *network, uint16_t port, bool loopback,
                         int *fd, uint16_t *port_out)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;

    (void)port;
    (void)loopback;
    *port_out = 1;
    *fd = host->listener = socket_take(plain, host->number, STATE_LISTENING);
    if (*fd < 0)
        return;
    plain->sockets[*fd].queue =
        calloc((size_t)plain->options.backlog, sizeof(int));
    if (plain->sockets[*fd].queue == NULL)
        plain->out_of_memory = true;
}

static int plain_resolve(struct network *network, const char *name,
                         uint16_t port, struct socket_place *out, int room,
                         const char **why)
{
    (void)network;
    (void)name; // there is but one: the root
    (void)port;
    (void)room;
    (void)why;
    out[0] = place_of(0);
    return 1;
}

static int plain_connect(struct network *network,
                         const struct socket_place *place)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;
    int fd = socket_take(plain, host->number, STATE_CONNECTING);
    const uint8_t *number = place->address + 13;

    call(host);
    if (fd < 0)
        return -1;
    struct plain_socket *socket = &plain->sockets[fd];
    socket->remote = number[0] << 16 | number[1] << 8 | number[2];
    send_at(plain, host->now_ns + flight_ns(plain), socket->remote,
            (struct arrival){.kind = KIND_SYN,
                             .socket = fd,
                             .generation = socket->generation},
            NULL);
    return fd;
}

static int plain_accept(struct network *network, int fd)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;
    struct plain_socket *listener = &plain->sockets[fd];
    struct plain_counts *counts = &host->counts;

    call(host);
    if (listener->queue_count == 0) {
        errno = EAGAIN;
        return -1;
    }
    int accepted = listener->queue[listener->queue_begin];
    listener->queue_begin =
        (listener->queue_begin + 1) % plain->options.backlog;
    listener->queue_count--;
    plain->sockets[accepted].counted = true;
    counts->accepted++;
    if (++counts->connections > counts->connections_most)
        counts->connections_most = counts->connections;
    return accepted;
}

static bool plain_peer(struct network *network, int fd,
                       struct socket_place *out)
{
    *out = place_of(socket_of(network, fd)->remote);
    return true;
}

static bool plain_own(struct network *network, int fd, struct socket_place *out)
{
    *out = place_of(socket_of(network, fd)->host);
    return true;
}

static ssize_t plain_send(struct network *network, int fd, const void *bytes,
                          size_t count)
{
    struct host *host = host_of(network);

    call(host);
    host->counts.sent++;
    send_in_order(host->plain, socket_of(network, fd), host->now_ns, KIND_BYTES,
                  bytes, count);
    return (ssize_t)count;
}

static ssize_t plain_receive(struct network *network, int fd, void *bytes,
                             size_t room)
{
    struct host *host = host_of(network);
    struct plain_socket *socket = socket_of(network, fd);
    size_t count = socket->end - socket->begin;

    call(host);
    if (count == 0 && socket->ended)
        return 0;
    if (count == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (count > room)
        count = room;
    memcpy(bytes, socket->bytes + socket->begin, count);
    socket->begin += count;
    host->counts.received++;
    return (ssize_t)count;
}

static int plain_error(struct network *network, int fd)
{
    return socket_of(network, fd)->error;
}

static void plain_finish(struct network *network, int fd)
{
    struct host *host = host_of(network);
    struct plain_socket *socket = socket_of(network, fd);

    if (socket->state != STATE_OPEN || socket->finished)
        return;
    socket->finished = true;
    send_in_order(host->plain, socket, host->now_ns, KIND_END, NULL, 0);
}

static void plain_close(struct network *network, int fd)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;
    struct plain_socket *socket = &plain->sockets[fd];

    call(host);
    if (socket->counted)
        host->counts.connections--;
    while (socket->queue_count > 0) {
        int waiting = socket->queue[socket->queue_begin];

        socket->queue_begin =
            (socket->queue_begin + 1) % plain->options.backlog;
        socket->queue_count--;
        plain_finish(network, waiting);
        socket_give(plain, waiting);
    }
    if (fd == host->listener)
        host->listener = -1;
    plain_finish(network, fd);
    socket_give(plain, fd);
}

static int plain_watch(struct network *network, int fd, bool added,
                       uint32_t events, void *subject)
{
    struct plain_socket *socket = socket_of(network, fd);

    (void)added;
    socket->watched = events;
    socket->subject = subject;
    list(host_of(network)->plain, fd, host_of(network)->now_ns);
    return 0;
}

// What is ready stays on the list, behind the others, until it is not.
static int plain_wait(struct network *network, struct epoll_event *events,
                      int room, int ms)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;
    int32_t looked = 0, kept = 0;
    int count = 0;

    (void)ms;
    for (; looked < host->ready_count && count < room; looked++) {
        int fd = host->ready[looked];
        struct plain_socket *socket = &plain->sockets[fd];
        uint32_t ready = ready_events(socket);

        if (ready != 0) {
            events[count].events = ready;
            events[count++].data.ptr = socket->subject;
            host->ready[kept++] = fd;
            continue;
        }
        socket->listed = false;
        if (socket->state == STATE_FREE)
            socket_give(plain, fd);
    }
    // The rest comes first next time.
    int32_t rest = host->ready_count - looked;
    int *turned = malloc((size_t)(rest + kept + 1) * sizeof(*turned));
    if (turned == NULL) {
        plain->out_of_memory = true;
        return count;
    }
    memcpy(turned, host->ready + looked, (size_t)rest * sizeof(*turned));
    memcpy(turned + rest, host->ready, (size_t)kept * sizeof(*turned));
    memcpy(host->ready, turned, (size_t)(rest + kept) * sizeof(*turned));
    free(turned);
    host->ready_count = rest + kept;
    return count;
}

static void plain_leave(struct network *network)
{
    (void)network; // plain_free does it
}

static const struct network_ops plain_ops = {
    .now_us = plain_us,
    .draw = plain_draw,
    .listen = plain_listen,
    .resolve = plain_resolve,
    .connect = plain_connect,
    .accept = plain_accept,
    .peer = plain_peer,
    .own = plain_own,
    .send = plain_send,
    .receive = plain_receive,
    .error = plain_error,
    .finish = plain_finish,
    .close = plain_close,
    .watch = plain_watch,
    .wait = plain_wait,
    .free = plain_leave,
};

// ------------------------------------------------------------------- all of it

struct plain *plain_create(const struct plain_options *options)
{
    struct plain *plain = calloc(1, sizeof(*plain) + (size_t)options->hosts *
                                                         sizeof(struct host));

    if (plain == NULL)
        return NULL;
    plain->options = *options;
    plain->random = options->seed;
    for (int32_t i = 0; i < options->hosts; i++)
        plain->hosts[i] = (struct host){.base = {&plain_ops},
                                        .plain = plain,
                                        .number = i,
                                        .wake_ns = INT64_MAX,
                                        .listener = -1};
    return plain;
}

void plain_free(struct plain *plain)
{
    struct sim_event event;

    if (plain == NULL)
        return;
    while (sim_heap_pop(&plain->heap, &event))
        free(event.message);
    sim_heap_free(&plain->heap);
    for (int i = 0; i < plain->socket_count; i++) {
        free(plain->sockets[i].bytes);
        free(plain->sockets[i].queue);
    }
    for (int32_t i = 0; i < plain->options.hosts; i++)
        free(plain->hosts[i].ready);
    free(plain->sockets);
    free(plain->idle);
    free(plain);
}

struct network *plain_host(struct plain *plain, int32_t host)
{
    return &plain->hosts[host].base;
}

void plain_timer(struct plain *plain, int32_t number, int64_t time_ns)
{
    struct host *host = &plain->hosts[number];

    if (host->ready_count > 0) // something is, or was a moment ago
        time_ns = host->now_ns;
    wake_at(plain, host, time_ns);
}

int32_t plain_next(struct plain *plain)
{
    struct sim_event event;

    while (!plain->out_of_memory && sim_heap_pop(&plain->heap, &event)) {
        struct host *host = &plain->hosts[event.rank];

        if (event.message != NULL) {
            arrive(plain, event.time_ns, (const void *)event.message);
            free(event.message);
        } else if (event.time_ns == host->wake_ns) {
            host->wake_ns = INT64_MAX;
            if (host->now_ns < event.time_ns)
                host->now_ns = event.time_ns;
            return host->number;
        }
    }
    return -1;
}

int64_t plain_now_ns(const struct plain *plain, int32_t host)
{
    return plain->hosts[host].now_ns;
}

struct plain_counts plain_counts(const struct plain *plain, int32_t host)
{
    return plain->hosts[host].counts;
}

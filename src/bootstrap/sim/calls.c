// SPDX-License-Identifier: BSD-3-Clause
// A host's calls: link/network.h, each of which keeps its processor busy.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/sim/state.h"

static struct host *host_of(struct network *network)
{
    return (struct host *)network;
}

static struct plain_socket *socket_of(struct network *network, int fd)
{
    return &host_of(network)->plain->sockets[fd];
}

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
    return (uint32_t)(plain_random(host_of(network)->plain) % below);
}

static void plain_listen(struct network *network, uint16_t port, bool loopback,
                         int *fd, uint16_t *port_out)
{
    struct host *host = host_of(network);
    struct plain *plain = host->plain;

    (void)port;
    (void)loopback;
    *port_out = 1;
    *fd = host->listener =
        plain_socket_take(plain, host->number, STATE_LISTENING);
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
    int fd = plain_socket_take(plain, host->number, STATE_CONNECTING);
    const uint8_t *number = place->address + 13;

    call(host);
    if (fd < 0)
        return -1;
    struct plain_socket *socket = &plain->sockets[fd];
    socket->remote = number[0] << 16 | number[1] << 8 | number[2];
    plain_send_syn(plain, host->now_ns, fd);
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
    plain_send_in_order(host->plain, socket_of(network, fd), host->now_ns,
                        KIND_BYTES, bytes, count);
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
    plain_send_in_order(host->plain, socket, host->now_ns, KIND_END, NULL, 0);
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
        plain_socket_give(plain, waiting);
    }
    if (fd == host->listener)
        host->listener = -1;
    plain_finish(network, fd);
    plain_socket_give(plain, fd);
}

static int plain_watch(struct network *network, int fd, bool added,
                       uint32_t events, void *subject)
{
    struct plain_socket *socket = socket_of(network, fd);

    (void)added;
    socket->watched = events;
    socket->subject = subject;
    plain_list(host_of(network)->plain, fd, host_of(network)->now_ns);
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
        uint32_t ready = plain_ready_events(socket);

        if (ready != 0) {
            events[count].events = ready;
            events[count++].data.ptr = socket->subject;
            host->ready[kept++] = fd;
            continue;
        }
        socket->listed = false;
        if (socket->state == STATE_FREE)
            plain_socket_give(plain, fd);
    }
    int32_t rest = host->ready_count - looked;
    host->ready_count = rest + kept;
    if (rest == 0) // also where there is no list yet
        return count;
    // The rest comes first next time.
    int *turned = malloc((size_t)(rest + kept + 1) * sizeof(*turned));
    if (turned == NULL) {
        plain->out_of_memory = true;
        return count;
    }
    memcpy(turned, host->ready + looked, (size_t)rest * sizeof(*turned));
    memcpy(turned + rest, host->ready, (size_t)kept * sizeof(*turned));
    memcpy(host->ready, turned, (size_t)(rest + kept) * sizeof(*turned));
    free(turned);
    return count;
}

static void plain_leave(struct network *network)
{
    (void)network; // plain_free does it
}

const struct network_ops plain_ops = {
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

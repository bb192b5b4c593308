// SPDX-License-Identifier: BSD-3-Clause
// The kernel's network: see network.h.
#include "bootstrap/link/network.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap/link/inherited.h"
#include "core/clock.h"

struct kernel {
    struct network base;
    int epoll_fd;
};

static int64_t kernel_now_us(struct network *network)
{
    (void)network;
    return clock_now_us();
}

// Not random(), whose numbers are the host program's.
static uint32_t kernel_draw(struct network *network, uint32_t below)
{
    uint32_t number;

    (void)network;
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) !=
        (ssize_t)sizeof(number))
        number = (uint32_t)clock_now_us();
    return number % below;
}

static int watched(int fd)
{
    if (fd >= 0)
        inherited_watch(fd);
    return fd;
}

static void kernel_listen(struct network *network, uint16_t port, bool loopback,
                          int *fd, uint16_t *port_out)
{
    (void)network;
    socket_listen(port, loopback, fd, port_out);
    watched(*fd);
}

static int kernel_resolve(struct network *network, const char *host,
                          uint16_t port, struct socket_place *out, int room,
                          const char **why)
{
    (void)network;
    return socket_resolve(host, port, out, room, why);
}

static int kernel_connect(struct network *network,
                          const struct socket_place *place)
{
    (void)network;
    return watched(socket_connect(place));
}

static int kernel_accept(struct network *network, int listener)
{
    (void)network;
    return watched(socket_accept(listener));
}

static bool kernel_peer(struct network *network, int fd,
                        struct socket_place *out)
{
    (void)network;
    return socket_peer(fd, out);
}

static bool kernel_own(struct network *network, int fd,
                       struct socket_place *out)
{
    (void)network;
    return socket_own(fd, out);
}

static ssize_t kernel_send(struct network *network, int fd, const void *bytes,
                           size_t count)
{
    (void)network;
    return send(fd, bytes, count, MSG_NOSIGNAL);
}

static ssize_t kernel_receive(struct network *network, int fd, void *bytes,
                              size_t room)
{
    (void)network;
    return recv(fd, bytes, room, 0);
}

static int kernel_error(struct network *network, int fd)
{
    socklen_t bytes = sizeof(int);
    int error = 0;

    (void)network;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    return error;
}

static void kernel_finish(struct network *network, int fd)
{
    (void)network;
    shutdown(fd, SHUT_WR);
}

static void kernel_close(struct network *network, int fd)
{
    (void)network;
    inherited_close(fd);
}

static int kernel_watch(struct network *network, int fd, bool added,
                        uint32_t events, void *subject)
{
    const struct kernel *kernel = (const struct kernel *)network;
    struct epoll_event event = {.events = events, .data.ptr = subject};

    return epoll_ctl(kernel->epoll_fd, added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                     fd, &event);
}

static int kernel_wait(struct network *network, struct epoll_event *events,
                       int room, int ms)
{
    return epoll_wait(((const struct kernel *)network)->epoll_fd, events, room,
                      ms);
}

static void kernel_free(struct network *network)
{
    close(((struct kernel *)network)->epoll_fd);
    free(network);
}

static const struct network_ops kernel_ops = {
    .now_us = kernel_now_us,
    .draw = kernel_draw,
    .listen = kernel_listen,
    .resolve = kernel_resolve,
    .connect = kernel_connect,
    .accept = kernel_accept,
    .peer = kernel_peer,
    .own = kernel_own,
    .send = kernel_send,
    .receive = kernel_receive,
    .error = kernel_error,
    .finish = kernel_finish,
    .close = kernel_close,
    .watch = kernel_watch,
    .wait = kernel_wait,
    .free = kernel_free,
};

struct network *network_open(void)
{
    struct kernel *kernel = malloc(sizeof(*kernel));

    if (kernel == NULL)
        return NULL;
    *kernel = (struct kernel){{&kernel_ops}, epoll_create1(EPOLL_CLOEXEC)};
    if (kernel->epoll_fd >= 0)
        return &kernel->base;
    free(kernel);
    return NULL;
}

// SPDX-License-Identifier: BSD-3-Clause
// What a member of the rendezvous has of the world: TCP sockets, readiness and
// a clock. The kernel's, or those of a simulator (bootstrap/sim), under which
// the tree's code runs as it ships.
#ifndef BOOTSTRAP_LINK_NETWORK_H
#define BOOTSTRAP_LINK_NETWORK_H

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "bootstrap/link/socket.h"

struct network;

// Sockets are descriptors that never block. What fails sets errno, as the
// system calls do that these are named after.
struct network_ops {
    int64_t (*now_us)(struct network *network);
    // 0 to below - 1, any.
    uint32_t (*draw)(struct network *network, uint32_t below);

    // As in socket.h.
    void (*listen)(struct network *network, uint16_t port, bool loopback,
                   int *fd, uint16_t *port_out);
    int (*resolve)(struct network *network, const char *host, uint16_t port,
                   struct socket_place *out, int room, const char **why);
    int (*connect)(struct network *network, const struct socket_place *place);
    int (*accept)(struct network *network, int listener);
    bool (*peer)(struct network *network, int fd, struct socket_place *out);
    bool (*own)(struct network *network, int fd, struct socket_place *out);

    ssize_t (*send)(struct network *network, int fd, const void *bytes,
                    size_t count);
    ssize_t (*receive)(struct network *network, int fd, void *bytes,
                       size_t room);
    int (*error)(struct network *network, int fd);   // SO_ERROR
    void (*finish)(struct network *network, int fd); // sends no more
    void (*close)(struct network *network, int fd);

    // Which events of a descriptor `wait` tells: EPOLLIN, EPOLLOUT; with whose
    // pointer. `added`: it was watched before. -1 if that fails.
    int (*watch)(struct network *network, int fd, bool added, uint32_t events,
                 void *subject);
    // Waits up to `ms` (-1: without limit). Returns how many.
    int (*wait)(struct network *network, struct epoll_event *events, int room,
                int ms);
    void (*free)(struct network *network);
};

struct network {
    const struct network_ops *ops;
};

// The kernel's. A child of fork() closes its sockets (inherited.h). NULL, and
// errno, if that fails.
struct network *network_open(void);

static inline int64_t network_now_us(struct network *network)
{
    return network->ops->now_us(network);
}

#endif

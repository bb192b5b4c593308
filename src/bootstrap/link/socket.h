// SPDX-License-Identifier: BSD-3-Clause
// TCP sockets of the rendezvous: non-blocking, closed on exec. Addresses are
// kept as IPv6, IPv4 mapped into it.
#ifndef BOOTSTRAP_LINK_SOCKET_H
#define BOOTSTRAP_LINK_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <tally/tally.h>

#include "bootstrap/link/wire.h"

#define SOCKET_TEXT_BYTES 64

struct socket_place {
    uint8_t address[WIRE_ADDRESS_BYTES];
    uint16_t port;
};

// Listens on a port (0: any free one), on the loopback only or everywhere.
// *fd: -1 if it cannot, and errno says why; *port: the one it got.
void socket_listen(uint16_t port, bool loopback, int *fd, uint16_t *port_out);

// Whether a host's name is one of the loopback by itself.
bool socket_host_is_loopback(const char *host);

// Up to `room` addresses of a host. Blocks on the name service. Returns how
// many; 0, and *why, if there are none.
int socket_resolve(const char *host, uint16_t port, struct socket_place *out,
                   int room, const char **why);

// Begins to connect. -1, and errno, if that fails at once.
int socket_connect(const struct socket_place *place);

// Takes one connection. -1, and errno, if there is none.
int socket_accept(int listener);

// The two ends of a connection.
bool socket_peer(int fd, struct socket_place *out);
bool socket_own(int fd, struct socket_place *out);

// False: neither IPv4 nor IPv6.
bool socket_place_take(const struct sockaddr *from, struct socket_place *out);
// Whether it is a socket that listens.
bool socket_listens(int fd);

bool socket_place_is_loopback(const struct socket_place *place);

// "10.0.0.1:29400", "[fe80::1]:29400".
void socket_place_text(const struct socket_place *place,
                       char text[SOCKET_TEXT_BYTES]);
// The same without the port: "10.0.0.1", "fe80::1".
void socket_address_text(const struct socket_place *place,
                         char text[SOCKET_TEXT_BYTES]);

#endif

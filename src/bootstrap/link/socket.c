// SPDX-License-Identifier: BSD-3-Clause
// See socket.h.
#include "bootstrap/link/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// A host that loses power says nothing: its connection is given up after about
// keep_idle_s + keep_count * keep_interval_s.
static const int keep_idle_s = 10;
static const int keep_interval_s = 5;
static const int keep_count = 3;
static const int unacknowledged_ms = 25000;

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_mapped(const uint8_t address[WIRE_ADDRESS_BYTES])
{
    return memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool socket_place_take(const struct sockaddr *from, struct socket_place *out)
{
    memset(out, 0, sizeof(*out));
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)from;

        memcpy(out->address, mapped_prefix, sizeof(mapped_prefix));
        memcpy(out->address + 12, &four->sin_addr, 4);
        out->port = ntohs(four->sin_port);
        return true;
    }
    if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;

        memcpy(out->address, &six->sin6_addr, 16);
        out->port = ntohs(six->sin6_port);
        return true;
    }
    return false;
}

static socklen_t place_give(const struct socket_place *place,
                            struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (is_mapped(place->address)) {
        struct sockaddr_in *four = (struct sockaddr_in *)out;

        four->sin_family = AF_INET;
        four->sin_port = htons(place->port);
        memcpy(&four->sin_addr, place->address + 12, 4);
        return sizeof(*four);
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;

    six->sin6_family = AF_INET6;
    six->sin6_port = htons(place->port);
    memcpy(&six->sin6_addr, place->address, 16);
    return sizeof(*six);
}

static void option_set(int fd, int level, int name, int value)
{
    // Where one is missing, the connection works all the same.
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void connection_prepare(int fd)
{
    option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, keep_idle_s);
    option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, keep_interval_s);
    option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, keep_count);
    option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, unacknowledged_ms);
}

static int listen_at(const struct sockaddr_storage *address, socklen_t bytes,
                     uint16_t *port_out)
{
    struct sockaddr_storage bound = {0};
    struct socket_place place;
    socklen_t bound_bytes = sizeof(bound);
    int fd = socket(address->ss_family,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    // The port of a job that ended a moment ago, or one kept for us by a
    // launcher, can be bound.
    option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->ss_family == AF_INET6)
        option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, (const struct sockaddr *)address, bytes) < 0 ||
        listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &bound_bytes) < 0 ||
        !socket_place_take((struct sockaddr *)&bound, &place)) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    *port_out = place.port;
    return fd;
}

void socket_listen(uint16_t port, bool loopback, int *fd, uint16_t *port_out)
{
    struct sockaddr_storage address = {0};
    struct socket_place place = {.port = port}; // IPv6, any address
    socklen_t bytes;

    if (!loopback) {
        bytes = place_give(&place, &address);
        *fd = listen_at(&address, bytes, port_out);
        if (*fd >= 0 || errno == EADDRINUSE)
            return;
    }
    // The loopback, or a host without IPv6.
    memcpy(place.address, mapped_prefix, sizeof(mapped_prefix));
    if (loopback)
        memcpy(place.address + 12, (const uint8_t[]){127, 0, 0, 1}, 4);
    bytes = place_give(&place, &address);
    *fd = listen_at(&address, bytes, port_out);
}

bool socket_host_is_loopback(const char *host)
{
    return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "localhost") == 0;
}

int socket_resolve(const char *host, uint16_t port, struct socket_place *out,
                   int room, const char **why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int count = 0;

    // Listening there is on 127.0.0.1 alone, so that no other address is tried.
    if (socket_host_is_loopback(host))
        host = "127.0.0.1";
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error != 0) {
        *why = gai_strerror(error);
        return 0;
    }
    *why = "it has no address";
    for (struct addrinfo *one = found; one != NULL && count < room;
         one = one->ai_next) {
        struct sockaddr_storage address = {0};

        memcpy(&address, one->ai_addr, one->ai_addrlen);
        if (!socket_place_take((struct sockaddr *)&address, &out[count]))
            continue;
        out[count].port = port;
        count++;
    }
    freeaddrinfo(found);
    return count;
}

int socket_connect(const struct socket_place *place)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = place_give(place, &address);
    int fd = socket(address.ss_family,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    connection_prepare(fd);
    if (connect(fd, (struct sockaddr *)&address, bytes) < 0 &&
        errno != EINPROGRESS) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

int socket_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0)
        connection_prepare(fd);
    return fd;
}

bool socket_peer(int fd, struct socket_place *out)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof(address);

    return getpeername(fd, (struct sockaddr *)&address, &bytes) == 0 &&
           socket_place_take((struct sockaddr *)&address, out);
}

bool socket_own(int fd, struct socket_place *out)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof(address);

    return getsockname(fd, (struct sockaddr *)&address, &bytes) == 0 &&
           socket_place_take((struct sockaddr *)&address, out);
}

bool socket_listens(int fd)
{
    int listens = 0;
    socklen_t bytes = sizeof(listens);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) == 0 &&
           listens != 0;
}

bool socket_place_is_loopback(const struct socket_place *place)
{
    static const uint8_t six[WIRE_ADDRESS_BYTES] = {[15] = 1};

    if (is_mapped(place->address))
        return place->address[12] == 127;
    return memcmp(place->address, six, sizeof(six)) == 0;
}

void socket_address_text(const struct socket_place *place,
                         char text[SOCKET_TEXT_BYTES])
{
    bool four = is_mapped(place->address);

    snprintf(text, SOCKET_TEXT_BYTES, "?");
    inet_ntop(four ? AF_INET : AF_INET6, place->address + (four ? 12 : 0), text,
              SOCKET_TEXT_BYTES);
}

void socket_place_text(const struct socket_place *place,
                       char text[SOCKET_TEXT_BYTES])
{
    char address[SOCKET_TEXT_BYTES];

    socket_address_text(place, address);
    snprintf(text, SOCKET_TEXT_BYTES,
             is_mapped(place->address) ? "%.45s:%u" : "[%.45s]:%u", address,
             place->port);
}

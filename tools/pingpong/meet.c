// SPDX-License-Identifier: BSD-3-Clause
// See meet.h.
#include "pingpong/meet.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pingpong/raw.h"

#define PATIENCE_MS 60000
#define RETRY_MS 20

static struct addrinfo *find(const char *host, const char *port)
{
    const struct addrinfo hints = {
        .ai_flags = host == NULL ? AI_PASSIVE : 0,
        .ai_family = AF_INET,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found;
    int error = getaddrinfo(host, port, &hints, &found);

    if (error != 0)
        raw_die(host != NULL ? host : port, gai_strerror(error));
    return found;
}

int meet_listen(const char *port)
{
    struct addrinfo *place = find(NULL, port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    struct pollfd wanted = {.fd = listener, .events = POLLIN};

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (listener < 0 ||
        bind(listener, place->ai_addr, place->ai_addrlen) != 0 ||
        listen(listener, 1) != 0)
        raw_die(port, strerror(errno));
    freeaddrinfo(place);
    if (poll(&wanted, 1, PATIENCE_MS) != 1)
        raw_die(port, "nobody has come");
    int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (other < 0)
        raw_die(port, strerror(errno));
    close(listener);
    return other;
}

int meet_connect(const char *address_and_port)
{
    const char *colon = strrchr(address_and_port, ':');
    char host[256];

    if (colon == NULL || colon - address_and_port >= (long)sizeof(host))
        raw_die(address_and_port, "expected ADDRESS:PORT");
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address_and_port),
             address_and_port);
    struct addrinfo *place = find(host, colon + 1);
    for (int waited_ms = 0;; waited_ms += RETRY_MS) {
        int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(other, place->ai_addr, place->ai_addrlen) == 0) {
            freeaddrinfo(place);
            return other;
        }
        if (waited_ms > PATIENCE_MS)
            raw_die(address_and_port, strerror(errno));
        close(other);
        usleep(RETRY_MS * 1000);
    }
}

static void write_all(int other, const void *from, size_t bytes)
{
    if (send(other, from, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        raw_die("the other process", "it is gone");
}

static void read_all(int other, void *into, size_t bytes)
{
    if (recv(other, into, bytes, MSG_WAITALL) != (ssize_t)bytes)
        raw_die("the other process", "it is gone");
}

size_t meet_swap(int other, void *buffer, size_t bytes, size_t room)
{
    uint64_t length = bytes;

    write_all(other, &length, sizeof(length));
    write_all(other, buffer, bytes);
    read_all(other, &length, sizeof(length));
    if (length > room)
        raw_die("the other process", "its address is too long");
    read_all(other, buffer, length);
    return length;
}

// SPDX-License-Identifier: BSD-3-Clause
// Whether the root's name is known, and whether anybody listens there.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap/link/socket.h"
#include "doctor/facts/facts.h"
#include "doctor/facts/note.h"
#include "doctor/watchdog.h"

#define ADDRESSES_MAX 4
#define CONNECT_MS 2000

bool facts_root_resolve(struct self *self)
{
    const struct identity *identity = &self->identity;
    struct socket_place places[ADDRESSES_MAX];
    const char *why = "";

    if (!self->identified || identity->rank == 0)
        return true;
    watchdog_enter("looking up the root's name");
    int count = socket_resolve(identity->host, identity->ports[0], places,
                               ADDRESSES_MAX, &why);
    watchdog_leave();
    if (count > 0)
        return true;
    FACTS_FOUND(&self->facts, FACTS_ROOT,
                "the root's host \"%s\" is not known: %s", identity->host, why);
    return false;
}

// 0: somebody listens; else an errno, ETIMEDOUT for silence.
static int try_connect(const struct socket_place *place)
{
    int fd = socket_connect(place);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    socklen_t bytes = sizeof(int);
    int error = ETIMEDOUT;

    if (fd < 0)
        return errno;
    if (poll(&wait, 1, CONNECT_MS) == 1 &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0)
        error = errno;
    close(fd);
    return error;
}

// Candidate ports of one host fail alike, so one of them is told.
void facts_root_probe(struct self *self)
{
    const struct identity *identity = &self->identity;
    struct socket_place places[ADDRESSES_MAX] = {{{0}, 0}};
    const char *why = "";
    char text[SOCKET_TEXT_BYTES];
    int error = 0;

    if (identity->rank == 0)
        return;
    for (int32_t i = 0; i < identity->port_count; i++) {
        if (socket_resolve(identity->host, identity->ports[i], places,
                           ADDRESSES_MAX, &why) == 0)
            return;
        error = try_connect(&places[0]);
        if (error != ECONNREFUSED)
            break;
    }
    socket_place_text(&places[0], text);
    if (error == ECONNREFUSED)
        FACTS_FOUND(&self->facts, FACTS_ROOT,
                    "nobody listens at %s (the root, \"%s\"): rank 0 is not "
                    "there, or has ended",
                    text, identity->host);
    else if (error != 0)
        FACTS_FOUND(&self->facts, FACTS_ROOT,
                    "%s (the root, \"%s\") cannot be reached: %s", text,
                    identity->host, strerror(error));
}

// SPDX-License-Identifier: BSD-3-Clause
// See connection.h.
#include "bootstrap/link/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 4096
// Read at once, so that one busy peer does not starve the others.
#define RECEIVE_MAX ((size_t)1 << 20)

struct connection *connection_create_take(struct network *network, int fd)
{
    struct connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        network->ops->close(network, fd);
        return NULL;
    }
    connection->network = network;
    connection->fd = fd;
    connection->rank = -1;
    connection->body_max = WIRE_GUEST_BYTES_MAX;
    return connection;
}

void connection_free(struct connection *connection)
{
    if (connection == NULL)
        return;
    connection->network->ops->close(connection->network, connection->fd);
    free(connection->in.bytes);
    free(connection->out.bytes);
    free(connection);
}

// Makes room for `bytes` more.
static bool buffer_reserve(struct connection_buffer *buffer, size_t bytes)
{
    size_t used = buffer->end - buffer->begin;
    size_t room = buffer->room > 0 ? buffer->room : ROOM_MIN;

    if (buffer->room - buffer->end >= bytes)
        return true;
    if (buffer->begin > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, used);
        buffer->begin = 0;
        buffer->end = used;
    }
    while (room - used < bytes)
        room *= 2;
    if (room == buffer->room)
        return true;
    uint8_t *grown = realloc(buffer->bytes, room);
    if (grown == NULL)
        return false;
    buffer->bytes = grown;
    buffer->room = room;
    return true;
}

static void buffer_append(struct connection_buffer *buffer, const void *bytes,
                          size_t count)
{
    if (count > 0)
        memcpy(buffer->bytes + buffer->end, bytes, count);
    buffer->end += count;
}

void connection_send(struct connection *connection, enum wire_type type,
                     const void *body, size_t bytes)
{
    struct wire_header header = {(uint8_t)type, WIRE_PROTOCOL, (uint32_t)bytes};
    uint8_t raw[WIRE_HEADER_BYTES];

    if (connection->broken || connection->closing)
        return;
    if (bytes > WIRE_BODY_BYTES_MAX ||
        !buffer_reserve(&connection->out, sizeof(raw) + bytes)) {
        connection->broken = true;
        return;
    }
    wire_header_encode(&header, raw);
    buffer_append(&connection->out, raw, sizeof(raw));
    buffer_append(&connection->out, body, bytes);
    connection_flush(connection);
}

static bool try_again(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

void connection_flush(struct connection *connection)
{
    struct connection_buffer *out = &connection->out;
    struct network *network = connection->network;

    if (connection->connecting || connection->broken)
        return;
    while (out->begin < out->end) {
        ssize_t sent =
            network->ops->send(network, connection->fd, out->bytes + out->begin,
                               out->end - out->begin);

        if (sent < 0) {
            // What the other side said last may still be there to read: only
            // the end of the stream breaks a connection that was good.
            if (!try_again(errno))
                out->begin = out->end;
            return;
        }
        out->begin += (size_t)sent;
    }
}

bool connection_has_unsent(const struct connection *connection)
{
    return !connection->broken && connection->out.begin < connection->out.end;
}

void connection_receive(struct connection *connection)
{
    struct connection_buffer *in = &connection->in;
    size_t received = 0;

    while (!connection->broken && received < RECEIVE_MAX) {
        if (!buffer_reserve(in, ROOM_MIN)) {
            connection->broken = true;
            return;
        }
        size_t room = in->room - in->end;
        ssize_t got = connection->network->ops->receive(
            connection->network, connection->fd, in->bytes + in->end, room);
        if (got < 0 && try_again(errno))
            return;
        if (got <= 0) {
            connection->broken = true;
            return;
        }
        in->end += (size_t)got;
        received += (size_t)got;
        if ((size_t)got < room)
            return;
    }
}

enum connection_next connection_next(struct connection *connection,
                                     struct connection_frame *frame)
{
    struct connection_buffer *in = &connection->in;
    size_t used = in->end - in->begin;

    if (used < WIRE_HEADER_BYTES)
        return CONNECTION_NOTHING;
    if (!wire_header_decode(in->bytes + in->begin, &frame->header) ||
        frame->header.bytes > connection->body_max)
        return CONNECTION_GARBAGE;
    if (used - WIRE_HEADER_BYTES < frame->header.bytes)
        return CONNECTION_NOTHING;
    frame->body = in->bytes + in->begin + WIRE_HEADER_BYTES;
    in->begin += WIRE_HEADER_BYTES + frame->header.bytes;
    return CONNECTION_FRAME;
}

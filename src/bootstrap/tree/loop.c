// SPDX-License-Identifier: BSD-3-Clause
// The thread of a member: waits for sockets, the caller and deadlines, and
// hands each event to the room it belongs to. All but the waiting is there for
// a simulator too. It closes connections only
// between two rounds, when no room holds one.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"
#include "core/error.h"

struct connection *member_connection_add(struct member *member, int fd,
                                         enum member_role role)
{
    struct connection *connection = connection_create_take(member->network, fd);

    if (connection == NULL)
        return NULL;
    if (member->network->ops->watch(member->network, fd, false, EPOLLIN,
                                    connection) < 0) {
        connection_free(connection);
        return NULL;
    }
    connection->role = (int)role;
    connection->watched = EPOLLIN;
    connection->since_us = network_now_us(member->network);
    member->network->ops->peer(member->network, fd, &connection->place);
    connection->next = member->connections;
    member->connections = connection;
    if (++member->connection_count > member->connection_most)
        member->connection_most = member->connection_count;
    return connection;
}

void member_note_own(struct member *member, const struct connection *rank)
{
    static const struct socket_place none;
    struct network *network = member->network;
    struct socket_place own;

    if ((memcmp(&member->own, &none, sizeof(none)) == 0 ||
         socket_place_is_loopback(&member->own)) &&
        network->ops->own(network, rank->fd, &own))
        member->own = own;
}

static void begin_finish(struct member *member)
{
    member->finishing = true;
    member->finish_at_us = network_now_us(member->network) + MEMBER_LINGER_US;
    // A root that has failed stays to tell those who come late.
    if (member->state != MEMBER_FAILED || !member_is_root(member))
        admit_close(member);
}

void member_say_failure(struct member *member, struct connection *to)
{
    uint8_t body[MEMBER_SENTENCE_BYTES + 64];
    const char *sentence = member->shared.sentence; // does not change any more
    struct wire_refuse refuse = {
        .status = member->shared.status,
        .sentence = {sentence, (uint32_t)strlen(sentence)},
    };

    connection_send(to, WIRE_REFUSE, body,
                    wire_refuse_encode(&refuse, body, sizeof(body)));
}

void member_fail(struct member *member, tally_status_t status,
                 const char *format, ...)
{
    struct member_shared *shared = &member->shared;
    va_list arguments;

    if (member->state != MEMBER_COMING_UP)
        return;
    member->state = MEMBER_FAILED;
    begin_finish(member);
    pthread_mutex_lock(&shared->lock);
    shared->state = MEMBER_FAILED;
    shared->status = status;
    va_start(arguments, format);
    vsnprintf(shared->sentence, sizeof(shared->sentence), format, arguments);
    va_end(arguments);
    pthread_cond_broadcast(&shared->changed);
    pthread_mutex_unlock(&shared->lock);
    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_CHILD || one->role == ROLE_GUEST ||
            one->role == ROLE_WAITING)
            member_say_failure(member, one);
}

static void parent_frame(struct member *member, struct connection *parent,
                         const struct connection_frame *frame)
{
    struct wire_refuse refuse;

    switch (frame->header.type) {
    case WIRE_GO:
        if (member->state == MEMBER_COMING_UP)
            presence_go(member);
        return;
    case WIRE_NEWS:
        news_frame(member, parent, frame);
        return;
    case WIRE_RESULT:
    case WIRE_FAILURE:
        gather_answer(member, frame);
        return;
    case WIRE_REFUSE:
        if (wire_refuse_decode(frame->body, frame->header.bytes, &refuse))
            member_fail(member, refuse.status, "%.*s",
                        (int)refuse.sentence.length, refuse.sentence.bytes);
        return;
    default:
        parent->broken = true;
    }
}

static void child_frame(struct member *member, struct connection *child,
                        const struct connection_frame *frame)
{
    if (frame->header.type == WIRE_NEWS)
        news_frame(member, child, frame);
    else if (frame->header.type == WIRE_GATHER)
        gather_frame(member, child, frame);
    else
        child->broken = true;
}

static void dispatch(struct member *member, struct connection *connection,
                     const struct connection_frame *frame)
{
    switch (connection->role) {
    case ROLE_GUEST:
        admit_frame(member, connection, frame);
        return;
    case ROLE_JOINING:
        join_frame(member, connection, frame);
        return;
    case ROLE_PARENT:
        parent_frame(member, connection, frame);
        return;
    case ROLE_CHILD:
        child_frame(member, connection, frame);
        return;
    case ROLE_WAITING:
        connection->broken = true; // it has nothing to say
        return;
    default:
        return;
    }
}

static void connection_ready(struct member *member,
                             struct connection *connection, uint32_t events)
{
    struct connection_frame frame;
    enum connection_next next = CONNECTION_NOTHING;

    if (connection->broken)
        return;
    if (connection->connecting) {
        int error =
            member->network->ops->error(member->network, connection->fd);

        if (error != 0) {
            join_broken(member, strerror(error));
            return;
        }
        if ((events & EPOLLOUT) == 0)
            return;
        join_connected(member, connection);
    }
    connection_flush(connection);
    connection_receive(connection);
    bool ended = connection->broken;
    connection->broken = false;
    while (!connection->broken && !connection->closing &&
           (next = connection_next(connection, &frame)) == CONNECTION_FRAME)
        dispatch(member, connection, &frame);
    if (next == CONNECTION_GARBAGE || ended)
        connection->broken = true;
}

static void caller_ready(struct member *member)
{
    struct member_shared *shared = &member->shared;
    uint8_t *part = NULL;
    size_t bytes = 0;
    uint64_t count;

    if (read(member->wake_fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
        return;
    pthread_mutex_lock(&shared->lock);
    bool closing = shared->closing;
    if (shared->request != NULL && !shared->request->taken) {
        part = gather_request_encode(member, shared->request, &bytes);
        shared->request->taken = part != NULL;
    }
    pthread_mutex_unlock(&shared->lock);
    if (part != NULL)
        gather_request_take(member, part, bytes);
    if (closing && !member->finishing) {
        if (member->state == MEMBER_UP)
            news_leave(member);
        begin_finish(member);
    }
}

// Says no more, and waits for the other side to hear it: closing with unread
// bytes would take back what was said last.
static void finish_connection(struct connection *connection)
{
    if (connection->connecting)
        connection->broken = true;
    if (connection->broken || connection_has_unsent(connection) ||
        connection->role == ROLE_FINISHED)
        return;
    connection->network->ops->finish(connection->network, connection->fd);
    connection->role = ROLE_FINISHED;
}

static void watch(struct member *member, struct connection *connection)
{
    uint32_t wanted = EPOLLIN;

    if (connection->connecting || connection_has_unsent(connection))
        wanted |= EPOLLOUT;
    if (wanted == connection->watched)
        return;
    connection->watched = wanted;
    if (member->network->ops->watch(member->network, connection->fd, true,
                                    wanted, connection) < 0)
        connection->broken = true;
}

static bool is_over(const struct member *member,
                    const struct connection *connection)
{
    if (connection->broken)
        return true;
    return connection->closing && !connection_has_unsent(connection) &&
           !member->finishing;
}

static void sweep(struct member *member)
{
    struct connection **link = &member->connections;

    for (struct connection *one = member->connections; one != NULL;
         one = one->next) {
        if (member->finishing)
            finish_connection(one);
        // May end others, or say something to them: they are looked at next
        // time at the latest.
        if (is_over(member, one) && one->role != ROLE_FINISHED) {
            news_broken(member, one);
            one->role = ROLE_FINISHED;
            one->broken = true;
        }
    }
    while (*link != NULL) {
        struct connection *one = *link;

        if (is_over(member, one)) {
            *link = one->next;
            member->connection_count--;
            connection_free(one);
        } else {
            watch(member, one);
            link = &one->next;
        }
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int loop_wait_ms(const struct member *member)
{
    int64_t now_us = network_now_us(member->network);
    int64_t next = earlier(gather_next_us(member), admit_next_us(member));

    if (member->state == MEMBER_COMING_UP) {
        int64_t deadline_us = member->deadline_us;

        // Then the root's verdict is waited for.
        if (now_us >= deadline_us)
            deadline_us += MEMBER_VERDICT_US;
        next = earlier(next, deadline_us);
        next = earlier(next, member->join.retry_at_us);
        if (member->join.link != NULL)
            next = earlier(next, member->join.give_up_at_us);
    }
    if (member->finishing)
        next = earlier(next, member->finish_at_us);
    if (next == INT64_MAX)
        return -1;
    return next <= now_us ? 0 : (int)earlier((next - now_us) / 1000 + 1, 60000);
}

static void take_event(struct member *member, const struct epoll_event *event)
{
    if (event->data.ptr == &member->wake_fd)
        caller_ready(member);
    else if (event->data.ptr == &member->listen_fd)
        admit_accept(member);
    else
        connection_ready(member, event->data.ptr, event->events);
}

static void tick(struct member *member)
{
    int64_t now_us = network_now_us(member->network);

    join_tick(member, now_us);
    presence_tick(member, now_us);
    gather_tick(member, now_us);
    admit_tick(member, now_us);
}

void loop_begin(struct member *member)
{
    if (member_is_root(member) ||
        shape_has_children(member->rank, member->size, member->radix)) {
        tally_status_t status = admit_listen(member);

        if (status != TALLY_OK) {
            member_fail(member, status, "%s", core_error_text());
            return;
        }
    }
    if (member_is_root(member)) {
        admit_open(member);
        presence_came(member, 0);
    } else {
        join_begin(member);
    }
}

bool loop_turn(struct member *member, const struct epoll_event *events,
               int count)
{
    for (int i = 0; i < count; i++)
        take_event(member, &events[i]);
    tick(member);
    sweep(member);
    return !member->finishing ||
           ((member->connections != NULL || member->listen_fd >= 0) &&
            network_now_us(member->network) < member->finish_at_us);
}

void *loop_run(void *argument)
{
    struct member *member = argument;
    struct network *network = member->network;
    struct epoll_event events[LOOP_EVENTS_MAX];
    int count = 0;

    pthread_setname_np(pthread_self(), "tally-tree");
    loop_begin(member);
    while (loop_turn(member, events, count)) {
        int wait_ms = park_is_asked(&member->thread) ? 0 : loop_wait_ms(member);
        count = network->ops->wait(network, events, LOOP_EVENTS_MAX, wait_ms);
        park_here(&member->thread);
    }
    return NULL;
}

// SPDX-License-Identifier: BSD-3-Clause
// The provider "static": all processes are listed (TALLY_QUORUM_LIST). Each
// listens where the list says, and tells whoever connects its announcement, to
// the end of the stream; it asks all others again and again.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap/link/inherited.h"
#include "bootstrap/link/socket.h"
#include "core/clock.h"
#include "core/error.h"
#include "quorum/content.h"
#include "quorum/static_list.h"

// Who has not said all by then is not there.
#define ASK_TIMEOUT_US 2000000
// Between questions to who was there last.
#define ASK_INTERVAL_US 1000000
#define EVENTS 16
#define LISTENER UINT32_MAX
#define ACCEPTS_AT_ONCE 64

// One of the list that is asked.
struct asked {
    int fd; // -1: not being asked
    int64_t since_us;
    int64_t next_us;
    size_t length;
    uint8_t bytes[CONTENT_ANNOUNCEMENT_MAX + 1];
};

struct quorum_provider {
    const struct quorum_host *host;
    const struct quorum_params *params;
    uint64_t job;
    int epoll_fd;
    int listener;
    size_t length; // of the announcement; 0: none yet
    uint8_t announcement[CONTENT_ANNOUNCEMENT_MAX];
    struct static_entry entries[REPLICA_PEERS_MAX];
    struct asked asked[REPLICA_PEERS_MAX];
};

static bool observe(const struct quorum_provider *provider, int fd,
                    uint32_t subject)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = subject};

    return epoll_ctl(provider->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static tally_status_t static_listen(struct quorum_provider *provider)
{
    const struct static_entry *self =
        &provider->entries[provider->params->peer];
    uint16_t port;

    provider->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (provider->epoll_fd < 0)
        return core_fail(TALLY_ERR_SYSTEM, "no epoll: %s", strerror(errno));
    socket_listen(self->port, socket_host_is_loopback(self->host),
                  &provider->listener, &port);
    if (provider->listener < 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "TALLY_QUORUM_LIST: entry %u is %s:%u, where this "
                         "process cannot listen: %s",
                         (unsigned)provider->params->peer, self->host,
                         (unsigned)self->port, strerror(errno));
    inherited_watch(provider->listener);
    if (!observe(provider, provider->listener, LISTENER))
        return core_fail(TALLY_ERR_SYSTEM, "epoll: %s", strerror(errno));
    return TALLY_OK;
}

static void static_close(struct quorum_provider *provider, int timeout_ms)
{
    (void)timeout_ms;
    for (int i = 0; i < REPLICA_PEERS_MAX; i++)
        if (provider->asked[i].fd >= 0)
            inherited_close(provider->asked[i].fd);
    if (provider->listener >= 0)
        inherited_close(provider->listener);
    if (provider->epoll_fd >= 0)
        close(provider->epoll_fd);
    free(provider);
}

static tally_status_t static_open(const struct quorum_host *host,
                                  const struct quorum_params *params,
                                  struct quorum_provider **out)
{
    struct quorum_provider *provider = calloc(1, sizeof(*provider));
    tally_status_t status;

    if (provider == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for membership");
    provider->host = host;
    provider->params = params;
    provider->job = content_digest(params->job);
    provider->epoll_fd = -1;
    provider->listener = -1;
    for (int i = 0; i < REPLICA_PEERS_MAX; i++)
        provider->asked[i].fd = -1;
    status =
        static_list_parse(host->setting(host->context, "TALLY_QUORUM_LIST"),
                          params->peers, provider->entries);
    if (status == TALLY_OK)
        status = static_listen(provider);
    if (status != TALLY_OK) {
        static_close(provider, 0);
        return status;
    }
    *out = provider;
    return TALLY_OK;
}

static tally_status_t static_incarnation(struct quorum_provider *provider,
                                         int timeout_ms, uint64_t *incarnation)
{
    (void)provider;
    (void)timeout_ms;
    *incarnation = quorum_clock();
    return TALLY_OK;
}

static tally_status_t static_announce(struct quorum_provider *provider,
                                      int timeout_ms,
                                      const struct quorum_member *self)
{
    (void)timeout_ms;
    provider->length = content_announcement_encode(self, provider->job,
                                                   provider->announcement);
    return TALLY_OK;
}

// It is small enough for the buffer of a socket that is new.
static void answer_all(struct quorum_provider *provider)
{
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = socket_accept(provider->listener);
        if (fd < 0)
            return;
        (void)!send(fd, provider->announcement, provider->length, MSG_NOSIGNAL);
        close(fd);
    }
}

static void end(struct asked *asked)
{
    inherited_close(asked->fd);
    asked->fd = -1;
}

static void hear(struct quorum_provider *provider, uint16_t peer)
{
    const struct quorum_host *host = provider->host;
    struct asked *asked = &provider->asked[peer];
    struct quorum_member member;
    ssize_t got;

    if (asked->fd < 0)
        return;
    do {
        got = recv(asked->fd, asked->bytes + asked->length,
                   sizeof(asked->bytes) - asked->length, 0);
        if (got > 0)
            asked->length += (size_t)got;
    } while (got > 0 && asked->length < sizeof(asked->bytes));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    end(asked);
    if (content_announcement_decode(asked->bytes, asked->length, provider->job,
                                    &member) &&
        member.peer == peer)
        host->seen(host->context, &member);
    else
        host->gone(host->context, peer);
}

static void ask(struct quorum_provider *provider, uint16_t peer, int64_t now_us)
{
    const struct static_entry *entry = &provider->entries[peer];
    struct asked *asked = &provider->asked[peer];
    struct socket_place place;
    const char *why;

    asked->since_us = now_us;
    asked->next_us = now_us + ASK_INTERVAL_US;
    asked->length = 0;
    if (socket_resolve(entry->host, entry->port, &place, 1, &why) == 1)
        asked->fd = socket_connect(&place);
    if (asked->fd < 0) {
        provider->host->gone(provider->host->context, peer);
        return;
    }
    inherited_watch(asked->fd);
    if (!observe(provider, asked->fd, peer))
        end(asked);
}

static void static_serve(struct quorum_provider *provider)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(provider->epoll_fd, events, EVENTS, 0);

    for (int i = 0; i < count; i++)
        if (events[i].data.u32 == LISTENER)
            answer_all(provider);
        else
            hear(provider, (uint16_t)events[i].data.u32);
}

static tally_status_t static_watch(struct quorum_provider *provider,
                                   int timeout_ms)
{
    const struct quorum_params *params = provider->params;

    (void)timeout_ms;
    for (uint16_t peer = 0; peer < params->peers; peer++) {
        struct asked *asked = &provider->asked[peer];
        int64_t now_us = clock_now_us();
        if (peer == params->peer)
            continue;
        if (asked->fd >= 0 && now_us - asked->since_us > ASK_TIMEOUT_US) {
            end(asked);
            provider->host->gone(provider->host->context, peer);
        }
        if (asked->fd < 0 && now_us >= asked->next_us)
            ask(provider, peer, now_us);
    }
    return TALLY_OK;
}

static int static_fd(struct quorum_provider *provider)
{
    return provider->epoll_fd;
}

const struct quorum_provider_ops quorum_static = {
    .abi = QUORUM_PROVIDER_ABI,
    .name = "static",
    .open = static_open,
    .incarnation = static_incarnation,
    .announce = static_announce,
    .watch = static_watch,
    .fd = static_fd,
    .serve = static_serve,
    .close = static_close,
};

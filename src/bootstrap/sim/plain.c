// SPDX-License-Identifier: BSD-3-Clause
// See plain.h.
#include "bootstrap/sim/plain.h"

#include <stdlib.h>

#include "bootstrap/sim/state.h"

struct plain *plain_create(const struct plain_options *options)
{
    struct plain *plain = calloc(1, sizeof(*plain) + (size_t)options->hosts *
                                                         sizeof(struct host));

    if (plain == NULL)
        return NULL;
    plain->options = *options;
    plain->random = options->seed;
    for (int32_t i = 0; i < options->hosts; i++)
        plain->hosts[i] = (struct host){.base = {&plain_ops},
                                        .plain = plain,
                                        .number = i,
                                        .wake_ns = INT64_MAX,
                                        .listener = -1};
    return plain;
}

void plain_free(struct plain *plain)
{
    struct sim_event event;

    if (plain == NULL)
        return;
    while (sim_heap_pop(&plain->heap, &event))
        free(event.message);
    sim_heap_free(&plain->heap);
    for (int i = 0; i < plain->socket_count; i++) {
        free(plain->sockets[i].bytes);
        free(plain->sockets[i].queue);
    }
    for (int32_t i = 0; i < plain->options.hosts; i++)
        free(plain->hosts[i].ready);
    free(plain->sockets);
    free(plain->idle);
    free(plain);
}

struct network *plain_host(struct plain *plain, int32_t host)
{
    return &plain->hosts[host].base;
}

void plain_timer(struct plain *plain, int32_t number, int64_t time_ns)
{
    struct host *host = &plain->hosts[number];

    if (host->ready_count > 0) // something is, or was a moment ago
        time_ns = host->now_ns;
    plain_wake_at(plain, host, time_ns);
}

int32_t plain_next(struct plain *plain)
{
    struct sim_event event;

    while (!plain->out_of_memory && sim_heap_pop(&plain->heap, &event)) {
        struct host *host = &plain->hosts[event.rank];

        if (event.message != NULL) {
            plain_arrive(plain, event.time_ns, (const void *)event.message);
            free(event.message);
        } else if (event.time_ns == host->wake_ns) {
            host->wake_ns = INT64_MAX;
            if (host->now_ns < event.time_ns)
                host->now_ns = event.time_ns;
            return host->number;
        }
    }
    return -1;
}

int64_t plain_now_ns(const struct plain *plain, int32_t host)
{
    return plain->hosts[host].now_ns;
}

struct plain_counts plain_counts(const struct plain *plain, int32_t host)
{
    return plain->hosts[host].counts;
}

// SPDX-License-Identifier: BSD-3-Clause
// The two exchanges that need no rendezvous: the host program's, and that of a
// rank alone.
#include "bootstrap/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

struct host_exchange {
    struct exchange base;
    int (*allgather)(void *context, const void *send, void *recv, size_t bytes);
    void *context;
    int32_t count;
};

static tally_status_t host_allgather(struct exchange *base,
                                     struct exchange_group *group,
                                     const void *send, void *recv, size_t bytes)
{
    struct host_exchange *exchange = (struct host_exchange *)base;

    if (group->count != exchange->count)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "the host's all-gather spans %d ranks, the group has "
                         "%d; tally_group_params.allgather is for that",
                         (int)exchange->count, (int)group->count);
    group->sequence++;
    int result = exchange->allgather(exchange->context, send, recv, bytes);
    if (result != 0)
        return core_fail(TALLY_ERR_BOOTSTRAP,
                         "the host's all-gather returned %d", result);
    return TALLY_OK;
}

static tally_status_t self_allgather(struct exchange *exchange,
                                     struct exchange_group *group,
                                     const void *send, void *recv, size_t bytes)
{
    (void)exchange;
    group->sequence++;
    memcpy(recv, send, bytes);
    return TALLY_OK;
}

static void host_close(struct exchange *exchange)
{
    free(exchange);
}

static void self_close(struct exchange *exchange)
{
    (void)exchange; // static
}

static const struct exchange_ops host_ops = {
    .allgather = host_allgather,
    .close = host_close,
};

static const struct exchange_ops self_ops = {
    .allgather = self_allgather,
    .close = self_close,
};

tally_status_t exchange_host_open(
    int (*allgather)(void *context, const void *send, void *recv, size_t bytes),
    void *context, int32_t count, struct exchange **out)
{
    struct host_exchange *exchange = malloc(sizeof(*exchange));

    if (exchange == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for an exchange");
    *exchange = (struct host_exchange){
        .base = {&host_ops},
        .allgather = allgather,
        .context = context,
        .count = count,
    };
    *out = &exchange->base;
    return TALLY_OK;
}

tally_status_t exchange_self_open(struct exchange **out)
{
    static struct exchange self = {&self_ops};

    *out = &self;
    return TALLY_OK;
}

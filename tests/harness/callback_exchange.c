// SPDX-License-Identifier: BSD-3-Clause
// See callback_exchange.h.
#include "harness/callback_exchange.h"

#include <stdlib.h>

#include "core/error.h"

static tally_status_t callback_allgather(struct exchange *base,
                                         struct exchange_group *group,
                                         const void *send, void *recv,
                                         size_t bytes)
{
    struct callback_exchange *exchange = (struct callback_exchange *)base;
    int32_t call = exchange->calls++;

    group->sequence++;
    if (exchange->allgather(exchange->context, send, recv, bytes) != 0)
        return core_fail(TALLY_ERR_BOOTSTRAP, "the exchange broke");
    // After the others have come, so that ranks stay in step.
    if (exchange->fails_from >= 0 && call >= exchange->fails_from)
        return core_fail(TALLY_ERR_BOOTSTRAP, "the exchange was broken");
    return TALLY_OK;
}

static void callback_close(struct exchange *base)
{
    (void)base;
}

static const struct exchange_ops callback_ops = {
    .allgather = callback_allgather,
    .close = callback_close,
};

void callback_exchange_open(struct callback_exchange *exchange,
                            callback_allgather_fn allgather, void *context,
                            int32_t rank, int32_t size, int32_t first_rank)
{
    int32_t *ranks = calloc((size_t)size, sizeof(*ranks));

    if (ranks == NULL)
        abort();
    for (int32_t i = 0; i < size; i++)
        ranks[i] = first_rank + i;
    *exchange = (struct callback_exchange){
        .base = {&callback_ops},
        .group = {.ranks = ranks, .count = size, .index = rank, .key = ""},
        .allgather = allgather,
        .context = context,
        .fails_from = -1,
        .ranks = ranks,
    };
}

void callback_exchange_close(struct callback_exchange *exchange)
{
    free(exchange->ranks);
}

// SPDX-License-Identifier: BSD-3-Clause
// An exchange over an all-gather function, for tests of what is built on
// exchange.h without the rendezvous.
#ifndef HARNESS_CALLBACK_EXCHANGE_H
#define HARNESS_CALLBACK_EXCHANGE_H

#include "bootstrap/exchange.h"

typedef int (*callback_allgather_fn)(void *context, const void *send,
                                     void *recv, size_t bytes);

struct callback_exchange {
    struct exchange base;
    struct exchange_group group; // world ranks: first_rank, first_rank + 1, ...
    callback_allgather_fn allgather;
    void *context;
    int32_t calls;      // made so far
    int32_t fails_from; // calls from this one on fail; -1: none
    int32_t *ranks;
};

// A group of `size` ranks whose world ranks begin at first_rank.
void callback_exchange_open(struct callback_exchange *exchange,
                            callback_allgather_fn allgather, void *context,
                            int32_t rank, int32_t size, int32_t first_rank);
void callback_exchange_close(struct callback_exchange *exchange);

#endif

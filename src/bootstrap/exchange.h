// SPDX-License-Identifier: BSD-3-Clause
// Out-of-band all-gather between ranks, for set-up only: addresses, layouts,
// names of segments. Three ways to do it stand behind one table: the rendezvous
// tree (bootstrap.h), the host program's callback, and a rank alone.
#ifndef BOOTSTRAP_EXCHANGE_H
#define BOOTSTRAP_EXCHANGE_H

#include <stdint.h>
#include <tally/tally.h>

// Who exchanges. Owned by the caller (a group); the same at all its ranks.
struct exchange_group {
    const int32_t *ranks; // world ranks, ascending
    int32_t count;
    int32_t index;     // of the caller in ranks
    const char *key;   // tells apart groups of the same ranks
    uint32_t sequence; // counted by the exchange; begins at 0
};

struct exchange;

struct exchange_ops {
    // Gathers `bytes` bytes of each rank into recv[count][bytes]. Blocks, at
    // most until the exchange's own deadline. All ranks of the group call it,
    // with equal bytes. One thread at a time for one exchange.
    tally_status_t (*allgather)(struct exchange *exchange,
                                struct exchange_group *group, const void *send,
                                void *recv, size_t bytes);
    // Leaves in order: others see HEALTH_LEFT. Does not block on others.
    void (*close)(struct exchange *exchange);
};

struct exchange {
    const struct exchange_ops *ops;
};

static inline tally_status_t exchange_allgather(struct exchange *exchange,
                                                struct exchange_group *group,
                                                const void *send, void *recv,
                                                size_t bytes)
{
    return exchange->ops->allgather(exchange, group, send, recv, bytes);
}

static inline void exchange_close(struct exchange *exchange)
{
    exchange->ops->close(exchange);
}

// The host program's all-gather, over exactly the `count` ranks it spans: a
// group of other ranks is UNSUPPORTED.
tally_status_t exchange_host_open(
    int (*allgather)(void *context, const void *send, void *recv, size_t bytes),
    void *context, int32_t count, struct exchange **out);

// A rank alone: copies.
tally_status_t exchange_self_open(struct exchange **out);

#endif

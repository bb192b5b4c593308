// SPDX-License-Identifier: BSD-3-Clause
// The endpoints of a group over one tagged transport, connected when first
// used.
#ifndef COLLECTIVE_LINKS_H
#define COLLECTIVE_LINKS_H

#include <stdbool.h>
#include <tally/transport.h>

#include "bootstrap/exchange.h"

struct links;

// Far beyond what any transport needs (UCX: some hundred bytes).
#define LINKS_ADDRESS_BYTES_MAX 16384

// A transport's own address, or why there is none.
struct links_address {
    tally_status_t status;
    size_t bytes;
    unsigned char data[LINKS_ADDRESS_BYTES_MAX];
};

// A call on the transport: for who holds the progress lock.
void links_address_read(const struct tally_transport_ops *ops,
                        tally_transport_t *transport,
                        struct links_address *out);

// Who the ranks of a group are and where they listen: the same at all of them,
// and never changed.
struct links_directory {
    int32_t count;
    int32_t *world_ranks;     // [count]
    uint64_t *address_bytes;  // [count]
    unsigned char *addresses; // [count][address_stride]
    size_t address_stride;
};

// Collective over the group: exchanges addresses, `own` just read, and makes no
// call on the transport, which may be polled meanwhile. It is borrowed, and so
// is `shared`: the endpoints of all groups on it, by world rank, under the
// progress lock. NULL: the group has its own.
tally_status_t links_create(const struct tally_transport_ops *ops,
                            tally_transport_t *transport,
                            const struct links_address *own,
                            tally_endpoint_t **shared,
                            struct exchange *exchange,
                            struct exchange_group *group, struct links **out);
// Local: for who has many ranks of a group in one process, and their addresses.
// `directory` is borrowed until free.
tally_status_t links_create_listed(const struct tally_transport_ops *ops,
                                   tally_transport_t *transport,
                                   const struct links_directory *directory,
                                   struct links **out);

// Does not close endpoints: the transport does, when it is closed, and that
// comes first.
void links_free(struct links *links);

// The endpoint to a rank of the group.
tally_status_t links_endpoint(struct links *links, int32_t rank,
                              tally_endpoint_t **out);

// Whether the transport is one that is loaded, and connects by system calls.
bool links_are_real(const struct links *links);

int32_t links_world_rank(const struct links *links, int32_t rank);

// Memory that the transport may still read or write though its user is gone.
struct links_kept {
    struct links_kept *next;
};

// Takes memory from malloc that begins with a links_kept, frees it in
// links_free.
void links_keep_take(struct links *links, struct links_kept *memory);

const struct tally_transport_ops *links_ops(const struct links *links);
tally_transport_t *links_transport(const struct links *links);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Registered memory, for providers that send and receive only from such
// (FI_MR_LOCAL). Messages are copied: the caller's own memory may be unmapped
// and mapped anew between two steps, which a registration would not notice.
#ifndef TRANSPORT_OFI_REGISTERED_H
#define TRANSPORT_OFI_REGISTERED_H

#include <rdma/fi_domain.h>
#include <tally/transport.h>

#define REGISTERED_SIZES 3

struct registered_slab;

struct registered_buffer {
    struct registered_buffer *next;
    void *memory;
    void *descriptor; // what the library wants with it
    size_t size;      // index into the sizes
};

struct registered {
    const tally_transport_host_t *host;
    struct fid_domain *domain;
    struct fid_ep *ep; // bound to; NULL unless FI_MR_ENDPOINT is asked for
    struct registered_slab *slabs;
    struct registered_buffer *idle[REGISTERED_SIZES];
    uint64_t keys; // given out
};

// A buffer of at least `bytes`, at most 64 KiB. Returns a positive fi_errno
// value.
int registered_take(struct registered *registered, size_t bytes,
                    struct registered_buffer **out);
void registered_give(struct registered *registered,
                     struct registered_buffer *buffer);
// Ends the registrations. The library must not use them any more.
void registered_close(struct registered *registered);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What the files of libtally-ofi.so share: the objects behind transport.h and
// the operations on them. Nothing of it is seen outside.
#ifndef TRANSPORT_OFI_H
#define TRANSPORT_OFI_H

#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_tagged.h>
#include <stdbool.h>
#include <tally/transport.h>

#include "transport/ofi/library.h"
#include "transport/ofi/registered.h"

// The same as over UCX: a group's messages must fit on every backend.
#define OFI_MESSAGE_BYTES_MAX ((size_t)64 << 10)

struct ofi_ring {
    struct ofi_ring *next;
    struct ofi_ring *previous;
};

// A send or receive from the call to its completion: either posted, and known
// to the library by its context, or waiting until the library has room for it
// (FI_EAGAIN). Always on one ring; that is how close finds it.
struct ofi_operation {
    struct fi_context2 context; // first; the library's while posted
    struct ofi_ring ring;
    tally_request_t *request;   // NULL: injected, the caller's is complete
    tally_endpoint_t *endpoint; // NULL: a receive
    uint64_t tag;
    union {               // the caller's
        void *into;       // of a receive
        const void *from; // of a send; what takes an iovec reads it as `into`
    };
    size_t bytes;
    struct registered_buffer *registered; // NULL unless FI_MR_LOCAL asks for it
    bool posted;
};

struct tally_endpoint {
    tally_transport_t *transport;
    struct tally_endpoint *next;
    struct ofi_ring waiting; // sends, in order
    fi_addr_t address;
    int lost; // 0, or the error for which the peer is taken for gone
    int32_t peer;
};

struct ofi_block; // memory of operations

struct tally_transport {
    const tally_transport_host_t *host;
    struct ofi_library library;
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    struct registered registered; // open only if FI_MR_LOCAL is asked for
    bool registers;
    bool closing;
    int wait_fd; // -1: the provider has none
    struct tally_endpoint *endpoints;
    struct ofi_ring posted;
    struct ofi_ring waiting; // receives, in order
    size_t waiting_count;    // on all rings of who waits
    size_t sending_count;    // sends, posted or waiting
    struct ofi_ring idle;    // operations to be taken
    struct ofi_block *blocks;
};

// provider.c: takes the settings; the caller frees the result by freeinfo.
tally_status_t ofi_devices(const tally_transport_host_t *host, char *text,
                           size_t bytes);
tally_status_t ofi_provider_choose(const tally_transport_host_t *host,
                                   const tally_transport_params_t *params,
                                   const struct ofi_library *library,
                                   struct fi_info **out);

// worker.c
tally_status_t ofi_worker_open(const tally_transport_host_t *host,
                               const tally_transport_params_t *params,
                               tally_transport_t **out);
// Closes what open has opened, with nothing of messages.
void ofi_worker_release(tally_transport_t *transport);
tally_status_t ofi_worker_wait_fd(tally_transport_t *transport, int *fd);

// address.c
tally_status_t ofi_address_read(tally_transport_t *transport, void *address,
                                size_t *bytes);
tally_status_t ofi_address_connect(tally_transport_t *transport, int32_t peer,
                                   const void *address, size_t bytes,
                                   tally_endpoint_t **out);

// operation.c
void ofi_ring_init(struct ofi_ring *ring);
bool ofi_ring_is_empty(const struct ofi_ring *ring);
// The operation whose place on a ring this is.
struct ofi_operation *ofi_ring_operation(struct ofi_ring *link);
// The first of a ring that is not empty.
struct ofi_operation *ofi_ring_first(const struct ofi_ring *ring);
// NULL: no memory.
struct ofi_operation *ofi_operation_take(tally_transport_t *transport);
void ofi_operation_to_posted(tally_transport_t *transport,
                             struct ofi_operation *operation);
void ofi_operation_to_waiting(tally_transport_t *transport,
                              struct ofi_operation *operation);
// The operation ends, and with it its request. bytes: received.
void ofi_operation_end(tally_transport_t *transport,
                       struct ofi_operation *operation, tally_status_t status,
                       size_t bytes);
// Ends all; the library must not know them any more.
void ofi_operation_end_all(tally_transport_t *transport);
void ofi_operation_free_all(tally_transport_t *transport);

// message.c
tally_status_t ofi_message_send(tally_endpoint_t *endpoint, uint64_t tag,
                                const void *buffer, size_t bytes,
                                tally_request_t *request);
tally_status_t ofi_message_receive(tally_transport_t *transport, uint64_t tag,
                                   void *buffer, size_t bytes,
                                   tally_request_t *request);
void ofi_message_cancel(tally_transport_t *transport, tally_request_t *request);
// Posts what waits, as far as there is room.
void ofi_message_post_waiting(tally_transport_t *transport);
// Ends an operation that failed, by a positive fi_errno value; says why, and
// who is lost. Returns the status that it ended with.
tally_status_t ofi_message_failed(tally_transport_t *transport,
                                  struct ofi_operation *operation, int error);

// progress.c
int ofi_progress(tally_transport_t *transport);

// close.c
void ofi_close(tally_transport_t *transport);
void ofi_abandon(tally_transport_t *transport);

#endif

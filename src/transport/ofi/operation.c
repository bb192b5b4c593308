// SPDX-License-Identifier: BSD-3-Clause
// Operations under way: where they are kept, and how they end.
#include <string.h>

#include "transport/ofi/ofi.h"

#define BLOCK_OPERATIONS 64

struct ofi_block {
    struct ofi_block *next;
    struct ofi_operation operations[BLOCK_OPERATIONS];
};

void ofi_ring_init(struct ofi_ring *ring)
{
    ring->next = ring;
    ring->previous = ring;
}

bool ofi_ring_is_empty(const struct ofi_ring *ring)
{
    return ring->next == ring;
}

struct ofi_operation *ofi_ring_operation(struct ofi_ring *link)
{
    return (struct ofi_operation *)((char *)link -
                                    offsetof(struct ofi_operation, ring));
}

struct ofi_operation *ofi_ring_first(const struct ofi_ring *ring)
{
    return ofi_ring_operation(ring->next);
}

static void insert(struct ofi_ring *ring, struct ofi_operation *operation)
{
    operation->ring.next = ring;
    operation->ring.previous = ring->previous;
    ring->previous->next = &operation->ring;
    ring->previous = &operation->ring;
}

static void take_off(struct ofi_operation *operation)
{
    operation->ring.previous->next = operation->ring.next;
    operation->ring.next->previous = operation->ring.previous;
    ofi_ring_init(&operation->ring);
}

static bool add_block(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;
    struct ofi_block *block = host->allocate(host->context, sizeof(*block));

    if (block == NULL)
        return false;
    block->next = transport->blocks;
    transport->blocks = block;
    for (int i = 0; i < BLOCK_OPERATIONS; i++)
        insert(&transport->idle, &block->operations[i]);
    return true;
}

struct ofi_operation *ofi_operation_take(tally_transport_t *transport)
{
    if (ofi_ring_is_empty(&transport->idle) && !add_block(transport))
        return NULL;
    struct ofi_operation *operation = ofi_ring_first(&transport->idle);
    take_off(operation);
    return operation;
}

// Off its ring, and out of the counts.
static void leave(tally_transport_t *transport, struct ofi_operation *operation)
{
    if (!ofi_ring_is_empty(&operation->ring) && !operation->posted)
        transport->waiting_count--;
    take_off(operation);
}

void ofi_operation_to_posted(tally_transport_t *transport,
                             struct ofi_operation *operation)
{
    leave(transport, operation);
    operation->posted = true;
    insert(&transport->posted, operation);
}

void ofi_operation_to_waiting(tally_transport_t *transport,
                              struct ofi_operation *operation)
{
    operation->posted = false;
    transport->waiting_count++;
    insert(operation->endpoint != NULL ? &operation->endpoint->waiting
                                       : &transport->waiting,
           operation);
}

void ofi_operation_end(tally_transport_t *transport,
                       struct ofi_operation *operation, tally_status_t status,
                       size_t bytes)
{
    tally_request_t *request = operation->request;
    struct registered_buffer *registered = operation->registered;

    leave(transport, operation);
    if (operation->endpoint != NULL)
        transport->sending_count--;
    else if (registered != NULL && status == TALLY_OK)
        memcpy(operation->into, registered->memory, bytes);
    if (registered != NULL)
        registered_give(&transport->registered, registered);
    if (request != NULL) {
        request->bytes = (uint32_t)bytes;
        request->handle = NULL;
        request->status = status;
    }
    memset(operation, 0, sizeof(*operation));
    insert(&transport->idle, operation);
}

static void end_ring(tally_transport_t *transport, struct ofi_ring *ring)
{
    while (!ofi_ring_is_empty(ring))
        ofi_operation_end(transport, ofi_ring_first(ring), TALLY_ERR_TRANSPORT,
                          0);
}

void ofi_operation_end_all(tally_transport_t *transport)
{
    end_ring(transport, &transport->posted);
    end_ring(transport, &transport->waiting);
    for (tally_endpoint_t *i = transport->endpoints; i != NULL; i = i->next)
        end_ring(transport, &i->waiting);
}

void ofi_operation_free_all(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;

    while (transport->blocks != NULL) {
        struct ofi_block *block = transport->blocks;
        transport->blocks = block->next;
        host->release(host->context, block);
    }
}

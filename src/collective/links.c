// SPDX-License-Identifier: BSD-3-Clause
// See links.h.
#include "collective/links.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collective/agreement.h"
#include "core/error.h"

struct links {
    const struct tally_transport_ops *ops;
    tally_transport_t *transport;
    int32_t count;
    int32_t *world_ranks;         // [count]
    tally_endpoint_t **shared;    // by world rank, or NULL: then
    tally_endpoint_t **endpoints; // [count]; of either, NULL: not connected
    uint64_t *address_bytes;      // [count]
    unsigned char *addresses;     // [count][address_stride]
    size_t address_stride;
    struct links_kept *kept;
};

static tally_status_t links_allocate(const struct exchange_group *group,
                                     struct links **out)
{
    size_t count = (size_t)group->count;
    struct links *links = calloc(1, sizeof(*links));

    if (links == NULL)
        goto fail;
    links->count = group->count;
    links->world_ranks = calloc(count, sizeof(*links->world_ranks));
    links->endpoints = calloc(count, sizeof(*links->endpoints));
    links->address_bytes = calloc(count, sizeof(*links->address_bytes));
    if (links->world_ranks == NULL || links->endpoints == NULL ||
        links->address_bytes == NULL)
        goto fail;
    memcpy(links->world_ranks, group->ranks, count * sizeof(int32_t));
    *out = links;
    return TALLY_OK;
fail:
    links_free(links);
    return core_fail(TALLY_ERR_MEMORY, "no memory for links to %zu ranks",
                     count);
}

void links_address_read(const struct tally_transport_ops *ops,
                        tally_transport_t *transport, struct links_address *out)
{
    memset(out, 0, sizeof(*out));
    out->bytes = sizeof(out->data);
    out->status = ops->address(transport, out->data, &out->bytes);
}

// Addresses differ in length: first the lengths, then room for the longest.
static tally_status_t addresses_gather(struct links *links,
                                       const struct links_address *own,
                                       struct exchange *exchange,
                                       struct exchange_group *group)
{
    uint64_t length = own->bytes;
    tally_status_t status =
        agreement_gather(exchange, group, own->status, &length,
                         links->address_bytes, sizeof(length));

    if (status != TALLY_OK)
        return status;
    for (int32_t i = 0; i < links->count; i++)
        if (links->address_bytes[i] > links->address_stride)
            links->address_stride = links->address_bytes[i];
    if (links->address_stride > sizeof(own->data))
        return core_fail(TALLY_ERR_TRANSPORT, "an address of %zu bytes",
                         links->address_stride);
    links->addresses = calloc((size_t)links->count, links->address_stride);
    if (links->addresses == NULL)
        status = core_fail(TALLY_ERR_MEMORY, "no memory for %d addresses",
                           (int)links->count);
    return agreement_gather(exchange, group, status, own->data,
                            links->addresses, links->address_stride);
}

tally_status_t links_create(const struct tally_transport_ops *ops,
                            tally_transport_t *transport,
                            const struct links_address *own,
                            tally_endpoint_t **shared,
                            struct exchange *exchange,
                            struct exchange_group *group, struct links **out)
{
    struct links *links = NULL;
    tally_status_t status;

    status = links_allocate(group, &links);
    if (status != TALLY_OK)
        return status;
    links->ops = ops;
    links->transport = transport;
    links->shared = shared;
    status = addresses_gather(links, own, exchange, group);
    if (status != TALLY_OK) {
        links_free(links);
        return status;
    }
    *out = links;
    return TALLY_OK;
}

void links_free(struct links *links)
{
    if (links == NULL)
        return;
    while (links->kept != NULL) {
        struct links_kept *kept = links->kept;

        links->kept = kept->next;
        free(kept);
    }
    free(links->addresses);
    free(links->address_bytes);
    free(links->endpoints);
    free(links->world_ranks);
    free(links);
}

tally_status_t links_endpoint(struct links *links, int32_t rank,
                              tally_endpoint_t **out)
{
    assert(rank >= 0 && rank < links->count);
    size_t index = (size_t)rank;
    tally_endpoint_t **endpoint =
        links->shared != NULL ? &links->shared[links->world_ranks[index]]
                              : &links->endpoints[index];

    if (*endpoint == NULL) {
        tally_status_t status = links->ops->connect(
            links->transport, links->world_ranks[index],
            links->addresses + index * links->address_stride,
            links->address_bytes[index], endpoint);

        if (status != TALLY_OK)
            return status;
    }
    *out = *endpoint;
    return TALLY_OK;
}

int32_t links_world_rank(const struct links *links, int32_t rank)
{
    return links->world_ranks[rank];
}

void links_keep_take(struct links *links, struct links_kept *memory)
{
    memory->next = links->kept;
    links->kept = memory;
}

const struct tally_transport_ops *links_ops(const struct links *links)
{
    return links->ops;
}

tally_transport_t *links_transport(const struct links *links)
{
    return links->transport;
}

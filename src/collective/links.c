// SPDX-License-Identifier: BSD-3-Clause
// See links.h.
#include "collective/links.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collective/agreement.h"
#include "core/error.h"

struct connected {
    int32_t rank;
    tally_endpoint_t *endpoint;
};

struct links {
    const struct tally_transport_ops *ops;
    tally_transport_t *transport;
    const struct links_directory *directory; // own or borrowed
    struct links_directory own;
    tally_endpoint_t **shared; // by world rank, NULL: not connected; or NULL
    // Without `shared`: a rank has few partners, so they are looked through.
    struct connected *connected;
    size_t connected_count;
    size_t connected_room;
    struct links_kept *kept;
};

static struct links *links_allocate(const struct tally_transport_ops *ops,
                                    tally_transport_t *transport)
{
    struct links *links = calloc(1, sizeof(*links));

    if (links == NULL)
        return NULL;
    links->ops = ops;
    links->transport = transport;
    links->directory = &links->own;
    return links;
}

static tally_status_t directory_allocate(const struct exchange_group *group,
                                         struct links_directory *directory)
{
    size_t count = (size_t)group->count;

    directory->count = group->count;
    directory->world_ranks = calloc(count, sizeof(*directory->world_ranks));
    directory->address_bytes = calloc(count, sizeof(*directory->address_bytes));
    if (directory->world_ranks == NULL || directory->address_bytes == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for links to %zu ranks",
                         count);
    memcpy(directory->world_ranks, group->ranks, count * sizeof(int32_t));
    return TALLY_OK;
}

void links_address_read(const struct tally_transport_ops *ops,
                        tally_transport_t *transport, struct links_address *out)
{
    memset(out, 0, sizeof(*out));
    out->bytes = sizeof(out->data);
    out->status = ops->address(transport, out->data, &out->bytes);
}

// Addresses differ in length: first the lengths, then room for the longest.
static tally_status_t addresses_gather(struct links_directory *directory,
                                       const struct links_address *own,
                                       struct exchange *exchange,
                                       struct exchange_group *group)
{
    uint64_t length = own->bytes;
    tally_status_t status =
        agreement_gather(exchange, group, own->status, &length,
                         directory->address_bytes, sizeof(length));

    if (status != TALLY_OK)
        return status;
    directory->address_stride = 1;
    for (int32_t i = 0; i < directory->count; i++)
        if (directory->address_bytes[i] > directory->address_stride)
            directory->address_stride = directory->address_bytes[i];
    if (directory->address_stride > sizeof(own->data))
        return core_fail(TALLY_ERR_TRANSPORT, "an address of %zu bytes",
                         directory->address_stride);
    directory->addresses =
        calloc((size_t)directory->count, directory->address_stride);
    if (directory->addresses == NULL)
        status = core_fail(TALLY_ERR_MEMORY, "no memory for %d addresses",
                           (int)directory->count);
    return agreement_gather(exchange, group, status, own->data,
                            directory->addresses, directory->address_stride);
}

tally_status_t links_create(const struct tally_transport_ops *ops,
                            tally_transport_t *transport,
                            const struct links_address *own,
                            tally_endpoint_t **shared,
                            struct exchange *exchange,
                            struct exchange_group *group, struct links **out)
{
    struct links *links = links_allocate(ops, transport);
    tally_status_t status;

    if (links == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for links to %d ranks",
                         (int)group->count);
    links->shared = shared;
    status = directory_allocate(group, &links->own);
    if (status != TALLY_OK)
        goto free_links;
    status = addresses_gather(&links->own, own, exchange, group);
    if (status != TALLY_OK)
        goto free_links;
    *out = links;
    return TALLY_OK;
free_links:
    links_free(links);
    return status;
}

tally_status_t links_create_listed(const struct tally_transport_ops *ops,
                                   tally_transport_t *transport,
                                   const struct links_directory *directory,
                                   struct links **out)
{
    struct links *links = links_allocate(ops, transport);

    if (links == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for links to %d ranks",
                         (int)directory->count);
    links->directory = directory;
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
    free(links->connected);
    free(links->own.addresses);
    free(links->own.address_bytes);
    free(links->own.world_ranks);
    free(links);
}

// NULL: no memory.
static tally_endpoint_t **own_place(struct links *links, int32_t rank)
{
    size_t count = links->connected_count;

    for (size_t i = 0; i < count; i++)
        if (links->connected[i].rank == rank)
            return &links->connected[i].endpoint;
    if (count == links->connected_room) {
        size_t room = count == 0 ? 4 : 2 * count;
        struct connected *grown =
            realloc(links->connected, room * sizeof(*grown));

        if (grown == NULL)
            return NULL;
        links->connected = grown;
        links->connected_room = room;
    }
    links->connected[count] = (struct connected){.rank = rank};
    links->connected_count++;
    return &links->connected[count].endpoint;
}

tally_status_t links_endpoint(struct links *links, int32_t rank,
                              tally_endpoint_t **out)
{
    const struct links_directory *directory = links->directory;
    size_t index = (size_t)rank;

    assert(rank >= 0 && rank < directory->count);
    tally_endpoint_t **endpoint =
        links->shared != NULL ? &links->shared[directory->world_ranks[index]]
                              : own_place(links, rank);
    if (endpoint == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for an endpoint");
    if (*endpoint == NULL) {
        tally_status_t status = links->ops->connect(
            links->transport, directory->world_ranks[index],
            directory->addresses + index * directory->address_stride,
            directory->address_bytes[index], endpoint);

        if (status != TALLY_OK)
            return status;
    }
    *out = *endpoint;
    return TALLY_OK;
}

bool links_are_real(const struct links *links)
{
    return links->shared != NULL;
}

int32_t links_world_rank(const struct links *links, int32_t rank)
{
    return links->directory->world_ranks[rank];
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

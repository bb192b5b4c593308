// SPDX-License-Identifier: BSD-3-Clause
// See registered.h.
#include "transport/ofi/registered.h"

#include <assert.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>

// A slab is registered once, and cut into buffers of one size.
#define SLAB_BYTES ((size_t)64 << 10)

static const size_t sizes[REGISTERED_SIZES] = {512, 4096, SLAB_BYTES};

struct registered_slab {
    struct registered_slab *next;
    struct fid_mr *mr;
    void *memory;
    struct registered_buffer buffers[];
};

static int register_memory(struct registered *registered, void *memory,
                           struct fid_mr **out)
{
    struct fid_mr *mr;
    int result =
        fi_mr_reg(registered->domain, memory, SLAB_BYTES, FI_SEND | FI_RECV, 0,
                  registered->keys++, 0, &mr, NULL);

    if (result != 0)
        return -result;
    if (registered->ep != NULL) {
        result = fi_mr_bind(mr, &registered->ep->fid, 0);
        if (result == 0)
            result = fi_mr_enable(mr);
        if (result != 0) {
            fi_close(&mr->fid);
            return -result;
        }
    }
    *out = mr;
    return 0;
}

static void cut(struct registered *registered, struct registered_slab *slab,
                size_t size)
{
    for (size_t i = 0; i < SLAB_BYTES / sizes[size]; i++) {
        slab->buffers[i] = (struct registered_buffer){
            .memory = (char *)slab->memory + i * sizes[size],
            .descriptor = fi_mr_desc(slab->mr),
            .size = size,
        };
        registered_give(registered, &slab->buffers[i]);
    }
}

static int add_slab(struct registered *registered, size_t size)
{
    const tally_transport_host_t *host = registered->host;
    size_t count = SLAB_BYTES / sizes[size];
    struct registered_slab *slab = host->allocate(
        host->context, sizeof(*slab) + count * sizeof(slab->buffers[0]));
    int error = FI_ENOMEM;

    if (slab == NULL)
        return FI_ENOMEM;
    slab->memory = host->allocate(host->context, SLAB_BYTES);
    if (slab->memory == NULL)
        goto release_slab;
    error = register_memory(registered, slab->memory, &slab->mr);
    if (error != 0)
        goto release_memory;
    slab->next = registered->slabs;
    registered->slabs = slab;
    cut(registered, slab, size);
    return 0;

release_memory:
    host->release(host->context, slab->memory);
release_slab:
    host->release(host->context, slab);
    return error;
}

int registered_take(struct registered *registered, size_t bytes,
                    struct registered_buffer **out)
{
    size_t size = 0;

    assert(bytes <= SLAB_BYTES);
    while (sizes[size] < bytes)
        size++;
    if (registered->idle[size] == NULL) {
        int error = add_slab(registered, size);
        if (error != 0)
            return error;
    }
    *out = registered->idle[size];
    registered->idle[size] = (*out)->next;
    return 0;
}

void registered_give(struct registered *registered,
                     struct registered_buffer *buffer)
{
    buffer->next = registered->idle[buffer->size];
    registered->idle[buffer->size] = buffer;
}

void registered_close(struct registered *registered)
{
    const tally_transport_host_t *host = registered->host;

    while (registered->slabs != NULL) {
        struct registered_slab *slab = registered->slabs;
        registered->slabs = slab->next;
        fi_close(&slab->mr->fid);
        host->release(host->context, slab->memory);
        host->release(host->context, slab);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
// See device.h: the host, and the choice.
#include "device.h"

#include <string.h>

static bool host_open(int32_t rank, struct device_memory *memory)
{
    (void)rank;
    memory->stream = NULL;
    return true;
}

static void host_close(struct device_memory *memory)
{
    (void)memory;
}

static void *host_give(struct device_memory *memory, enum device_array array,
                       void *values, size_t bytes)
{
    (void)memory;
    (void)array;
    (void)bytes;
    return values;
}

static bool host_take(struct device_memory *memory, void *to, const void *from,
                      size_t bytes)
{
    (void)memory;
    if (to != from)
        memcpy(to, from, bytes);
    return true;
}

const struct device device_host = {
    .name = "host",
    .device = TALLY_DEVICE_HOST,
    .open = host_open,
    .close = host_close,
    .give = host_give,
    .take = host_take,
};

const struct device *device_find(const char *name)
{
    static const struct device *const devices[] = {&device_host, &device_cuda};

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        if (strcmp(devices[i]->name, name) == 0)
            return devices[i];
    return NULL;
}

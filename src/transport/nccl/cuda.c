// SPDX-License-Identifier: BSD-3-Clause
// See cuda.h.
#include "transport/nccl/cuda.h"

#include <assert.h>
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "transport/nccl/status.h"

#define LIBCUDA "libcuda.so.1"
#define CUDA_OK 0
#define CUDA_NOT_READY 600
#define HOST_MEMORY_OF_ALL_CONTEXTS 1u
#define STREAM_WITHOUT_THE_DEFAULT_ONE 1u

#define SYMBOL(name, member)                                                   \
    {                                                                          \
        #name, offsetof(struct cuda_driver, member)                            \
    }

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    SYMBOL(cuInit, init),
    SYMBOL(cuDeviceGetCount, device_get_count),
    SYMBOL(cuCtxGetCurrent, ctx_get_current),
    SYMBOL(cuMemHostAlloc, mem_host_alloc),
    SYMBOL(cuMemFreeHost, mem_free_host),
    SYMBOL(cuStreamCreate, stream_create),
    SYMBOL(cuStreamQuery, stream_query),
    SYMBOL(cuStreamDestroy_v2, stream_destroy),
};

static tally_status_t find_symbols(const tally_transport_host_t *host,
                                   struct cuda_driver *driver)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(driver->handle, symbols[i].name);
        if (symbol == NULL)
            return nccl_fail(host, TALLY_ERR_TRANSPORT,
                             "the CUDA driver has no %s", symbols[i].name);
        memcpy((char *)driver + symbols[i].offset, &symbol, sizeof(symbol));
    }
    return TALLY_OK;
}

static tally_status_t find_devices(const tally_transport_host_t *host,
                                   struct cuda_driver *driver)
{
    assert(driver->init != NULL && driver->device_get_count != NULL);
    int result = driver->init(0);

    if (result == CUDA_OK)
        result = driver->device_get_count(&driver->devices);
    if (result != CUDA_OK)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "there is no CUDA device: the driver says error %d",
                         result);
    if (driver->devices == 0)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "there is no CUDA device: the driver sees none");
    return TALLY_OK;
}

tally_status_t cuda_driver_open(const tally_transport_host_t *host,
                                struct cuda_driver *out)
{
    struct cuda_driver driver = {
        .handle = dlopen(LIBCUDA, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)};

    if (driver.handle == NULL)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "there is no CUDA device: %s", dlerror());
    tally_status_t status = find_symbols(host, &driver);
    if (status == TALLY_OK)
        status = find_devices(host, &driver);
    if (status != TALLY_OK) {
        dlclose(driver.handle);
        return status;
    }
    *out = driver;
    return TALLY_OK;
}

void cuda_driver_close(struct cuda_driver *driver)
{
    dlclose(driver->handle);
}

tally_status_t cuda_trial_open(const tally_transport_host_t *host,
                               const struct cuda_driver *driver,
                               struct cuda_trial *out)
{
    struct cuda_trial trial = {.stream = NULL};
    void *context = NULL;
    void *lane;

    if (driver->ctx_get_current(&context) != CUDA_OK || context == NULL)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "no CUDA context is current: choose the device before "
                         "the group is made");
    int result =
        driver->stream_create(&trial.stream, STREAM_WITHOUT_THE_DEFAULT_ONE);
    if (result != CUDA_OK)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "CUDA makes no stream: error %d", result);
    result = driver->mem_host_alloc(&lane, sizeof(*trial.lane),
                                    HOST_MEMORY_OF_ALL_CONTEXTS);
    if (result != CUDA_OK) {
        driver->stream_destroy(trial.stream);
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "CUDA gives no memory of the host: error %d", result);
    }
    trial.lane = lane;
    *out = trial;
    return TALLY_OK;
}

tally_status_t cuda_trial_poll(const tally_transport_host_t *host,
                               const struct cuda_driver *driver,
                               const struct cuda_trial *trial)
{
    int result = driver->stream_query(trial->stream);

    if (result == CUDA_OK)
        return TALLY_OK;
    if (result == CUDA_NOT_READY)
        return TALLY_NOT_YET;
    return nccl_fail(host, TALLY_ERR_TRANSPORT,
                     "a reduction failed on the device: error %d", result);
}

void cuda_trial_close(const struct cuda_driver *driver,
                      struct cuda_trial *trial)
{
    if (trial->stream == NULL)
        return;
    driver->stream_destroy(trial->stream);
    driver->mem_free_host(trial->lane);
    *trial = (struct cuda_trial){.stream = NULL};
}

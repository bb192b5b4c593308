// SPDX-License-Identifier: BSD-3-Clause
// See driver.h.
#include "device/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "core/error.h"

#define CUDA_ERROR_OUT_OF_MEMORY 2

static struct cuda_driver driver;
static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;

tally_status_t cuda_driver_fail(const struct cuda_driver *from,
                                const char *what, CUresult error)
{
    const char *name = NULL;
    const char *text = NULL;

    // Both are NULL where the driver does not know the error.
    from->cuGetErrorName(error, &name);
    from->cuGetErrorString(error, &text);
    if (name == NULL || text == NULL)
        return core_fail(TALLY_ERR_SYSTEM, "%s: CUDA error %d", what, error);
    return core_fail(error == CUDA_ERROR_OUT_OF_MEMORY ? TALLY_ERR_MEMORY
                                                       : TALLY_ERR_SYSTEM,
                     "%s: %s (%s)", what, name, text);
}

static tally_status_t find_functions(struct cuda_driver *out)
{
    const struct {
        const char *name;
        size_t offset;
    } functions[] = {
#define FUNCTION(name, parameters) {#name, offsetof(struct cuda_driver, name)},
        CUDA_DRIVER_FUNCTIONS(FUNCTION)
#undef FUNCTION
    };

    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *symbol = dlsym(out->library, functions[i].name);
        if (symbol == NULL)
            return core_fail(TALLY_ERR_UNSUPPORTED,
                             "the CUDA driver (libcuda.so.1) is too old: it "
                             "has no %s",
                             functions[i].name);
        memcpy((char *)out + functions[i].offset, &symbol, sizeof(symbol));
    }
    return TALLY_OK;
}

static tally_status_t initialize(struct cuda_driver *out)
{
    int count = 0;
    CUresult error = out->cuInit(0);

    if (error == CUDA_SUCCESS)
        error = out->cuDeviceGetCount(&count);
    if (error == CUDA_SUCCESS)
        error = out->cuDriverGetVersion(&out->version);
    if (error != CUDA_SUCCESS) {
        cuda_driver_fail(out, "cuInit", error);
        return core_fail_within(TALLY_ERR_UNSUPPORTED,
                                "the CUDA driver finds no GPU: ");
    }
    if (count == 0)
        return core_fail(TALLY_ERR_UNSUPPORTED, "the CUDA driver finds no GPU");
    return TALLY_OK;
}

// What failed once may not fail again: a host's driver may come later.
static tally_status_t load(void)
{
    struct cuda_driver loaded = {0};

    if (driver.library != NULL)
        return TALLY_OK;
    loaded.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (loaded.library == NULL)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "there is no CUDA driver here: %s", dlerror());
    tally_status_t status = find_functions(&loaded);
    if (status == TALLY_OK)
        status = initialize(&loaded);
    if (status != TALLY_OK) {
        dlclose(loaded.library);
        return status;
    }
    driver = loaded;
    return TALLY_OK;
}

tally_status_t cuda_driver_open(const struct cuda_driver **out)
{
    pthread_mutex_lock(&driver_lock);
    tally_status_t status = load();
    pthread_mutex_unlock(&driver_lock);
    if (status == TALLY_OK)
        *out = &driver;
    return status;
}

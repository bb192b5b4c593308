// SPDX-License-Identifier: BSD-3-Clause
// See library.h.
#include "transport/ofi/library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/ofi/status.h"
#include "transport/ofi/version.h"
#include "transport/signals.h"

#define LIBFABRIC "libfabric.so.1"

#define SYMBOL(member)                                                         \
    {                                                                          \
        "fi_" #member, offsetof(struct ofi_library, member)                    \
    }

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    SYMBOL(dupinfo), SYMBOL(fabric),   SYMBOL(freeinfo),
    SYMBOL(getinfo), SYMBOL(strerror),
};

static tally_status_t check_version(const tally_transport_host_t *host,
                                    void *handle)
{
    const uint32_t built = FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION);
    __typeof__(fi_version) *version;

    *(void **)&version = dlsym(handle, "fi_version");
    if (version == NULL)
        return ofi_fail(host, TALLY_ERR_TRANSPORT,
                        "the " LIBFABRIC " in this process is not libfabric: "
                        "it has no fi_version");
    uint32_t loaded = version();
    if (!ofi_version_fits(built, loaded))
        return ofi_fail(host, TALLY_ERR_TRANSPORT,
                        "libtally-ofi.so was built against libfabric %d.%d, "
                        "the library loaded is %u.%u",
                        FI_MAJOR_VERSION, FI_MINOR_VERSION, FI_MAJOR(loaded),
                        FI_MINOR(loaded));
    return TALLY_OK;
}

static tally_status_t find_symbols(const tally_transport_host_t *host,
                                   struct ofi_library *library)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(library->handle, symbols[i].name);
        if (symbol == NULL)
            return ofi_fail(host, TALLY_ERR_TRANSPORT,
                            "the libfabric loaded has no %s", symbols[i].name);
        memcpy((char *)library + symbols[i].offset, &symbol, sizeof(symbol));
    }
    return TALLY_OK;
}

// Libraries below it (PSM) catch SIGSEGV and others when they are loaded. Once
// loaded it stays: providers leave threads, keys of threads and handlers of
// exit behind.
static void *load_quietly(void)
{
    struct signals signals;

    signals_save(&signals);
    void *handle = dlopen(LIBFABRIC, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    signals_restore(&signals);
    return handle;
}

tally_status_t ofi_library_open(const tally_transport_host_t *host,
                                struct ofi_library *out)
{
    struct ofi_library library = {.handle = load_quietly()};
    tally_status_t status;

    if (library.handle == NULL)
        return ofi_fail(host, TALLY_ERR_TRANSPORT,
                        "libfabric cannot be loaded: %s", dlerror());
    status = check_version(host, library.handle);
    if (status != TALLY_OK)
        goto close_library;
    status = find_symbols(host, &library);
    if (status != TALLY_OK)
        goto close_library;
    *out = library;
    return TALLY_OK;

close_library:
    dlclose(library.handle);
    return status;
}

void ofi_library_close(struct ofi_library *library)
{
    dlclose(library->handle);
}

void ofi_library_version(char *text, size_t bytes)
{
    __typeof__(fi_version) *version = NULL;
    void *handle = dlopen(LIBFABRIC, RTLD_NOW | RTLD_NOLOAD);

    if (handle != NULL)
        *(void **)&version = dlsym(handle, "fi_version");
    if (version != NULL)
        snprintf(text, bytes, "libfabric %u.%u", FI_MAJOR(version()),
                 FI_MINOR(version()));
    else
        snprintf(text, bytes, "libfabric (not loaded)");
    if (handle != NULL)
        dlclose(handle);
}

// SPDX-License-Identifier: BSD-3-Clause
// See library.h.
#include "transport/nccl/library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/nccl/status.h"
#include "transport/nccl/version.h"

#define LIBNCCL "libnccl.so.2"
// It has threads of its own and undoes nothing when it is unloaded.
#define MODE (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)
#define VERSION_BYTES 32

#define SYMBOL(name, member)                                                   \
    {                                                                          \
        #name, offsetof(struct nccl_library, member)                           \
    }

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    SYMBOL(ncclGetUniqueId, get_unique_id),
    SYMBOL(ncclCommInitRankConfig, comm_init_rank_config),
    SYMBOL(ncclCommFinalize, comm_finalize),
    SYMBOL(ncclCommDestroy, comm_destroy),
    SYMBOL(ncclCommAbort, comm_abort),
    SYMBOL(ncclCommGetAsyncError, comm_get_async_error),
    SYMBOL(ncclCommCount, comm_count),
    SYMBOL(ncclCommUserRank, comm_user_rank),
    SYMBOL(ncclAllReduce, all_reduce),
    SYMBOL(ncclGetErrorString, get_error_string),
    SYMBOL(ncclGetLastError, get_last_error),
};

static const char *write_version(int code, char *text)
{
    snprintf(text, VERSION_BYTES, "%d.%d.%d", nccl_version_major(code),
             code / 100 % 100, code % 100);
    return text;
}

// 0: it has none.
static int version_of(void *handle)
{
    __typeof__(ncclGetVersion) *get_version;
    int code = 0;

    *(void **)&get_version = dlsym(handle, "ncclGetVersion");
    if (get_version == NULL || get_version(&code) != ncclSuccess)
        return 0;
    return code;
}

static void *load_named(const tally_transport_host_t *host, const char *named,
                        void *loaded)
{
    if (loaded == NULL)
        return dlopen(named, MODE);
    void *handle = dlopen(named, RTLD_NOW | RTLD_NOLOAD);
    if (handle == NULL)
        host->log(host->context, TALLY_LOG_WARN,
                  "TALLY_NCCL_LIBRARY is not heeded: this process has loaded "
                  "another " LIBNCCL);
    else
        dlclose(handle);
    return loaded;
}

static void *load(const tally_transport_host_t *host)
{
    const char *named = host->config(host->context, "TALLY_NCCL_LIBRARY");
    void *loaded = dlopen(LIBNCCL, MODE | RTLD_NOLOAD);

    if (named != NULL && named[0] != '\0')
        return load_named(host, named, loaded);
    if (loaded == NULL)
        loaded = dlopen(LIBNCCL, MODE);
    // Beside the header that configure found: a wheel, where no loader looks.
    if (loaded == NULL)
        loaded = dlopen(NCCL_FOLDER "/" LIBNCCL, MODE);
    return loaded;
}

static tally_status_t check_version(const tally_transport_host_t *host,
                                    const struct nccl_library *library)
{
    char built[VERSION_BYTES], loaded[VERSION_BYTES], oldest[VERSION_BYTES];
    int code = version_of(library->handle);

    if (code == 0)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "the " LIBNCCL " in this process is not NCCL: it has "
                         "no ncclGetVersion");
    if (nccl_version_fits(NCCL_VERSION_CODE, code))
        return TALLY_OK;
    return nccl_fail(host, TALLY_ERR_TRANSPORT,
                     "libtally-nccl.so was built against NCCL %s and serves "
                     "%s and later ones of its major version, the library "
                     "loaded is %s",
                     write_version(NCCL_VERSION_CODE, built),
                     write_version(NCCL_OLDEST, oldest),
                     write_version(code, loaded));
}

static tally_status_t find_symbols(const tally_transport_host_t *host,
                                   struct nccl_library *library)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(library->handle, symbols[i].name);
        if (symbol == NULL)
            return nccl_fail(host, TALLY_ERR_TRANSPORT,
                             "the NCCL loaded has no %s", symbols[i].name);
        memcpy((char *)library + symbols[i].offset, &symbol, sizeof(symbol));
    }
    return TALLY_OK;
}

tally_status_t nccl_library_open(const tally_transport_host_t *host,
                                 struct nccl_library *out)
{
    struct nccl_library library = {.handle = load(host)};
    tally_status_t status;

    if (library.handle == NULL)
        return nccl_fail(host, TALLY_ERR_TRANSPORT, "NCCL cannot be loaded: %s",
                         dlerror());
    status = check_version(host, &library);
    if (status == TALLY_OK)
        status = find_symbols(host, &library);
    if (status != TALLY_OK) {
        dlclose(library.handle);
        return status;
    }
    *out = library;
    return TALLY_OK;
}

void nccl_library_close(struct nccl_library *library)
{
    dlclose(library->handle);
}

void nccl_library_version(char *text, size_t bytes)
{
    void *handle = dlopen(LIBNCCL, RTLD_NOW | RTLD_NOLOAD);
    char version[VERSION_BYTES];

    snprintf(text, bytes, "NCCL %s",
             handle != NULL ? write_version(version_of(handle), version)
                            : "(not loaded)");
    if (handle != NULL)
        dlclose(handle);
}

// SPDX-License-Identifier: BSD-3-Clause
// See library.h.
#include "transport/ucx/library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/ucx/load_quietly.h"
#include "transport/ucx/status.h"
#include "transport/ucx/version.h"

#define SYMBOL(member)                                                         \
    {                                                                          \
        "ucp_" #member, offsetof(struct ucx_library, member)                   \
    }

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"ucs_status_string", offsetof(struct ucx_library, status_string)},
    SYMBOL(config_read),
    SYMBOL(config_modify),
    SYMBOL(config_print),
    SYMBOL(config_release),
    SYMBOL(init_version),
    SYMBOL(context_print_info),
    SYMBOL(cleanup),
    SYMBOL(worker_create),
    SYMBOL(worker_destroy),
    SYMBOL(worker_get_address),
    SYMBOL(worker_release_address),
    SYMBOL(worker_progress),
    SYMBOL(worker_get_efd),
    SYMBOL(worker_arm),
    SYMBOL(worker_flush_nbx),
    SYMBOL(ep_create),
    SYMBOL(ep_close_nbx),
    SYMBOL(tag_send_nbx),
    SYMBOL(tag_probe_nb),
    SYMBOL(tag_recv_nbx),
    SYMBOL(request_cancel),
    SYMBOL(request_check_status),
    SYMBOL(request_free),
};

static tally_status_t check_version(const tally_transport_host_t *host,
                                    struct ucx_library *library)
{
    __typeof__(ucp_get_version) *get_version;
    unsigned major, minor, release;

    *(void **)&get_version = dlsym(library->handle, "ucp_get_version");
    if (get_version == NULL)
        return ucx_fail(host, TALLY_ERR_TRANSPORT,
                        "the libucp.so.0 in this process is not UCX: it has no "
                        "ucp_get_version");
    get_version(&major, &minor, &release);
    if (!ucx_version_fits(UCP_API_MAJOR, UCP_API_MINOR, major, minor))
        return ucx_fail(host, TALLY_ERR_TRANSPORT,
                        "libtally-ucx.so was built against UCX %d.%d, the "
                        "library loaded is %u.%u.%u",
                        UCP_API_MAJOR, UCP_API_MINOR, major, minor, release);
    library->minor = minor;
    return TALLY_OK;
}

static tally_status_t find_symbols(const tally_transport_host_t *host,
                                   struct ucx_library *library)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(library->handle, symbols[i].name);
        if (symbol == NULL)
            return ucx_fail(host, TALLY_ERR_TRANSPORT,
                            "the UCX loaded has no %s", symbols[i].name);
        memcpy((char *)library + symbols[i].offset, &symbol, sizeof(symbol));
    }
    return TALLY_OK;
}

tally_status_t ucx_library_open(const tally_transport_host_t *host,
                                struct ucx_library *out)
{
    struct ucx_library library = {.handle = ucx_load_quietly(host)};
    tally_status_t status;

    if (library.handle == NULL)
        return ucx_fail(host, TALLY_ERR_TRANSPORT, "UCX cannot be loaded: %s",
                        dlerror());
    status = check_version(host, &library);
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

void ucx_library_close(struct ucx_library *library)
{
    dlclose(library->handle);
}

void ucx_library_version(char *text, size_t bytes)
{
    __typeof__(ucp_get_version_string) *version_string = NULL;
    void *handle = dlopen("libucp.so.0", RTLD_NOW | RTLD_NOLOAD);

    if (handle != NULL)
        *(void **)&version_string = dlsym(handle, "ucp_get_version_string");
    snprintf(text, bytes, "UCX %s",
             version_string != NULL ? version_string() : "(not loaded)");
    if (handle != NULL)
        dlclose(handle);
}

// SPDX-License-Identifier: BSD-3-Clause
// Finds a provider: within the library, or in a file of its own.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/error.h"
#include "quorum/provider.h"
#include "transport/load.h"

const struct quorum_provider_ops *const quorum_providers[] = {
    &quorum_folder, &quorum_static, &quorum_callback, NULL};

static const char *const names[] = {"folder", "static", "callback", "etcd",
                                    NULL};

static tally_status_t query(const char *path, void *library,
                            const struct quorum_provider_ops **out)
{
    quorum_provider_query ask = NULL;

    // A function pointer by way of its bits: C has no cast from void *.
    *(void **)&ask = dlsym(library, QUORUM_PROVIDER_SYMBOL);
    if (ask == NULL)
        return core_fail(TALLY_ERR_ABI,
                         "%s is no provider of membership: it has no symbol %s",
                         path, QUORUM_PROVIDER_SYMBOL);
    if (ask(QUORUM_PROVIDER_ABI, out) != TALLY_OK)
        return core_fail(TALLY_ERR_ABI,
                         "%s is of another build: it does not take ABI %u of "
                         "membership",
                         path, QUORUM_PROVIDER_ABI);
    return TALLY_OK;
}

tally_status_t quorum_load(const char *name, const char *plugin_path,
                           const struct quorum_provider_ops **out,
                           void **library)
{
    char path[TRANSPORT_PATH_BYTES];
    tally_status_t status;

    *library = NULL;
    for (int i = 0; quorum_providers[i] != NULL; i++)
        if (strcmp(name, quorum_providers[i]->name) == 0) {
            *out = quorum_providers[i];
            return TALLY_OK;
        }
    status = transport_find(name, plugin_path, path);
    if (status != TALLY_OK) {
        const char *nearest = config_nearest(name, names);
        bool is_known = nearest != NULL && strcmp(nearest, name) == 0;
        char why[QUORUM_SENTENCE_BYTES];
        snprintf(why, sizeof(why), "%s", core_error_text());
        return core_fail(is_known ? TALLY_ERR_UNSUPPORTED : TALLY_ERR_CONFIG,
                         "TALLY_QUORUM=%s: %s%s%s%s", name, why,
                         nearest != NULL && !is_known ? "; did you mean " : "",
                         nearest != NULL && !is_known ? nearest : "",
                         nearest != NULL && !is_known ? "?" : "");
    }
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*library == NULL)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "TALLY_QUORUM=%s: it cannot be loaded: %s", name,
                         dlerror());
    status = query(path, *library, out);
    if (status != TALLY_OK) {
        dlclose(*library);
        *library = NULL;
    }
    return status;
}

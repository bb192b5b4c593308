// SPDX-License-Identifier: BSD-3-Clause
// The provider "folder": a folder that all processes see
// (replica/loop/folder.h).
#include <stdlib.h>

#include "core/error.h"
#include "quorum/provider.h"
#include "replica/loop/folder.h"

struct quorum_provider {
    const struct quorum_host *host;
    const struct quorum_params *params;
    struct replica_folder *folder;
};

static tally_status_t folder_open(const struct quorum_host *host,
                                  const struct quorum_params *params,
                                  struct quorum_provider **out)
{
    const char *path = host->setting(host->context, "TALLY_REPLICA_FOLDER");
    struct quorum_provider *provider;

    if (path == NULL || path[0] == '\0')
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_REPLICA_FOLDER is not set: replica groups do "
                         "not find each other");
    provider = calloc(1, sizeof(*provider));
    if (provider == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for membership");
    provider->host = host;
    provider->params = params;
    tally_status_t status = replica_folder_open(path, &provider->folder);
    if (status != TALLY_OK) {
        free(provider);
        return status;
    }
    *out = provider;
    return TALLY_OK;
}

static tally_status_t folder_incarnation(struct quorum_provider *provider,
                                         int timeout_ms, uint64_t *incarnation)
{
    (void)timeout_ms;
    return replica_folder_incarnation(provider->folder, provider->params->peer,
                                      incarnation);
}

static tally_status_t folder_announce(struct quorum_provider *provider,
                                      int timeout_ms,
                                      const struct quorum_member *self)
{
    (void)timeout_ms;
    return replica_folder_tell(
        provider->folder,
        (struct replica_name){self->peer, 0, self->incarnation}, self->address,
        self->address_bytes);
}

static void tell(void *context, uint16_t peer, uint64_t incarnation,
                 const void *address, size_t bytes)
{
    const struct quorum_provider *provider = context;
    const struct quorum_member member = {peer, incarnation, address, bytes};

    provider->host->seen(provider->host->context, &member);
}

static tally_status_t folder_watch(struct quorum_provider *provider,
                                   int timeout_ms)
{
    (void)timeout_ms;
    replica_folder_look(provider->folder, provider->params->peers, tell,
                        provider);
    return TALLY_OK;
}

// Files stay: they keep the next incarnation above this one.
static void folder_close(struct quorum_provider *provider, int timeout_ms)
{
    (void)timeout_ms;
    replica_folder_close(provider->folder);
    free(provider);
}

const struct quorum_provider_ops quorum_folder = {
    .abi = QUORUM_PROVIDER_ABI,
    .name = "folder",
    .open = folder_open,
    .incarnation = folder_incarnation,
    .announce = folder_announce,
    .watch = folder_watch,
    .close = folder_close,
};

// SPDX-License-Identifier: BSD-3-Clause
// tally_open and tally_close: what belongs to a process, brought up in order.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bootstrap/bootstrap.h"
#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"
#include "core/park.h"
#include "core/processors.h"
#include "core/settings.h"
#include "core/struct_check.h"

static const char *environment_get(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

static tally_status_t find_identity(tally_t *tally,
                                    const struct identity_env *env,
                                    struct identity *identity)
{
    if (tally->host.allgather == NULL)
        return identity_find(env, identity);
    if (tally->host.world_size < 1 || tally->host.rank < 0 ||
        tally->host.rank >= tally->host.world_size)
        return core_fail(TALLY_ERR_INVALID,
                         "tally_host: rank %d of %d ranks is impossible",
                         (int)tally->host.rank, (int)tally->host.world_size);
    *identity = (struct identity){
        .rank = tally->host.rank,
        .world_size = tally->host.world_size,
        .source = "host program",
    };
    return TALLY_OK;
}

static tally_status_t rendezvous(tally_t *tally,
                                 const struct identity *identity)
{
    struct bootstrap_params params = {
        .identity = identity,
        .timeout_us =
            config_microseconds(tally->config, CONFIG_BOOTSTRAP_TIMEOUT),
        .abi = TALLY_ABI,
        .version = TALLY_VERSION_STRING,
        .log = &tally->log,
        .health = tally->health,
    };
    char settings[SETTINGS_BYTES];
    char *secret;
    tally_status_t status = settings_secret(tally->config, &secret);

    if (status != TALLY_OK)
        return status;
    settings_write(tally->config, settings);
    params.settings = settings;
    params.secret = secret;
    params.secret_bytes = secret != NULL ? strlen(secret) : 0;
    status = bootstrap_open(&params, &tally->exchange);
    if (status == TALLY_OK)
        bootstrap_interface(tally->exchange, &tally->transports->interface);
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
    return status;
}

static tally_status_t open_exchange(tally_t *tally,
                                    const struct identity *identity)
{
    tally_status_t status;

    if (tally->host.allgather != NULL) {
        status = exchange_host_open(tally->host.allgather, tally->host.context,
                                    tally->world_size, &tally->exchange);
        if (status != TALLY_OK)
            return status;
        return settings_compare(tally->config, tally->exchange,
                                tally->everybody, tally->world_size,
                                tally->rank);
    }
    if (tally->world_size == 1)
        return exchange_self_open(&tally->exchange);
    return rendezvous(tally, identity);
}

static tally_status_t open_device(tally_t *tally)
{
    int32_t local = tally->local_size > 0 ? tally->local_size : 1;
    int32_t automatic = tally->processors / local;
    struct device_params params = {
        .threads = (int32_t)config_integer(tally->config, CONFIG_HOST_THREADS),
        .isa = config_text(tally->config, CONFIG_HOST_ISA),
    };

    if (params.threads == 0)
        params.threads = automatic > 0 ? automatic : 1;
    tally->device_ops = &device_host_ops;
    return tally->device_ops->open(&params, &tally->device);
}

static tally_status_t open_progress(tally_t *tally)
{
    struct progress_params params = {
        .spin_us = config_integer(tally->config, CONFIG_SPIN_US),
        // Unknown (0): the host program's ranks may all be here.
        .oversubscribed =
            (tally->local_size > 0 ? tally->local_size : tally->world_size) >
            tally->processors,
    };

    return progress_create(&params, &tally->progress);
}

static void drop_transport(tally_t *tally,
                           const struct transports_opened *opened)
{
    if (opened->transport != NULL)
        progress_drop_transport(tally->progress, opened->transport);
}

static void close_all(tally_t *tally)
{
    if (!park_call_begins())
        return;
    // What is left of a transport's work is flushed by its close; nobody polls
    // it any more.
    for (int i = 0; tally->transports != NULL && i < tally->transports->count;
         i++)
        for (int way = 0; way < TRANSPORTS_WAYS; way++)
            drop_transport(tally, &tally->transports->entries[i].opened[way]);
    progress_free(tally->progress);
    transports_free(tally->transports);
    if (tally->cuda != NULL)
        device_cuda_ops.close(tally->cuda);
    if (tally->device != NULL)
        tally->device_ops->close(tally->device);
    if (tally->exchange != NULL)
        exchange_close(tally->exchange);
    health_free(tally->health);
    free(tally->everybody);
    config_free(tally->config);
    free(tally);
    park_call_ends();
}

static tally_status_t take_configuration(tally_t *tally,
                                         struct identity_env *env)
{
    bool own = tally->host.get_env == NULL;
    tally_status_t status;

    *env = (struct identity_env){
        .get = own ? environment_get : tally->host.get_env,
        .context = tally->host.context,
    };
    tally->log.write = tally->host.log;
    tally->log.context = tally->host.context;
    status = config_load(env, &tally->config);
    if (status != TALLY_OK)
        return status;
    tally->log.level = config_log_level(tally->config);
    // A host program's own look-up cannot be listed.
    return own ? config_check_names(tally->config, environ, &tally->log)
               : TALLY_OK;
}

static tally_status_t bring_up(tally_t *tally)
{
    struct identity_env env;
    struct identity identity;
    tally_status_t status;

    status = take_configuration(tally, &env);
    if (status != TALLY_OK)
        return status;
    status = find_identity(tally, &env, &identity);
    if (status != TALLY_OK)
        return status;
    tally->rank = identity.rank;
    tally->world_size = identity.world_size;
    tally->local_size = identity.local_size;
    tally->processors = processors_count();
    tally->log.rank = identity.world_size > 1 ? identity.rank : -1;
    memcpy(tally->launcher, identity.source, sizeof(tally->launcher));
    tally->everybody =
        calloc((size_t)tally->world_size, sizeof(*tally->everybody));
    if (tally->everybody == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)tally->world_size);
    for (int32_t i = 0; i < tally->world_size; i++)
        tally->everybody[i] = i;
    status = health_create(tally->world_size, &tally->health);
    if (status != TALLY_OK)
        return status;
    // What fails by itself comes before what waits for others.
    status = open_device(tally);
    if (status != TALLY_OK)
        return status;
    status = open_progress(tally);
    if (status != TALLY_OK)
        return status;
    status =
        transports_create(tally->config, &tally->log, tally->health,
                          tally->rank, tally->world_size, &tally->transports);
    if (status != TALLY_OK)
        return status;
    status = transports_load_named(tally->transports);
    if (status != TALLY_OK)
        return status;
    status = open_exchange(tally, &identity);
    if (status != TALLY_OK)
        return status;
    core_log(&tally->log, TALLY_LOG_INFO,
             "tally %s: rank %d of %d by %s, host kernels %s",
             TALLY_VERSION_STRING, (int)tally->rank, (int)tally->world_size,
             tally->launcher, device_host_isa(tally->device));
    return TALLY_OK;
}

tally_status_t tally_open(const tally_host_t *host, tally_t **out)
{
    tally_status_t status = TALLY_OK;
    tally_t *tally;

    if (out == NULL)
        return api_fail(NULL, "tally_open",
                        core_fail(TALLY_ERR_INVALID, "out is NULL"));
    tally = calloc(1, sizeof(*tally));
    if (tally == NULL)
        return api_fail(NULL, "tally_open",
                        core_fail(TALLY_ERR_MEMORY, "no memory"));
    if (host != NULL)
        status =
            struct_take("tally_host", host, &tally->host, sizeof(tally->host),
                        STRUCT_THROUGH(tally_host_t, context));
    if (status == TALLY_OK)
        status = bring_up(tally);
    if (status != TALLY_OK) {
        status = api_fail(&tally->log, "tally_open", status);
        close_all(tally);
        return status;
    }
    park_at_exit();
    *out = tally;
    return TALLY_OK;
}

tally_status_t tally_close(tally_t *tally)
{
    if (tally == NULL)
        return TALLY_OK;
    if (tally->group_count > 0)
        return api_fail(&tally->log, "tally_close",
                        core_fail(TALLY_ERR_BUSY,
                                  "%u groups must be freed first",
                                  (unsigned)tally->group_count));
    close_all(tally);
    return TALLY_OK;
}

tally_status_t tally_rank(const tally_t *tally, int32_t *rank,
                          int32_t *world_size)
{
    if (tally == NULL)
        return api_fail(NULL, "tally_rank",
                        core_fail(TALLY_ERR_INVALID, "tally is NULL"));
    if (rank != NULL)
        *rank = tally->rank;
    if (world_size != NULL)
        *world_size = tally->world_size;
    return TALLY_OK;
}

// SPDX-License-Identifier: BSD-3-Clause
// A witness: an acceptor without ranks and without a model.
#include <stdlib.h>

#include "core/api.h"
#include "core/error.h"
#include "core/park.h"
#include "core/replica_open.h"
#include "core/struct_check.h"

extern char **environ;

struct tally_witness {
    tally_host_t host;
    struct config *config;
    struct core_log log;
    struct health *health;
    struct transports *transports;
    struct replica_opened opened;
};

static const char *environment_get(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

static tally_status_t take_configuration(tally_witness_t *witness)
{
    bool own = witness->host.get_env == NULL;
    const struct identity_env env = {
        .get = own ? environment_get : witness->host.get_env,
        .context = witness->host.context,
    };

    witness->log = (struct core_log){
        .rank = -1,
        .write = witness->host.log,
        .context = witness->host.context,
    };
    tally_status_t status = config_load(&env, &witness->config);
    if (status != TALLY_OK)
        return status;
    witness->log.level = config_log_level(witness->config);
    return own ? config_check_names(witness->config, environ, &witness->log)
               : TALLY_OK;
}

// It has no trainer that could be told anything.
static void decided(void *context, const struct replica_outcome *outcome)
{
    (void)context;
    (void)outcome;
}

static tally_status_t bring_up(tally_witness_t *witness)
{
    struct replica_open_params params = {
        .log = &witness->log,
        .witness = true,
        .records = 1, // until it hears of another number
        .decided = decided,
    };
    tally_status_t status = take_configuration(witness);

    if (status != TALLY_OK)
        return status;
    const struct config *config = witness->config;
    params.config = config;
    params.peer = (uint16_t)config_integer(config, CONFIG_REPLICA);
    params.replicas = (uint16_t)config_integer(config, CONFIG_REPLICAS);
    params.witnesses = (uint16_t)config_integer(config, CONFIG_WITNESSES);
    params.minimum = (uint32_t)config_integer(config, CONFIG_REPLICA_MIN);
    status = health_create(1, &witness->health);
    if (status == TALLY_OK)
        status = transports_create(config, &witness->log, witness->health, 0, 1,
                                   &witness->transports);
    if (status != TALLY_OK)
        return status;
    params.transports = witness->transports;
    return replica_open_all(&params, &witness->opened);
}

static void release(tally_witness_t *witness)
{
    if (!park_call_begins())
        return;
    replica_close_all(&witness->opened);
    transports_free(witness->transports);
    health_free(witness->health);
    config_free(witness->config);
    free(witness);
    park_call_ends();
}

tally_status_t tally_witness_open(const tally_host_t *host,
                                  tally_witness_t **out)
{
    static const char function[] = "tally_witness_open";
    tally_status_t status = TALLY_OK;
    tally_witness_t *witness;

    if (out == NULL)
        return api_fail(NULL, function,
                        core_fail(TALLY_ERR_INVALID, "out is NULL"));
    witness = calloc(1, sizeof(*witness));
    if (witness == NULL)
        return api_fail(NULL, function,
                        core_fail(TALLY_ERR_MEMORY, "no memory"));
    if (host != NULL)
        status = struct_take("tally_host", host, &witness->host,
                             sizeof(witness->host),
                             STRUCT_THROUGH(tally_host_t, context));
    if (status == TALLY_OK)
        status = bring_up(witness);
    if (status != TALLY_OK) {
        status = api_fail(&witness->log, function, status);
        release(witness);
        return status;
    }
    *out = witness;
    return TALLY_OK;
}

tally_status_t tally_witness_close(tally_witness_t *witness)
{
    if (witness != NULL)
        release(witness);
    return TALLY_OK;
}

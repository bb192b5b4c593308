// SPDX-License-Identifier: BSD-3-Clause
// What there is and what was set, row by row, for tally_info and whoever shows
// a user the configuration.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"
#include "core/struct_check.h"

tally_status_t tally_config_row(const tally_t *tally, uint32_t index,
                                tally_config_row_t *given)
{
    static const char function[] = "tally_config_row";
    tally_config_row_t row = TALLY_INIT(tally_config_row_t);
    tally_status_t status =
        struct_check(function, given, STRUCT_THROUGH(tally_config_row_t, name));
    const char *value;

    if (status != TALLY_OK)
        return api_fail(NULL, function, status);
    if (index >= CONFIG_COUNT)
        return TALLY_NOT_YET;
    const struct config_row *from = &config_table[index];
    if (tally != NULL)
        value = tally->config->from_environment[index]
                    ? tally->config->text[index]
                    : NULL;
    else
        value = getenv(from->name);
    bool set = value != NULL && *value != '\0';
    row.job_wide = from->job_wide;
    row.name = from->name;
    row.type = from->type_text;
    row.preset = from->preset;
    row.doc = from->doc;
    row.value = !set ? from->preset : from->secret ? "(set)" : value;
    row.source = set ? "environment" : "default";
    struct_give(given, &row, sizeof(row));
    return TALLY_OK;
}

// The strings of a row live in the thread until its next call.
static _Thread_local struct {
    char name[256];
    char path[4096];
    char version[128];
    char reason[TRANSPORTS_REASON_BYTES];
} shown;

static void show_entry(const struct transports_entry *entry,
                       tally_transport_row_t *row)
{
    const struct transport_backend *backend = entry->backend;

    snprintf(shown.name, sizeof(shown.name), "%s",
             backend != NULL ? backend->ops->name : entry->name);
    snprintf(shown.path, sizeof(shown.path), "%s",
             backend != NULL ? backend->path : "");
    snprintf(shown.version, sizeof(shown.version), "%s",
             backend != NULL ? backend->version : "");
    snprintf(shown.reason, sizeof(shown.reason), "%s",
             backend != NULL ? ""
             : entry->tried  ? entry->reason
                             : "not needed so far");
    row->loaded = backend != NULL;
    row->name = shown.name;
    row->path = shown.path;
    row->version = shown.version;
    row->reason = shown.reason;
}

static const char *environment_get(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

// Without a tally_t: what TALLY_TRANSPORT would give, and all that is known.
static tally_status_t look_now(uint32_t index, tally_transport_row_t *row)
{
    const struct identity_env env = {.get = environment_get};
    struct transports *transports;
    struct config *config;
    tally_status_t status = config_load(&env, &config);

    if (status != TALLY_OK)
        return status;
    status = transports_create(config, NULL, NULL, 0, 1, &transports);
    if (status != TALLY_OK)
        goto free_config;
    transports_add_known(transports);
    if (index >= (uint32_t)transports->count) {
        status = TALLY_NOT_YET;
        goto free_transports;
    }
    transports_try(transports, &transports->entries[index]);
    show_entry(&transports->entries[index], row);

free_transports:
    transports_free(transports);
free_config:
    config_free(config);
    return status;
}

tally_status_t tally_transport_row(const tally_t *tally, uint32_t index,
                                   tally_transport_row_t *given)
{
    static const char function[] = "tally_transport_row";
    tally_transport_row_t row = TALLY_INIT(tally_transport_row_t);
    tally_status_t status = struct_check(
        function, given, STRUCT_THROUGH(tally_transport_row_t, name));

    if (status != TALLY_OK)
        return api_fail(NULL, function, status);
    if (tally == NULL) {
        status = look_now(index, &row);
        if (status < 0)
            return api_fail(NULL, function, status);
    } else if (index >= (uint32_t)tally->transports->count) {
        status = TALLY_NOT_YET;
    } else {
        show_entry(&tally->transports->entries[index], &row);
    }
    if (status == TALLY_OK)
        struct_give(given, &row, sizeof(row));
    return status;
}

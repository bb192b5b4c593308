// SPDX-License-Identifier: BSD-3-Clause
// tally_info's JSON: one object, a member for each section.
#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <tally/plugin.h>
#include <unistd.h>

#include "info/info.h"

static void write_version(struct json *json)
{
    json_string(json, "version", tally_version());
    json_integer(json, "abi", tallyPlugin_v1.abi);
    json_object_open(json, "build");
    json_string(json, "compiler", info_build.compiler);
    json_string(json, "flags", info_build.flags);
    json_array_open(json, "host_isas");
    for (int i = 0; info_build.host_isas[i] != NULL; i++)
        json_string(json, NULL, info_build.host_isas[i]);
    json_array_close(json);
    json_bool(json, "ucx", info_build.ucx);
    json_bool(json, "ofi", info_build.ofi);
    json_bool(json, "nccl", info_build.nccl);
    json_bool(json, "secret", info_build.secret);
    json_object_close(json);
}

static void write_config(struct json *json, bool *failed)
{
    tally_config_row_t row;

    json_array_open(json, "config");
    for (uint32_t i = 0; info_config_row(i, &row, failed); i++) {
        json_object_open(json, NULL);
        json_string(json, "name", row.name);
        json_string(json, "type", row.type);
        json_string(json, "default", row.preset);
        json_string(json, "value", row.value);
        json_string(json, "source", row.source);
        json_bool(json, "job_wide", row.job_wide != 0);
        json_string(json, "doc", row.doc);
        json_object_close(json);
    }
    json_array_close(json);
}

static void write_unknown(struct json *json)
{
    char *const *at = environ;

    json_array_open(json, "unknown");
    while ((at = info_unknown_next(at)) != NULL) {
        char *name = strndup(*at, strcspn(*at, "="));
        json_string(json, NULL, name);
        free(name);
        at++;
    }
    json_array_close(json);
}

static void write_transports(struct json *json, bool *failed)
{
    tally_transport_row_t row;

    json_array_open(json, "transports");
    for (uint32_t i = 0; info_transport_row(i, &row, failed); i++) {
        json_object_open(json, NULL);
        json_string(json, "name", row.name);
        json_bool(json, "loaded", row.loaded != 0);
        json_string(json, "path", row.path);
        json_string(json, "version", row.version);
        json_string(json, "reason", row.reason);
        json_object_close(json);
    }
    json_array_close(json);
}

bool info_json_write(FILE *out, unsigned sections)
{
    struct json json = {.out = out};
    bool failed = false;

    json_object_open(&json, NULL);
    if (sections & INFO_VERSION)
        write_version(&json);
    if (sections & INFO_CONFIG) {
        write_config(&json, &failed);
        write_unknown(&json);
    }
    if (sections & INFO_TRANSPORTS)
        write_transports(&json, &failed);
    json_object_close(&json);
    json_end(&json);
    return !failed;
}

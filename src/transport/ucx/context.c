// SPDX-License-Identifier: BSD-3-Clause
// UCX's configuration and context for Tally's own worker: what is set, and why.
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/ucx/status.h"
#include "transport/ucx/tls.h"
#include "transport/ucx/ucx.h"

// What the operator may set, by Tally's name and by UCX's.
static const struct {
    const char *name;
    const char *key;
} rows[] = {
    {"TALLY_UCX_TLS", "TLS"},
    {"TALLY_UCX_NET_DEVICES", "NET_DEVICES"},
};

#define NET_DEVICES_ROW 1

static const char *row_value(const tally_transport_host_t *host, size_t row)
{
    const char *value = host->config(host->context, rows[row].name);

    return value != NULL ? value : "";
}

static tally_status_t apply_rows(const tally_transport_host_t *host,
                                 const struct ucx_library *library,
                                 ucp_config_t *config)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *value = row_value(host, i);
        if (value[0] == '\0')
            continue;
        ucs_status_t ucx = library->config_modify(config, rows[i].key, value);
        if (ucx != UCS_OK)
            return ucx_fail(host, TALLY_ERR_CONFIG, "UCX refuses %s=%s: %s",
                            rows[i].name, value, library->status_string(ucx));
    }
    return TALLY_OK;
}

// What core says of the interface that leads to others, unless the operator
// says otherwise. Of two families UCX would take IPv4, which may lead nowhere.
// Until 1.16 a key of a transport was known without the transport's name only.
static tally_status_t apply_interface(const tally_transport_host_t *host,
                                      const tally_transport_params_t *params,
                                      const struct ucx_library *library,
                                      ucp_config_t *config)
{
    bool told = params->size >= offsetof(tally_transport_params_t, address) +
                                    sizeof(params->address) &&
                params->interface != NULL && params->address != NULL;

    if (!told || row_value(host, NET_DEVICES_ROW)[0] != '\0')
        return TALLY_OK;
    ucs_status_t ucx = library->config_modify(config, rows[NET_DEVICES_ROW].key,
                                              params->interface);
    if (ucx != UCS_OK)
        return ucx_fail(host, TALLY_ERR_TRANSPORT, "UCX refuses %s=%s: %s",
                        rows[NET_DEVICES_ROW].key, params->interface,
                        library->status_string(ucx));
    if (strchr(params->address, ':') != NULL)
        library->config_modify(
            config, library->minor > 16 ? "TCP_AF_PRIO" : "AF_PRIO", "inet6");
    return TALLY_OK;
}

// Whether the transports in force, by a row or by UCX's own variables, may be
// in shared memory. UCX tells its configuration as text only.
static bool has_shared_memory(const struct ucx_library *library,
                              const ucp_config_t *config)
{
    static const char line[] = "\nUCX_TLS=";
    char *text = NULL;
    size_t bytes;
    bool result = false;
    FILE *stream = open_memstream(&text, &bytes);

    if (stream == NULL)
        return false;
    fputc('\n', stream); // the line may be the first
    library->config_print(config, stream, NULL, UCS_CONFIG_PRINT_CONFIG);
    fclose(stream);
    char *tls = text != NULL ? strstr(text, line) : NULL;
    if (tls != NULL) {
        tls += sizeof(line) - 1;
        tls[strcspn(tls, "\n")] = '\0';
        result = ucx_tls_has_shared_memory(tls);
    }
    free(text);
    return result;
}

static void apply_settings(const struct ucx_library *library,
                           ucp_config_t *config)
{
    // How soon a killed peer is noticed in shared memory; 20 s otherwise.
    library->config_modify(config, "KEEPALIVE_INTERVAL", "1s");
    // Without it shared memory has no peer error handling, and UCX silently
    // falls back to tcp. Where nobody reads it, UCX warns: so only then.
    if (has_shared_memory(library, config))
        library->config_modify(config, "MM_ERROR_HANDLING", "y");
}

tally_status_t ucx_context_open(const tally_transport_host_t *host,
                                const tally_transport_params_t *given,
                                const struct ucx_library *library,
                                ucp_context_h *out)
{
    const ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_REQUEST_SIZE |
                      UCP_PARAM_FIELD_NAME,
        .features = UCP_FEATURE_TAG | UCP_FEATURE_WAKEUP,
        .request_size = sizeof(struct ucx_pending),
        .name = "tally",
    };
    ucp_config_t *config;
    ucs_status_t ucx;
    tally_status_t status;

    ucx = library->config_read(NULL, NULL, &config);
    if (ucx != UCS_OK)
        return ucx_fail(host, TALLY_ERR_TRANSPORT,
                        "UCX cannot read its configuration: %s",
                        library->status_string(ucx));
    status = apply_rows(host, library, config);
    if (status == TALLY_OK)
        status = apply_interface(host, given, library, config);
    if (status != TALLY_OK)
        goto release_config;
    apply_settings(library, config);
    ucx = library->init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config,
                                out);
    if (ucx != UCS_OK)
        status = ucx_fail(host, TALLY_ERR_TRANSPORT,
                          "UCX cannot start (%s=\"%s\", %s=\"%s\"): %s",
                          rows[0].name, row_value(host, 0), rows[1].name,
                          row_value(host, 1), library->status_string(ucx));

release_config:
    library->config_release(config);
    return status;
}

// SPDX-License-Identifier: BSD-3-Clause
// Which devices UCX would use, for people. UCX tells its resources as text
// only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/ucx/status.h"
#include "transport/ucx/ucx.h"

// "#      resource 2  :  md 1  dev 2  flags -- tcp/eth0"
#define RESOURCE "resource"
#define NAME_LEAD "-- "

// Writes "tcp eth0\n" for each resource, as long as there is room.
static void take_resources(char *info, char *text, size_t bytes)
{
    size_t used = 0;
    char *rest;

    text[0] = '\0';
    for (char *line = strtok_r(info, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *name = strstr(line, NAME_LEAD);
        if (name == NULL || strstr(line, RESOURCE) == NULL)
            continue;
        name += strlen(NAME_LEAD);
        char *slash = strchr(name, '/');
        if (slash != NULL)
            *slash = ' ';
        if (used + strlen(name) + 2 > bytes)
            return;
        used += (size_t)snprintf(text + used, bytes - used, "%s\n", name);
    }
}

tally_status_t ucx_devices(const tally_transport_host_t *host, char *text,
                           size_t bytes)
{
    const tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
    };
    struct ucx_library library;
    ucp_context_h context;
    size_t length;
    char *info = NULL;
    FILE *stream;
    tally_status_t status = ucx_library_open(host, &library);

    if (status != TALLY_OK)
        return status;
    status = ucx_context_open(host, &params, &library, &context);
    if (status != TALLY_OK)
        goto close_library;
    stream = open_memstream(&info, &length);
    if (stream == NULL) {
        status = ucx_fail(host, TALLY_ERR_MEMORY, "no memory for devices");
        goto cleanup_context;
    }
    library.context_print_info(context, stream);
    fclose(stream);
    if (info != NULL)
        take_resources(info, text, bytes);
    free(info);

cleanup_context:
    library.cleanup(context);
close_library:
    ucx_library_close(&library);
    return status;
}

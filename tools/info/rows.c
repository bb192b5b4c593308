// SPDX-License-Identifier: BSD-3-Clause
// Reads the library's tables, and how it was built.
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "info/info.h"

static const char *const host_isas[] = {
    "generic",
#ifdef HAVE_AVX2
    "avx2",
#endif
#ifdef HAVE_AVX512
    "avx512",
#endif
    NULL,
};

const struct info_build info_build = {
    .compiler = TALLY_BUILD_COMPILER " (" __VERSION__ ")",
    .flags = TALLY_BUILD_FLAGS,
    .host_isas = host_isas,
#ifdef HAVE_UCX
    .ucx = true,
#endif
#ifdef HAVE_OFI
    .ofi = true,
#endif
#ifdef HAVE_NCCL
    .nccl = true,
#endif
#ifdef HAVE_CRYPTO
    .secret = true,
#endif
};

static bool took(tally_status_t status, bool *failed)
{
    if (status < 0) {
        fprintf(stderr, "tally_info: %s\n", tally_last_error());
        *failed = true;
    }
    return status == TALLY_OK;
}

bool info_config_row(uint32_t index, tally_config_row_t *row, bool *failed)
{
    *row = (tally_config_row_t)TALLY_INIT(tally_config_row_t);
    return took(tally_config_row(NULL, index, row), failed);
}

bool info_transport_row(uint32_t index, tally_transport_row_t *row,
                        bool *failed)
{
    *row = (tally_transport_row_t)TALLY_INIT(tally_transport_row_t);
    return took(tally_transport_row(NULL, index, row), failed);
}

static bool is_known(const char *entry)
{
    size_t bytes = strcspn(entry, "=");
    tally_config_row_t row;
    bool failed = false;

    for (uint32_t i = 0; info_config_row(i, &row, &failed); i++)
        if (strlen(row.name) == bytes && strncmp(row.name, entry, bytes) == 0)
            return true;
    return false;
}

char *const *info_unknown_next(char *const *at)
{
    static const char prefix[] = "TALLY_";

    for (; *at != NULL; at++)
        if (strncmp(*at, prefix, sizeof(prefix) - 1) == 0 && !is_known(*at))
            return at;
    return NULL;
}

// SPDX-License-Identifier: BSD-3-Clause
// See tls.h.
#include "transport/ucx/tls.h"

#include <stddef.h>
#include <string.h>

// The names that stand for all of a machine's shared memory, and then those of
// single transports.
static const char *const groups[] = {"all", "shm", "sm", "mm"};
static const char *const singles[] = {"posix", "sysv", "xpmem"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_among(const char *name, size_t bytes, const char *const *names,
                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == bytes && strncmp(names[i], name, bytes) == 0)
            return true;
    return false;
}

bool ucx_tls_has_shared_memory(const char *tls)
{
    bool listed_are_out = *tls == '^';

    tls += listed_are_out;
    while (*tls != '\0') {
        size_t bytes = strcspn(tls, ",");
        // "\posix" is posix by its own name, "ud:aux" is ud for wire-up only.
        const char *name = tls + (*tls == '\\');
        size_t length = strcspn(name, ",:");
        if (is_among(name, length, groups, COUNT(groups)))
            return !listed_are_out;
        if (!listed_are_out && is_among(name, length, singles, COUNT(singles)))
            return true;
        tls += bytes + (tls[bytes] == ',');
    }
    return listed_are_out;
}

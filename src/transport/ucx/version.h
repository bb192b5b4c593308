// SPDX-License-Identifier: BSD-3-Clause
// Which UCX serves a backend that was built against which.
#ifndef TRANSPORT_UCX_VERSION_H
#define TRANSPORT_UCX_VERSION_H

#include <stdbool.h>

// The API of one major version only grows.
static inline bool ucx_version_fits(unsigned built_major, unsigned built_minor,
                                    unsigned major, unsigned minor)
{
    return major == built_major && minor >= built_minor;
}

#endif

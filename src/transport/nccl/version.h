// SPDX-License-Identifier: BSD-3-Clause
// Which NCCL serves a backend that was built against which.
#ifndef TRANSPORT_NCCL_VERSION_H
#define TRANSPORT_NCCL_VERSION_H

#include <stdbool.h>

// The oldest whose communicators that do not block are sound.
#define NCCL_OLDEST 21800

static inline int nccl_version_major(int code)
{
    return code / 10000;
}

// The API of one major version only grows, and the one struct that is handed
// over says its own size: older than built against is as good as newer.
static inline bool nccl_version_fits(int built, int loaded)
{
    return nccl_version_major(loaded) == nccl_version_major(built) &&
           loaded >= NCCL_OLDEST;
}

#endif

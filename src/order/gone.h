// SPDX-License-Identifier: BSD-3-Clause
// How long a reduction goes on after a rank is gone, and how that is told.
#ifndef ORDER_GONE_H
#define ORDER_GONE_H

#include "core/health.h"

// What a rank sent before it went may still arrive; this long it is waited for.
#define GONE_GRACE_US ((int64_t)500000)
// How often processes of the node are looked at.
#define GONE_WATCH_INTERVAL_US ((int64_t)5000)

static inline const char *gone_how(enum health_state state)
{
    switch (state) {
    case HEALTH_LEFT:
        return "left (tally_close) in mid-step";
    case HEALTH_LOST:
        return "was lost by the transport in mid-step";
    default:
        return "died in mid-step";
    }
}

#endif

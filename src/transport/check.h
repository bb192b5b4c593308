// SPDX-License-Identifier: BSD-3-Clause
// Whether a backend's table of operations can be used. It loads nothing.
#ifndef TRANSPORT_CHECK_H
#define TRANSPORT_CHECK_H

#include <tally/transport.h>

// Whether the table is long enough to hold `member`.
#define TRANSPORT_HAS(ops, member)                                             \
    ((ops)->size >=                                                            \
     offsetof(tally_transport_ops_t, member) + sizeof((ops)->member))

// name: what the backend must call itself; NULL for anything. path: for the
// sentence. Errors: ABI (newer than ours, older than we serve), TRANSPORT (a
// table that is short, has holes, or has another name).
tally_status_t transport_check(const tally_transport_ops_t *ops,
                               const char *name, const char *path);

#endif

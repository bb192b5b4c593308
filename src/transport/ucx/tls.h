// SPDX-License-Identifier: BSD-3-Clause
// What a list of UCX transports (UCX_TLS) asks for.
#ifndef TRANSPORT_UCX_TLS_H
#define TRANSPORT_UCX_TLS_H

#include <stdbool.h>

// Whether shared memory may be used: "all", "^tcp", "posix,tcp", but not "tcp".
bool ucx_tls_has_shared_memory(const char *tls);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Loads UCX without letting it take over the process.
#ifndef TRANSPORT_UCX_LOAD_QUIETLY_H
#define TRANSPORT_UCX_LOAD_QUIETLY_H

#include <tally/transport.h>

// dlopen of libucp.so.0; NULL with dlerror if that fails. Once loaded, UCX
// stays in the process: it is not written to be unloaded.
void *ucx_load_quietly(const tally_transport_host_t *host);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Finds, loads and checks a transport backend. It opens no worker and chooses
// nothing.
#ifndef TRANSPORT_LOAD_H
#define TRANSPORT_LOAD_H

#include <tally/transport.h>

#define TRANSPORT_PATH_BYTES 4096

struct transport_backend {
    void *library; // of dlopen
    const tally_transport_ops_t *ops;
    char version[128]; // of the library in use, else of the backend
    char path[TRANSPORT_PATH_BYTES];
};

// name: "ucx" for libtally-ucx.so, or a path (it contains '/'), taken as it is.
// A name is looked for in the folders of plugin_path (colon-separated, "" or
// NULL for none), then in the folder of the library or program that holds this
// code. The first folder that has such a file decides.
// Only the named file is loaded, RTLD_NOW | RTLD_LOCAL. The host is borrowed
// until unload.
// Errors, each with a sentence that names the file, both ABIs, both versions or
// the folders looked in: TRANSPORT (not found, cannot be loaded, no
// tallyTransport_query, its library does not fit), ABI.
tally_status_t transport_load(const char *name, const char *plugin_path,
                              const tally_transport_host_t *host,
                              struct transport_backend **out);
// Where the file libtally-NAME.so is, as above. Errors: TRANSPORT.
tally_status_t transport_find(const char *name, const char *plugin_path,
                              char path[TRANSPORT_PATH_BYTES]);
void transport_unload(struct transport_backend *backend);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// libfabric itself, loaded when it is needed. libtally-ofi.so does not link it,
// so that a libfabric that does not fit is refused with both versions named
// instead of with the first symbol it lacks.
#ifndef TRANSPORT_OFI_LIBRARY_H
#define TRANSPORT_OFI_LIBRARY_H

#include <rdma/fabric.h>
#include <tally/transport.h>

// The rest of libfabric is reached through the objects that these hand out.
struct ofi_library {
    void *handle; // of dlopen
    __typeof__(fi_dupinfo) *dupinfo;
    __typeof__(fi_fabric) *fabric;
    __typeof__(fi_freeinfo) *freeinfo;
    __typeof__(fi_getinfo) *getinfo;
    __typeof__(fi_strerror) *strerror;
};

// Errors: TRANSPORT (not there, of a version that does not fit, or lacking a
// symbol).
tally_status_t ofi_library_open(const tally_transport_host_t *host,
                                struct ofi_library *out);
void ofi_library_close(struct ofi_library *library);

// Writes "libfabric 1.17": what is loaded.
void ofi_library_version(char *text, size_t bytes);

#endif

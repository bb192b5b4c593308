// SPDX-License-Identifier: BSD-3-Clause
// Which libfabric serves a backend that was built against which.
#ifndef TRANSPORT_OFI_VERSION_H
#define TRANSPORT_OFI_VERSION_H

#include <rdma/fabric.h>
#include <stdbool.h>
#include <stdint.h>

// What is asked for in fi_getinfo: the structs are those of this API, whatever
// newer library serves them.
#define OFI_API FI_VERSION(1, 9)

// One soname, libfabric.so.1, through all versions: it only grows.
static inline bool ofi_version_fits(uint32_t built, uint32_t loaded)
{
    return FI_VERSION_GE(loaded, built);
}

#endif

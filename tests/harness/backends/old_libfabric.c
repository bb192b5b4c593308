// SPDX-License-Identifier: BSD-3-Clause
// Not a backend: a library with the soname of libfabric, as a process may have
// loaded one already, and with a version too old for libtally-ofi.so.
#include <tally/tally.h>

TALLY_API uint32_t fi_version(void);

uint32_t fi_version(void)
{
    return 1u << 16 | 8u;
}

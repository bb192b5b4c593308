// SPDX-License-Identifier: BSD-3-Clause
// Not a backend: a library with the soname of UCX, as a process may have loaded
// one already, and with a version that is too old for libtally-ucx.so.
#include <tally/tally.h>

TALLY_API void ucp_get_version(unsigned *major, unsigned *minor,
                               unsigned *release);

void ucp_get_version(unsigned *major, unsigned *minor, unsigned *release)
{
    *major = 1;
    *minor = 9;
    *release = 0;
}

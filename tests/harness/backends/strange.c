// SPDX-License-Identifier: BSD-3-Clause
// A test backend that is none: a library without tallyTransport_query.
#include <tally/tally.h>

TALLY_API int strange_thing(void);

int strange_thing(void)
{
    return 1;
}

// SPDX-License-Identifier: BSD-3-Clause
// How public functions end when they fail: the sentence gets the function's
// name and is logged, once.
#ifndef CORE_API_H
#define CORE_API_H

#include "core/log.h"

// Returns `status`. log: NULL where none is known.
tally_status_t api_fail(const struct core_log *log, const char *function,
                        tally_status_t status);

#endif

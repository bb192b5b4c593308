// SPDX-License-Identifier: BSD-3-Clause
// What must be equal at all ranks of a job, and the job's secret.
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include "bootstrap/exchange.h"
#include "core/config.h"

#define SETTINGS_BYTES 4096

// The job-wide rows as lines "NAME=value\n", for the rendezvous to compare.
void settings_write(const struct config *config, char text[SETTINGS_BYTES]);

// The comparison where the host program brings the exchange. Collective.
tally_status_t settings_compare(const struct config *config,
                                struct exchange *exchange, const int32_t *ranks,
                                int32_t count, int32_t index);

// TALLY_SECRET, or the content of TALLY_SECRET_FILE without the last newline;
// NULL if neither is set. The caller frees it.
tally_status_t settings_secret(const struct config *config, char **out);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Lines for people. It formats and filters; it does not decide what is an
// error.
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <tally/tally.h>

struct core_log {
    tally_log_level_t level; // lines above it are dropped
    int32_t rank;            // for the prefix on stderr; -1: not known yet
    void (*write)(void *context, tally_log_level_t level, const char *line);
    void *context;
};

// Any thread. log: NULL for nothing.
void core_log(const struct core_log *log, tally_log_level_t level,
              const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

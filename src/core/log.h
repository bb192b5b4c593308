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

// Any thread. log: NULL for nothing. Between hold and release of the thread, the
// line is kept for release.
void core_log(const struct core_log *log, tally_log_level_t level,
              const char *format, ...) __attribute__((format(printf, 3, 4)));

// For who takes a lock that other threads wait for: the host's log callback may
// need a lock of its own (an interpreter's), whose holder waits for ours. So
// lines of this thread are kept from hold until release, which is called when
// the lock is free again. Pairs may nest.
void core_log_hold(void);
void core_log_release(void);

#endif

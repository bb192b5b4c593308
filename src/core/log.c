// SPDX-License-Identifier: BSD-3-Clause
// See log.h.
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 1200

static const char *const level_name[] = {"error", "warn", "info", "debug"};

void core_log(const struct core_log *log, tally_log_level_t level,
              const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;

    if (log == NULL || level > log->level)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (log->write != NULL)
        log->write(log->context, level, line);
    else if (log->rank >= 0)
        fprintf(stderr, "tally[%d] %s: %s\n", (int)log->rank, level_name[level],
                line);
    else
        fprintf(stderr, "tally %s: %s\n", level_name[level], line);
}

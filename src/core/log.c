// SPDX-License-Identifier: BSD-3-Clause
// See log.h.
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/park.h"

#define LINE_BYTES 1200

static const char *const level_name[] = {"error", "warn", "info", "debug"};

struct held_line {
    struct held_line *next;
    const struct core_log *log;
    tally_log_level_t level;
    char text[LINE_BYTES];
};

static _Thread_local struct {
    int depth;
    struct held_line *lines; // the last one first
} held;

static void emit(const struct core_log *log, tally_log_level_t level,
                 const char *line)
{
    if (park_silences())
        return; // the host program may be half gone
    if (log->write != NULL)
        log->write(log->context, level, line);
    else if (log->rank >= 0)
        fprintf(stderr, "tally[%d] %s: %s\n", (int)log->rank, level_name[level],
                line);
    else
        fprintf(stderr, "tally %s: %s\n", level_name[level], line);
}

void core_log(const struct core_log *log, tally_log_level_t level,
              const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;

    if (log == NULL || level > log->level)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (held.depth == 0) {
        emit(log, level, text);
        return;
    }
    struct held_line *line = malloc(sizeof(*line));
    if (line == NULL)
        return; // better no line than a deadlock
    line->next = held.lines;
    line->log = log;
    line->level = level;
    memcpy(line->text, text, sizeof(text));
    held.lines = line;
}

void core_log_hold(void)
{
    held.depth++;
}

void core_log_release(void)
{
    struct held_line *in_order = NULL;

    if (--held.depth > 0)
        return;
    while (held.lines != NULL) {
        struct held_line *line = held.lines;

        held.lines = line->next;
        line->next = in_order;
        in_order = line;
    }
    while (in_order != NULL) {
        struct held_line *line = in_order;

        in_order = line->next;
        emit(line->log, line->level, line->text);
        free(line);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
// See note.h.
#include "doctor/facts/note.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void note_add(char *text, size_t bytes, const char *format, ...)
{
    size_t used = strnlen(text, bytes);
    va_list arguments;

    if (used + 1 >= bytes)
        return;
    va_start(arguments, format);
    int length = vsnprintf(text + used, bytes - used, format, arguments);
    va_end(arguments);
    if (length < 0 || used + (size_t)length + 1 >= bytes) {
        text[used] = '\0';
        return;
    }
    for (char *at = text + used; *at != '\0'; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    memcpy(text + used + length, "\n", 2);
}

bool note_next(const char **at, char *line, size_t bytes)
{
    size_t length = strcspn(*at, "\n");

    if (**at == '\0')
        return false;
    snprintf(line, bytes, "%.*s", (int)length, *at);
    *at += length + ((*at)[length] == '\n');
    return true;
}

// SPDX-License-Identifier: BSD-3-Clause
// See fail.h.
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

bool trainer_fail(const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fprintf(stderr, "trainer: %s\n", line); // one write: ranks share stderr
    return false;
}

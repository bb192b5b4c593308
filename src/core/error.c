// SPDX-License-Identifier: BSD-3-Clause
// See error.h.
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SENTENCE_BYTES 1024

static _Thread_local char sentence[SENTENCE_BYTES];

// In parentheses for the analyzer, to which it is a macro too.
tally_status_t(core_fail)(tally_status_t status, const char *format, ...)
{
    char text[SENTENCE_BYTES]; // an argument may be the sentence before
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    memcpy(sentence, text, sizeof(sentence));
    return status;
}

tally_status_t core_fail_within(tally_status_t status, const char *format, ...)
{
    char text[SENTENCE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    int used = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof(text))
        snprintf(text + used, sizeof(text) - (size_t)used, "%s", sentence);
    memcpy(sentence, text, sizeof(sentence));
    return status;
}

const char *core_error_text(void)
{
    return sentence;
}

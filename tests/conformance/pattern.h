// SPDX-License-Identifier: BSD-3-Clause
// Bytes that tell which message they belong to, and where in it.
#ifndef CONFORMANCE_PATTERN_H
#define CONFORMANCE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

static inline unsigned char pattern_byte(size_t at, unsigned message)
{
    return (unsigned char)((at * 131 + (at >> 8) + message * 29 + 1) & 0xff);
}

static inline void pattern_fill(unsigned char *buffer, size_t bytes,
                                unsigned message)
{
    for (size_t i = 0; i < bytes; i++)
        buffer[i] = pattern_byte(i, message);
}

static inline bool pattern_holds(const unsigned char *buffer, size_t bytes,
                                 unsigned message)
{
    for (size_t i = 0; i < bytes; i++)
        if (buffer[i] != pattern_byte(i, message))
            return false;
    return true;
}

#endif

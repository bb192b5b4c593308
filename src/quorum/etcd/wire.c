// SPDX-License-Identifier: BSD-3-Clause
// See wire.h.
#include "quorum/etcd/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *wire_bytes(const void *bytes, size_t length)
{
    const uint8_t *from = bytes;
    size_t chars = (length + 2) / 3 * 4;
    char *text = malloc(chars + 1);
    char *at = text;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t word = (uint32_t)from[i] << 16;
        if (left > 1)
            word |= (uint32_t)from[i + 1] << 8;
        if (left > 2)
            word |= from[i + 2];
        *at++ = digits[word >> 18];
        *at++ = digits[word >> 12 & 63];
        *at++ = left > 1 ? digits[word >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[word & 63] : '=';
    }
    json_t *string = json_stringn(text, chars);
    free(text);
    return string;
}

json_t *wire_number(uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, number);
    return json_string(text);
}

bool wire_take_bytes(const json_t *object, const char *key, void *bytes,
                     size_t room, size_t *length)
{
    const json_t *member = json_object_get(object, key);
    const char *text = json_string_value(member);
    size_t chars = json_string_length(member);
    uint8_t *to = bytes;

    *length = 0;
    if (member == NULL)
        return true;
    if (text == NULL || chars % 4 != 0)
        return false;
    while (chars > 0 && text[chars - 1] == '=')
        chars--;
    if (chars % 4 == 1 || chars / 4 * 3 + chars % 4 > room)
        return false;
    uint32_t word = 0;
    for (size_t i = 0; i < chars; i++) {
        const char *digit = memchr(digits, text[i], sizeof(digits) - 1);
        if (digit == NULL)
            return false;
        word = word << 6 | (uint32_t)(digit - digits);
        // Bits of every digit but the first of four complete a byte.
        if (i % 4 != 0)
            to[(*length)++] = (uint8_t)(word >> (6 - i % 4 * 2));
    }
    return true;
}

bool wire_take_number(const json_t *object, const char *key, uint64_t *number)
{
    const json_t *member = json_object_get(object, key);
    const char *text = json_string_value(member);
    char *end;

    *number = 0;
    if (member == NULL)
        return true;
    if (json_is_integer(member) && json_integer_value(member) >= 0) {
        *number = (uint64_t)json_integer_value(member);
        return true;
    }
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

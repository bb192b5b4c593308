// SPDX-License-Identifier: BSD-3-Clause
// See pack.h. Again and again: how many zeroes, how many bytes after them, and
// these; both numbers of 16 bits, the lower byte first.
#include "doctor/facts/pack.h"

#include <string.h>

#define HEAD_BYTES 4
#define RUN_MAX 0xffff

static size_t zeroes_at(const uint8_t *from, size_t bytes)
{
    size_t count = 0;

    while (count < bytes && count < RUN_MAX && from[count] == 0)
        count++;
    return count;
}

// Up to zeroes that are worth a head of their own.
static size_t others_at(const uint8_t *from, size_t bytes)
{
    size_t count = 0;

    while (count < bytes && count < RUN_MAX &&
           zeroes_at(from + count, bytes - count) < HEAD_BYTES)
        count++;
    return count;
}

static void put(uint8_t *out, size_t number)
{
    out[0] = (uint8_t)(number & 0xff);
    out[1] = (uint8_t)(number >> 8);
}

static size_t take(const uint8_t *in)
{
    return in[0] | (size_t)in[1] << 8;
}

size_t pack_write(const void *memory, size_t bytes, uint8_t *out)
{
    const uint8_t *from = memory;
    size_t used = 0;

    for (size_t at = 0; at < bytes;) {
        size_t zeroes = zeroes_at(from + at, bytes - at);
        size_t others = others_at(from + at + zeroes, bytes - at - zeroes);

        put(out + used, zeroes);
        put(out + used + 2, others);
        memcpy(out + used + HEAD_BYTES, from + at + zeroes, others);
        used += HEAD_BYTES + others;
        at += zeroes + others;
    }
    return used;
}

bool pack_read(const uint8_t *in, size_t room, void *memory, size_t bytes)
{
    uint8_t *out = memory;
    size_t at = 0;

    while (at < bytes) {
        if (room < HEAD_BYTES)
            return false;
        size_t zeroes = take(in);
        size_t others = take(in + 2);

        if (zeroes + others == 0 || zeroes + others > bytes - at ||
            others > room - HEAD_BYTES)
            return false;
        memset(out + at, 0, zeroes);
        memcpy(out + at + zeroes, in + HEAD_BYTES, others);
        at += zeroes + others;
        in += HEAD_BYTES + others;
        room -= HEAD_BYTES + others;
    }
    return true;
}

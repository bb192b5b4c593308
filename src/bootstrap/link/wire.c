// SPDX-License-Identifier: BSD-3-Clause
// See wire.h. A writer and a reader of fields; each frame names its fields
// once for either.
#include "bootstrap/link/wire.h"

#include <string.h>

#define MAGIC_0 'T'
#define MAGIC_1 'y'

// Both ways through a body. Writing goes on past the room, counting; reading
// stops being `good` past the end.
struct cursor {
    uint8_t *out; // NULL: reading
    const uint8_t *in;
    size_t room; // bytes of `out` or `in`
    size_t used;
    bool good;
};

static void pass_bytes(struct cursor *cursor, void *field, size_t bytes)
{
    size_t left = cursor->room > cursor->used ? cursor->room - cursor->used : 0;

    if (cursor->in == NULL) {
        if (bytes > 0 && bytes <= left)
            memcpy(cursor->out + cursor->used, field, bytes);
    } else if (bytes > left) {
        cursor->good = false;
        memset(field, 0, bytes);
        return;
    } else {
        memcpy(field, cursor->in + cursor->used, bytes);
    }
    cursor->used += bytes;
}

static void pass_number(struct cursor *cursor, uint64_t *value, size_t bytes)
{
    uint8_t raw[8] = {0};

    for (size_t i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(*value >> (8 * i));
    pass_bytes(cursor, raw, bytes);
    *value = 0;
    for (size_t i = 0; i < bytes; i++)
        *value |= (uint64_t)raw[i] << (8 * i);
}

static void pass_u8(struct cursor *cursor, uint8_t *field)
{
    pass_bytes(cursor, field, 1);
}

static void pass_u16(struct cursor *cursor, uint16_t *field)
{
    uint64_t value = *field;

    pass_number(cursor, &value, sizeof(*field));
    *field = (uint16_t)value;
}

static void pass_u32(struct cursor *cursor, uint32_t *field)
{
    uint64_t value = *field;

    pass_number(cursor, &value, sizeof(*field));
    *field = (uint32_t)value;
}

static void pass_i32(struct cursor *cursor, int32_t *field)
{
    uint32_t value = (uint32_t)*field;

    pass_u32(cursor, &value);
    *field = (int32_t)value;
}

static void pass_text(struct cursor *cursor, struct wire_text *field)
{
    pass_u32(cursor, &field->length);
    if (cursor->in == NULL) {
        pass_bytes(cursor, (void *)(uintptr_t)field->bytes, field->length);
        return;
    }
    if (!cursor->good || field->length > cursor->room - cursor->used) {
        cursor->good = false;
        *field = (struct wire_text){"", 0};
        return;
    }
    field->bytes = (const char *)cursor->in + cursor->used;
    cursor->used += field->length;
}

static void pass_id(struct cursor *cursor, struct wire_exchange_id *id)
{
    pass_number(cursor, &id->word[0], sizeof(id->word[0]));
    pass_number(cursor, &id->word[1], sizeof(id->word[1]));
}

static void pass_challenge(struct cursor *cursor, struct wire_challenge *frame)
{
    pass_bytes(cursor, frame->nonce, sizeof(frame->nonce));
}

static void pass_hello(struct cursor *cursor, struct wire_hello *frame)
{
    pass_bytes(cursor, frame->mac, sizeof(frame->mac));
    pass_bytes(cursor, frame->nonce, sizeof(frame->nonce));
    pass_u8(cursor, &frame->secured);
    pass_u32(cursor, &frame->abi);
    pass_i32(cursor, &frame->rank);
    pass_i32(cursor, &frame->world_size);
    pass_u32(cursor, &frame->timeout_ms);
    pass_u32(cursor, &frame->patience_ms);
    pass_u16(cursor, &frame->port);
    pass_text(cursor, &frame->job);
    pass_text(cursor, &frame->version);
    pass_text(cursor, &frame->settings);
}

static void pass_welcome(struct cursor *cursor, struct wire_welcome *frame)
{
    pass_bytes(cursor, frame->mac, sizeof(frame->mac));
}

static void pass_place(struct cursor *cursor, struct wire_place *frame)
{
    pass_bytes(cursor, frame->mac, sizeof(frame->mac));
    pass_bytes(cursor, frame->address, sizeof(frame->address));
    pass_u16(cursor, &frame->port);
}

static void pass_later(struct cursor *cursor, struct wire_later *frame)
{
    pass_bytes(cursor, frame->mac, sizeof(frame->mac));
    pass_u32(cursor, &frame->pause_ms);
}

static void pass_refuse(struct cursor *cursor, struct wire_refuse *frame)
{
    pass_i32(cursor, &frame->status);
    pass_u8(cursor, &frame->stranger);
    pass_text(cursor, &frame->sentence);
    cursor->good = cursor->good && frame->status < 0;
}

static void pass_news(struct cursor *cursor, struct wire_news *frame)
{
    pass_i32(cursor, &frame->rank);
    pass_u8(cursor, &frame->state);
    cursor->good = cursor->good && frame->state < WIRE_NEWS_STATE_COUNT;
}

static void pass_gather(struct cursor *cursor, struct wire_gather *frame)
{
    pass_id(cursor, &frame->id);
    pass_i32(cursor, &frame->rank);
    pass_u32(cursor, &frame->count);
    pass_text(cursor, &frame->part);
}

static void pass_result(struct cursor *cursor, struct wire_result *frame)
{
    pass_id(cursor, &frame->id);
    pass_text(cursor, &frame->parts);
}

static void pass_failure(struct cursor *cursor, struct wire_failure *frame)
{
    pass_id(cursor, &frame->id);
    pass_i32(cursor, &frame->status);
    pass_text(cursor, &frame->sentence);
    pass_text(cursor, &frame->present);
    cursor->good =
        cursor->good && frame->status < 0 && frame->present.length % 4 == 0;
}

#define WIRE_DEFINE(kind)                                                      \
    size_t wire_##kind##_encode(const struct wire_##kind *from, void *out,     \
                                size_t room)                                   \
    {                                                                          \
        struct wire_##kind copy = *from;                                       \
        struct cursor cursor = {.out = out, .room = room, .good = true};       \
        pass_##kind(&cursor, &copy);                                           \
        return cursor.used;                                                    \
    }                                                                          \
    bool wire_##kind##_decode(const void *body, size_t bytes,                  \
                              struct wire_##kind *out)                         \
    {                                                                          \
        struct cursor cursor = {.in = body, .room = bytes, .good = true};      \
        memset(out, 0, sizeof(*out));                                          \
        pass_##kind(&cursor, out);                                             \
        return cursor.good && cursor.used == bytes;                            \
    }

WIRE_DEFINE(challenge)
WIRE_DEFINE(hello)
WIRE_DEFINE(welcome)
WIRE_DEFINE(place)
WIRE_DEFINE(later)
WIRE_DEFINE(refuse)
WIRE_DEFINE(news)
WIRE_DEFINE(gather)
WIRE_DEFINE(result)
WIRE_DEFINE(failure)

void wire_header_encode(const struct wire_header *header,
                        uint8_t out[WIRE_HEADER_BYTES])
{
    out[0] = MAGIC_0;
    out[1] = MAGIC_1;
    out[2] = header->type;
    out[3] = header->protocol;
    for (int i = 0; i < 4; i++)
        out[4 + i] = (uint8_t)(header->bytes >> (8 * i));
}

bool wire_header_decode(const uint8_t in[WIRE_HEADER_BYTES],
                        struct wire_header *out)
{
    out->type = in[2];
    out->protocol = in[3];
    out->bytes = 0;
    for (int i = 0; i < 4; i++)
        out->bytes |= (uint32_t)in[4 + i] << (8 * i);
    return in[0] == MAGIC_0 && in[1] == MAGIC_1 &&
           (out->type < WIRE_TYPE_COUNT || out->protocol != WIRE_PROTOCOL);
}

int32_t wire_present_rank(const struct wire_text *present, uint32_t i)
{
    struct cursor cursor = {
        .in = (const uint8_t *)present->bytes + 4 * i, .room = 4, .good = true};
    int32_t rank = 0;

    pass_i32(&cursor, &rank);
    return rank;
}

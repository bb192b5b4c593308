// SPDX-License-Identifier: BSD-3-Clause
// See json.h.
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

// How many bytes of `text` are one character of UTF-8; 0: none (RFC 3629: no
// overlong forms, no surrogates, nothing beyond U+10FFFF).
static size_t character_bytes(const unsigned char *text)
{
    static const struct {
        unsigned char first, last;           // of the first byte
        unsigned char second_low, second_up; // of the byte after it
        size_t bytes;
    } forms[] = {
        {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2},
        {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
        {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (text[0] < forms[i].first || text[0] > forms[i].last)
            continue;
        if (text[1] < forms[i].second_low || text[1] > forms[i].second_up)
            return 0;
        for (size_t k = 2; k < forms[i].bytes; k++)
            if ((text[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].bytes;
    }
    return 0;
}

static void write_text(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    fputc('"', out);
    while (*at != '\0') {
        size_t bytes = character_bytes(at);

        if (bytes == 0)
            fputs("\\ufffd", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(out, "\\u%04x", (unsigned)*at);
        else
            fwrite(at, 1, bytes, out);
        at += bytes > 0 ? bytes : 1;
    }
    fputc('"', out);
}

// What comes before any value.
static void lead_in(struct json *json, const char *key)
{
    if (json->filled[json->depth])
        fputs(key != NULL ? ", " : ",\n ", json->out);
    json->filled[json->depth] = true;
    if (key == NULL)
        return;
    write_text(json->out, key);
    fputs(": ", json->out);
}

static void open_with(struct json *json, const char *key, char bracket)
{
    lead_in(json, key);
    assert(json->depth + 1 < JSON_DEPTH_MAX);
    json->filled[++json->depth] = false;
    fputc(bracket, json->out);
}

static void close_with(struct json *json, char bracket)
{
    assert(json->depth > 0);
    json->depth--;
    fputc(bracket, json->out);
}

void json_object_open(struct json *json, const char *key)
{
    open_with(json, key, '{');
}

void json_object_close(struct json *json)
{
    close_with(json, '}');
}

void json_array_open(struct json *json, const char *key)
{
    open_with(json, key, '[');
}

void json_array_close(struct json *json)
{
    close_with(json, ']');
}

void json_string(struct json *json, const char *key, const char *value)
{
    lead_in(json, key);
    if (value == NULL)
        fputs("null", json->out);
    else
        write_text(json->out, value);
}

void json_integer(struct json *json, const char *key, int64_t value)
{
    lead_in(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void json_number(struct json *json, const char *key, double value, int decimals)
{
    lead_in(json, key);
    if (isfinite(value))
        fprintf(json->out, "%.*f", decimals, value);
    else
        fputs("null", json->out);
}

void json_bool(struct json *json, const char *key, bool value)
{
    lead_in(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key)
{
    lead_in(json, key);
    fputs("null", json->out);
}

void json_end(struct json *json)
{
    assert(json->depth == 0);
    fputc('\n', json->out);
}

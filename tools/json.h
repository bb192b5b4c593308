// SPDX-License-Identifier: BSD-3-Clause
// Writes one JSON text to a stream: commas, escapes, numbers. It reads none.
// Members of an object take a key; elements of an array take NULL in its place.
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 8

// Begin with {.out = stream}.
struct json {
    FILE *out;
    int depth;
    bool filled[JSON_DEPTH_MAX]; // something was written at this depth
};

void json_object_open(struct json *json, const char *key);
void json_object_close(struct json *json);
void json_array_open(struct json *json, const char *key);
void json_array_close(struct json *json);

// Bytes that are not UTF-8 become U+FFFD. value: NULL for null.
void json_string(struct json *json, const char *key, const char *value);
void json_integer(struct json *json, const char *key, int64_t value);
// With so many decimals; what is not finite is null.
void json_number(struct json *json, const char *key, double value,
                 int decimals);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

// Ends the text with a newline. Everything must be closed.
void json_end(struct json *json);

#endif

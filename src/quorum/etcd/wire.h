// SPDX-License-Identifier: BSD-3-Clause
// How etcd's JSON gateway writes bytes (base64) and 64-bit numbers (strings).
#ifndef QUORUM_ETCD_WIRE_H
#define QUORUM_ETCD_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A JSON string; NULL: no memory.
json_t *wire_bytes(const void *bytes, size_t length);
json_t *wire_number(uint64_t number);

// False: the member is there and is not what it should be, or is too long. One
// that is not there is 0, or of no bytes: so etcd writes these.
bool wire_take_bytes(const json_t *object, const char *key, void *bytes,
                     size_t room, size_t *length);
bool wire_take_number(const json_t *object, const char *key, uint64_t *number);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Memory that is mostly zeroes, made short for the way: facts have tens of
// kilobytes, of which one or two say something.
#ifndef FACTS_PACK_H
#define FACTS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// As much as `bytes` bytes may take.
#define PACK_BYTES_MAX(bytes) (2 * (bytes) + 8)

// Returns how many bytes of `out` were written.
size_t pack_write(const void *memory, size_t bytes, uint8_t *out);

// False: it is not what pack_write makes of `bytes` bytes. What follows in `in`
// is not looked at.
bool pack_read(const uint8_t *in, size_t room, void *memory, size_t bytes);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Structs that come from callers built against other ABIs: checked, and copied
// into ones of today's size, so the code behind sees one layout.
#ifndef CORE_STRUCT_CHECK_H
#define CORE_STRUCT_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

// Copies the caller's struct (`given`, which begins with {size, abi}) over
// `copy`, whose tail was filled with defaults by the caller of this function.
// `least` bytes must be there. Errors: INVALID (NULL, too small), ABI (newer
// than this library: the sentence names both).
tally_status_t struct_take(const char *name, const void *given, void *copy,
                           size_t size, size_t least);

// Copies `filled` out into the caller's struct, as much as fits its size; size
// and abi stay the caller's.
void struct_give(void *given, const void *filled, size_t size);

// Checks {size, abi} only.
tally_status_t struct_check(const char *name, const void *given, size_t least);

// The bytes of a struct up to the end of `member`.
#define STRUCT_THROUGH(type, member)                                           \
    (offsetof(type, member) + sizeof(((type *)0)->member))

#endif

// SPDX-License-Identifier: BSD-3-Clause
// See struct_check.h.
#include "core/struct_check.h"

#include <string.h>

#include "core/error.h"

struct struct_head {
    size_t size;
    uint32_t abi;
};

tally_status_t struct_check(const char *name, const void *given, size_t least)
{
    struct struct_head head;

    if (given == NULL)
        return core_fail(TALLY_ERR_INVALID, "%s is NULL", name);
    memcpy(&head, given, sizeof(head));
    if (head.abi == 0 || head.abi > TALLY_ABI)
        return core_fail(TALLY_ERR_ABI,
                         "%s is of ABI %u, this library (%s) has ABI %u", name,
                         (unsigned)head.abi, TALLY_VERSION_STRING, TALLY_ABI);
    if (head.size < least)
        return core_fail(TALLY_ERR_INVALID,
                         "%s has %zu bytes, ABI %u needs %zu: was it made with "
                         "TALLY_INIT?",
                         name, head.size, (unsigned)head.abi, least);
    return TALLY_OK;
}

tally_status_t struct_take(const char *name, const void *given, void *copy,
                           size_t size, size_t least)
{
    struct struct_head head;
    tally_status_t status = struct_check(name, given, least);

    if (status != TALLY_OK)
        return status;
    memcpy(&head, given, sizeof(head));
    memcpy(copy, given, head.size < size ? head.size : size);
    memcpy(copy, &size, sizeof(size));
    return TALLY_OK;
}

void struct_give(void *given, const void *filled, size_t size)
{
    const size_t head_bytes =
        offsetof(struct struct_head, abi) + sizeof(uint32_t);
    struct struct_head head;

    memcpy(&head, given, sizeof(head));
    if (head.size < size)
        size = head.size;
    memcpy((char *)given + head_bytes, (const char *)filled + head_bytes,
           size - head_bytes);
}

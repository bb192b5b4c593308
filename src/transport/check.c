// SPDX-License-Identifier: BSD-3-Clause
// See check.h.
#include "transport/check.h"

#include <stdbool.h>
#include <string.h>

#include "core/error.h"

// The oldest ABI of a backend that is still served.
#define ABI_OLDEST 1u

struct member {
    const char *name;
    size_t offset;
};

#define MEMBER(member)                                                         \
    {                                                                          \
        #member, offsetof(tally_transport_ops_t, member)                       \
    }

// What a table of each kind must hold: operations, and the limit.
static const struct member required_p2p[] = {
    MEMBER(open),    MEMBER(close),       MEMBER(address),  MEMBER(connect),
    MEMBER(tsend),   MEMBER(trecv),       MEMBER(progress), MEMBER(cancel),
    MEMBER(wait_fd), MEMBER(message_max), {NULL, 0},
};
static const struct member required_stream[] = {
    MEMBER(open),        MEMBER(close),       MEMBER(allreduce),
    MEMBER(group_id),    MEMBER(group_open),  MEMBER(group_poll),
    MEMBER(group_abort), MEMBER(group_close), {NULL, 0},
};

static const struct {
    tally_transport_kind_t kind;
    const struct member *required;
} kinds[] = {
    {TALLY_STREAM_COLLECTIVE, required_stream},
    {TALLY_TAGGED_P2P, required_p2p},
};

static tally_status_t check_abi(const tally_transport_ops_t *ops,
                                const char *path)
{
    if (ops->abi > TALLY_TRANSPORT_ABI)
        return core_fail(
            TALLY_ERR_ABI, "%s speaks transport ABI %u, this Tally speaks %u",
            path, (unsigned)ops->abi, (unsigned)TALLY_TRANSPORT_ABI);
    if (ops->abi < ABI_OLDEST)
        return core_fail(TALLY_ERR_ABI,
                         "%s speaks transport ABI %u, this Tally speaks %u and "
                         "none before %u",
                         path, (unsigned)ops->abi,
                         (unsigned)TALLY_TRANSPORT_ABI, ABI_OLDEST);
    return TALLY_OK;
}

static bool is_zero(const tally_transport_ops_t *ops, size_t offset)
{
    static const char zero[sizeof(void *)];

    _Static_assert(sizeof(ops->open) == sizeof(zero), "one size for all");
    _Static_assert(sizeof(ops->message_max) == sizeof(zero), "and the limit");
    return memcmp((const char *)ops + offset, zero, sizeof(zero)) == 0;
}

static tally_status_t check_members(const tally_transport_ops_t *ops,
                                    const struct member *required,
                                    const char *path)
{
    for (; required->name != NULL; required++) {
        if (ops->size < required->offset + sizeof(void *))
            return core_fail(TALLY_ERR_TRANSPORT,
                             "%s has a table of %zu bytes, too short for %s",
                             path, ops->size, required->name);
        if (is_zero(ops, required->offset))
            return core_fail(TALLY_ERR_TRANSPORT,
                             "%s leaves out the operation %s", path,
                             required->name);
    }
    return TALLY_OK;
}

static tally_status_t check_name(const tally_transport_ops_t *ops,
                                 const char *name, const char *path)
{
    if (ops->name == NULL || ops->name[0] == '\0' || ops->version == NULL)
        return core_fail(TALLY_ERR_TRANSPORT,
                         "%s does not say its name and version", path);
    if (name != NULL && strcmp(ops->name, name) != 0)
        return core_fail(TALLY_ERR_TRANSPORT,
                         "%s calls itself \"%s\", not \"%s\"", path, ops->name,
                         name);
    return TALLY_OK;
}

tally_status_t transport_check(const tally_transport_ops_t *ops,
                               const char *name, const char *path)
{
    if (ops == NULL)
        return core_fail(TALLY_ERR_TRANSPORT, "%s gave no table of operations",
                         path);
    tally_status_t status = check_abi(ops, path);
    if (status != TALLY_OK)
        return status;
    if (!TRANSPORT_HAS(ops, version))
        return core_fail(TALLY_ERR_TRANSPORT,
                         "%s has a table of %zu bytes, too short for its name",
                         path, ops->size);
    status = check_name(ops, name, path);
    if (status != TALLY_OK)
        return status;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (ops->kind == kinds[i].kind)
            return check_members(ops, kinds[i].required, path);
    return core_fail(TALLY_ERR_TRANSPORT,
                     "%s is of kind %d, which this Tally does not know", path,
                     (int)ops->kind);
}

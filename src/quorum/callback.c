// SPDX-License-Identifier: BSD-3-Clause
// The provider "callback": membership that the trainer has already
// (tally_membership_t).
#include <stdlib.h>

#include "core/error.h"
#include "core/struct_check.h"
#include "quorum/provider.h"

struct quorum_provider {
    const struct quorum_host *host;
    const struct quorum_params *params;
    uint64_t seen;  // in this look
    uint64_t there; // in the last
    bool announced;
};

static tally_status_t callback_open(const struct quorum_host *host,
                                    const struct quorum_params *params,
                                    struct quorum_provider **out)
{
    const tally_membership_t *membership = params->membership;
    struct quorum_provider *provider;

    if (membership == NULL)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_QUORUM=callback: the trainer has given no "
                         "membership (tally_replica_params.membership)");
    if (membership->announce == NULL || membership->look == NULL)
        return core_fail(TALLY_ERR_INVALID, "tally_membership.%s is NULL",
                         membership->announce == NULL ? "announce" : "look");
    provider = calloc(1, sizeof(*provider));
    if (provider == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for membership");
    provider->host = host;
    provider->params = params;
    *out = provider;
    return TALLY_OK;
}

static tally_status_t callback_incarnation(struct quorum_provider *provider,
                                           int timeout_ms,
                                           uint64_t *incarnation)
{
    uint64_t given = provider->params->membership->incarnation;

    (void)timeout_ms;
    *incarnation = given != 0 ? given : quorum_clock();
    return TALLY_OK;
}

static tally_status_t callback_announce(struct quorum_provider *provider,
                                        int timeout_ms,
                                        const struct quorum_member *self)
{
    const tally_membership_t *membership = provider->params->membership;
    tally_member_t member = TALLY_INIT(tally_member_t);

    (void)timeout_ms;
    member.peer = self->peer;
    member.incarnation = self->incarnation;
    member.address = self->address;
    member.address_bytes = self->address_bytes;
    tally_status_t status = membership->announce(membership->context, &member);
    provider->announced = status == TALLY_OK;
    return status == TALLY_OK
               ? TALLY_OK
               : core_fail(TALLY_ERR_SYSTEM,
                           "the trainer's membership does not announce this "
                           "process (status %d)",
                           (int)status);
}

static void tell(void *context, const tally_member_t *given)
{
    struct quorum_provider *provider = context;
    tally_member_t member;

    if (struct_take("tally_member", given, &member, sizeof(member),
                    STRUCT_THROUGH(tally_member_t, address_bytes)) !=
            TALLY_OK ||
        member.peer >= provider->params->peers || member.incarnation == 0 ||
        member.address_bytes > QUORUM_ADDRESS_MAX ||
        (member.address == NULL && member.address_bytes > 0)) {
        provider->host->log(provider->host->context, TALLY_LOG_WARN,
                            "the trainer's membership told of a member with a "
                            "wrong struct, number, incarnation or address");
        return;
    }
    const struct quorum_member seen = {(uint16_t)member.peer,
                                       member.incarnation, member.address,
                                       member.address_bytes};
    provider->seen |= replica_bit(seen.peer);
    provider->host->seen(provider->host->context, &seen);
}

static tally_status_t callback_watch(struct quorum_provider *provider,
                                     int timeout_ms)
{
    const tally_membership_t *membership = provider->params->membership;

    (void)timeout_ms;
    provider->seen = 0;
    tally_status_t status =
        membership->look(membership->context, tell, provider);
    if (status != TALLY_OK)
        return core_fail(TALLY_ERR_SYSTEM,
                         "the trainer's membership cannot be reached (status "
                         "%d)",
                         (int)status);
    for (uint64_t rest = provider->there & ~provider->seen; rest != 0;
         rest &= rest - 1)
        provider->host->gone(provider->host->context,
                             (uint16_t)__builtin_ctzll(rest));
    provider->there = provider->seen;
    return TALLY_OK;
}

static void callback_close(struct quorum_provider *provider, int timeout_ms)
{
    const tally_membership_t *membership = provider->params->membership;

    (void)timeout_ms;
    if (provider->announced && membership->withdraw != NULL)
        membership->withdraw(membership->context);
    free(provider);
}

const struct quorum_provider_ops quorum_callback = {
    .abi = QUORUM_PROVIDER_ABI,
    .name = "callback",
    .open = callback_open,
    .incarnation = callback_incarnation,
    .announce = callback_announce,
    .watch = callback_watch,
    .close = callback_close,
};

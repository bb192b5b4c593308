// SPDX-License-Identifier: BSD-3-Clause
// How a member is made and freed; what it does is in the rooms.
#include "bootstrap/tree/member.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bootstrap/secret.h"
#include "bootstrap/tree/rooms.h"
#include "core/error.h"

void member_free(struct member *member)
{
    struct connection *next;

    for (struct connection *one = member->connections; one != NULL;
         one = next) {
        next = one->next;
        connection_free(one);
    }
    gather_free_all(member);
    admit_close(member);
    if (member->wake_fd >= 0)
        close(member->wake_fd);
    member->network->ops->free(member->network);
    pthread_mutex_destroy(&member->shared.lock);
    pthread_cond_destroy(&member->shared.changed);
    if (member->secret != NULL)
        explicit_bzero(member->secret, member->secret_bytes);
    free(member->secret);
    free(member->version);
    free(member->settings);
    free(member->missing);
    free(member->arrivals);
    free(member);
}

static void shared_init(struct member_shared *shared)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&shared->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&shared->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static tally_status_t take_params(struct member *member,
                                  const struct bootstrap_params *params)
{
    member->identity = *params->identity;
    member->rank = params->identity->rank;
    member->size = params->identity->world_size;
    member->radix = params->radix > 0 ? params->radix : BOOTSTRAP_RADIX_MAX;
    member->timeout_us = params->timeout_us;
    member->deadline_us = network_now_us(member->network) + params->timeout_us;
    member->patience_us = params->timeout_us;
    member->abi = params->abi;
    member->log = params->log;
    member->health = params->health;
    member->join.retry_at_us = INT64_MAX;
    member->join.at_root = true;
    member->version = strdup(params->version);
    member->settings = strdup(params->settings);
    member->secret_bytes = params->secret_bytes;
    if (params->secret != NULL)
        member->secret = malloc(params->secret_bytes + 1);
    if (member_is_root(member))
        member->arrivals =
            calloc((size_t)member->size, sizeof(*member->arrivals));
    if (member->version == NULL || member->settings == NULL ||
        (params->secret != NULL && member->secret == NULL) ||
        (member_is_root(member) && member->arrivals == NULL))
        return core_fail(TALLY_ERR_MEMORY, "no memory for the rendezvous");
    if (params->secret == NULL)
        return TALLY_OK;
    memcpy(member->secret, params->secret, params->secret_bytes);
    return secret_check_supported();
}

tally_status_t member_create(const struct bootstrap_params *params,
                             struct network *network, struct member **out)
{
    struct member *member = calloc(1, sizeof(*member));

    if (member == NULL) {
        network->ops->free(network);
        return core_fail(TALLY_ERR_MEMORY, "no memory for the rendezvous");
    }
    member->network = network;
    member->wake_fd = member->listen_fd = -1;
    shared_init(&member->shared);
    tally_status_t status = take_params(member, params);
    if (status != TALLY_OK) {
        member_free(member);
        return status;
    }
    *out = member;
    return TALLY_OK;
}

// SPDX-License-Identifier: BSD-3-Clause
// See rendezvous.h.
#include "harness/rendezvous.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/error.h"

uint16_t rendezvous_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int on = 1;

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Bound before it may be shared: ours alone.
    if (*fd < 0 || bind(*fd, (struct sockaddr *)&address, bytes) < 0 ||
        setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        getsockname(*fd, (struct sockaddr *)&address, &bytes) < 0)
        abort();
    return ntohs(address.sin_port);
}

void rendezvous_prepare(struct rendezvous *rendezvous, int32_t rank,
                        int32_t size, uint16_t port)
{
    memset(rendezvous, 0, sizeof(*rendezvous));
    rendezvous->identity = (struct identity){
        .rank = rank,
        .world_size = size,
        .source = "test",
        .job = "test",
        .host = "127.0.0.1",
        .ports = {port},
        .port_count = 1,
    };
    if (health_create(size, &rendezvous->health) != TALLY_OK)
        abort();
    rendezvous->params = (struct bootstrap_params){
        .identity = &rendezvous->identity,
        .timeout_us = 20000000,
        .abi = 1,
        .version = "0.1.0",
        .settings = "TALLY_RADIX=0\nTALLY_TIMEOUT=60\n",
        .health = rendezvous->health,
    };
}

void rendezvous_open(struct rendezvous *rendezvous)
{
    rendezvous->params.identity = &rendezvous->identity;
    rendezvous->status =
        bootstrap_open(&rendezvous->params, &rendezvous->exchange);
    snprintf(rendezvous->sentence, sizeof(rendezvous->sentence), "%s",
             rendezvous->status == TALLY_OK ? "" : core_error_text());
}

void rendezvous_close(struct rendezvous *rendezvous)
{
    if (rendezvous->exchange != NULL)
        exchange_close(rendezvous->exchange);
    rendezvous->exchange = NULL;
    health_free(rendezvous->health);
    rendezvous->health = NULL;
}

tally_status_t rendezvous_gather(struct rendezvous *rendezvous,
                                 struct exchange_group *group, int32_t salt)
{
    int32_t mine = rendezvous->identity.rank * 1000 + salt;
    int32_t *all = calloc((size_t)group->count, sizeof(*all));

    if (all == NULL)
        abort();
    tally_status_t status = exchange_allgather(rendezvous->exchange, group,
                                               &mine, all, sizeof(mine));
    for (int32_t i = 0; i < group->count && status == TALLY_OK; i++)
        if (all[i] != group->ranks[i] * 1000 + salt)
            status = core_fail(TALLY_ERR_INVALID, "part %d is %d", (int)i,
                               (int)all[i]);
    free(all);
    return status;
}

// SPDX-License-Identifier: BSD-3-Clause
// See side.h.
#include "harness/side.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define ADDRESS_BYTES_MAX 2048
#define ALIGNMENT_BYTES 64

static void host_log(void *context, tally_log_level_t level, const char *line)
{
    struct side *side = context;
    size_t used = strlen(side->log);

    (void)level;
    snprintf(side->log + used, sizeof(side->log) - used, "%s\n", line);
}

static tally_status_t host_fail(void *context, tally_status_t status,
                                const char *sentence)
{
    (void)context;
    return core_fail(status, "%s", sentence);
}

static const char *host_config(void *context, const char *name)
{
    const struct side *side = context;

    for (const char *const *at = side->setup->settings;
         at != NULL && *at != NULL; at += 2)
        if (strcmp(at[0], name) == 0)
            return at[1];
    return NULL;
}

static void *host_allocate(void *context, size_t bytes)
{
    size_t rounded =
        (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    void *memory = aligned_alloc(ALIGNMENT_BYTES, rounded);

    (void)context;
    if (memory != NULL)
        memset(memory, 0, rounded);
    return memory;
}

static void host_release(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static void host_peer_lost(void *context, int32_t peer, const char *why)
{
    struct side *side = context;

    EXPECT(peer >= 0 && peer < PROCESSES_MAX);
    EXPECT(why != NULL && why[0] != '\0');
    side->losses[peer]++;
}

void side_prepare(struct side *side, const struct side_setup *setup)
{
    memset(side, 0, sizeof(*side));
    side->setup = setup;
    side->host = (tally_transport_host_t){
        .size = sizeof(tally_transport_host_t),
        .abi = TALLY_TRANSPORT_ABI,
        .context = side,
        .log = host_log,
        .fail = host_fail,
        .config = host_config,
        .allocate = host_allocate,
        .release = host_release,
        .peer_lost = host_peer_lost,
    };
}

void side_open(struct side *side, const struct side_setup *setup)
{
    const tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .rank = 0,
        .world_size = 1,
    };

    side_prepare(side, setup);
    EXPECT(transport_load(setup->backend, setup->plugin_path, &side->host,
                          &side->backend) == TALLY_OK);
    side->ops = side->backend->ops;
    EXPECT(side->ops->open(&side->host, &params, &side->transport) == TALLY_OK);
}

struct address {
    size_t bytes;
    unsigned char text[ADDRESS_BYTES_MAX];
};

void side_join(struct side *side, struct processes_member *member)
{
    struct address own = {.bytes = sizeof(own.text)};
    struct address all[PROCESSES_MAX];

    side_open(side, member->argument);
    side->member = member;
    EXPECT(side->ops->address(side->transport, own.text, &own.bytes) ==
           TALLY_OK);
    processes_exchange(member, &own, all, sizeof(own));
    for (int32_t i = 0; i < member->size; i++)
        if (i != member->rank)
            EXPECT(side->ops->connect(side->transport, i, all[i].text,
                                      all[i].bytes,
                                      &side->peers[i]) == TALLY_OK);
}

void side_close(struct side *side)
{
    side->ops->close(side->transport);
    transport_unload(side->backend);
}

tally_status_t side_wait(struct side *side, const tally_request_t *request)
{
    while (request->status == TALLY_NOT_YET) {
        int events = side->ops->progress(side->transport);
        EXPECT(events >= 0);
        if (events == 0)
            sched_yield(); // ranks outnumber cores
    }
    return request->status;
}

void side_send(struct side *side, int32_t peer, uint64_t tag,
               const void *buffer, size_t bytes)
{
    tally_request_t request;

    EXPECT(side->ops->tsend(side->peers[peer], tag, buffer, bytes, &request) ==
           TALLY_OK);
    EXPECT(side_wait(side, &request) == TALLY_OK);
}

uint32_t side_receive(struct side *side, uint64_t tag, void *buffer,
                      size_t bytes)
{
    tally_request_t request;

    EXPECT(side->ops->trecv(side->transport, tag, buffer, bytes, &request) ==
           TALLY_OK);
    EXPECT(side_wait(side, &request) == TALLY_OK);
    return request.bytes;
}

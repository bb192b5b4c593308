// SPDX-License-Identifier: BSD-3-Clause
// See ways.h. One receive is posted for each peer; a tag says who sends.
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "doctor/job/ways.h"

struct packet {
    uint32_t kind;
    uint32_t number;
};

struct message {
    struct message *next; // of sends
    tally_request_t request;
    struct packet packet;
};

struct tagged {
    struct pairs_way base;
    struct tagged_params params;
    int32_t *link_of;         // [count]
    struct message *receives; // [count]
    struct message *sends;    // under way
};

static uint64_t tag_of(const struct tagged *tagged, int32_t from)
{
    return (uint64_t)tagged->params.space << 32 | (uint32_t)from;
}

static void receive(struct tagged *tagged, int32_t from)
{
    struct message *message = &tagged->receives[from];

    tally_status_t status = tagged->params.ops->trecv(
        tagged->params.transport, tag_of(tagged, from), &message->packet,
        sizeof(message->packet), &message->request);
    if (status != TALLY_OK)
        message->request.status = status;
}

static bool tagged_send(struct pairs_way *way, int32_t peer,
                        enum pairs_kind kind, uint32_t number)
{
    struct tagged *tagged = (struct tagged *)way;
    tally_endpoint_t *endpoint;
    struct message *message = calloc(1, sizeof(*message));

    if (message == NULL) {
        core_fail(TALLY_ERR_MEMORY, "no memory for a message");
        return false;
    }
    message->packet = (struct packet){kind, number};
    if (links_endpoint(tagged->params.links, tagged->link_of[peer],
                       &endpoint) != TALLY_OK ||
        tagged->params.ops->tsend(endpoint, tag_of(tagged, tagged->params.own),
                                  &message->packet, sizeof(message->packet),
                                  &message->request) != TALLY_OK) {
        free(message);
        return false;
    }
    message->next = tagged->sends;
    tagged->sends = message;
    return true;
}

// A send that failed shows as an answer that does not come.
static void sends_sweep(struct tagged *tagged)
{
    struct message **link = &tagged->sends;

    while (*link != NULL) {
        struct message *message = *link;

        if (message->request.status == TALLY_NOT_YET) {
            link = &message->next;
            continue;
        }
        *link = message->next;
        free(message);
    }
}

static void tagged_poll(struct pairs_way *way, struct pairs *pairs)
{
    struct tagged *tagged = (struct tagged *)way;

    tagged->params.ops->progress(tagged->params.transport);
    for (int32_t i = 0; i < tagged->params.count; i++) {
        struct message *message = &tagged->receives[i];

        if (i == tagged->params.own || message->request.status != TALLY_OK)
            continue;
        struct packet packet = message->packet;
        receive(tagged, i);
        if (packet.kind < PAIRS_KINDS)
            pairs_take(pairs, i, (enum pairs_kind)packet.kind, packet.number);
    }
    sends_sweep(tagged);
}

static const struct pairs_way_ops tagged_ops = {
    .send = tagged_send,
    .poll = tagged_poll,
};

struct pairs_way *tagged_open(const struct tagged_params *params)
{
    struct tagged *tagged = calloc(1, sizeof(*tagged));
    size_t count = (size_t)params->count;

    if (tagged == NULL)
        return NULL;
    tagged->base.ops = &tagged_ops;
    tagged->params = *params;
    tagged->link_of = calloc(count, sizeof(*tagged->link_of));
    tagged->receives = calloc(count, sizeof(*tagged->receives));
    if (tagged->link_of == NULL || tagged->receives == NULL) {
        free(tagged->receives);
        free(tagged->link_of);
        free(tagged);
        return NULL;
    }
    memcpy(tagged->link_of, params->link_of, count * sizeof(*params->link_of));
    for (int32_t i = 0; i < params->count; i++)
        if (i != params->own)
            receive(tagged, i);
    return &tagged->base;
}

void tagged_cancel(struct pairs_way *way)
{
    struct tagged *tagged = (struct tagged *)way;

    for (int32_t i = 0; i < tagged->params.count; i++)
        if (tagged->receives[i].request.status == TALLY_NOT_YET)
            tagged->params.ops->cancel(tagged->params.transport,
                                       &tagged->receives[i].request);
}

void tagged_free(struct pairs_way *way)
{
    struct tagged *tagged = (struct tagged *)way;

    while (tagged->sends != NULL) {
        struct message *message = tagged->sends;

        tagged->sends = message->next;
        free(message);
    }
    free(tagged->receives);
    free(tagged->link_of);
    free(tagged);
}

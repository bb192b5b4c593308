// SPDX-License-Identifier: BSD-3-Clause
// See sim.h: what is between the ranks.
#include <assert.h>
#include <stdlib.h>

#include "core/error.h"
#include "numeric/mix.h"
#include "transport/sim/state.h"

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

tally_status_t sim_network_create(int32_t size,
                                  const struct sim_options *options,
                                  struct sim_network **out)
{
    struct sim_network *network = calloc(1, sizeof(*network));

    if (network == NULL)
        goto fail;
    network->transports = calloc((size_t)size, sizeof(void *));
    if (network->transports == NULL)
        goto fail;
    network->size = size;
    network->options = *options;
    network->random = numeric_mix(options->seed);
    *out = network;
    return TALLY_OK;
fail:
    free(network);
    return core_fail(TALLY_ERR_MEMORY, "no memory for %d simulated ranks",
                     (int)size);
}

void sim_network_free(struct sim_network *network)
{
    struct sim_event event;

    if (network == NULL)
        return;
    for (int32_t i = 0; i < network->size; i++)
        if (network->transports[i] != NULL)
            sim_transport_free(network->transports[i]);
    while (sim_heap_pop(&network->heap, &event))
        free(event.message);
    sim_heap_free(&network->heap);
    free(network->cuts);
    free(network->transports);
    free(network);
}

void sim_network_change(struct sim_network *network,
                        const struct sim_options *options)
{
    network->options = *options;
    network->random = numeric_mix(options->seed);
}

tally_status_t sim_network_cut(struct sim_network *network, int32_t source,
                               int32_t destination, int64_t from_ns)
{
    size_t count = network->cut_count + 1;
    struct sim_cut *cuts = realloc(network->cuts, count * sizeof(*cuts));

    if (cuts == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu cuts", count);
    cuts[network->cut_count] = (struct sim_cut){source, destination, from_ns};
    network->cuts = cuts;
    network->cut_count = count;
    return TALLY_OK;
}

// -------------------------------------------------------------------- messages

void sim_messages_put(struct sim_messages *messages,
                      struct sim_message *message)
{
    message->next = NULL;
    if (messages->first == NULL)
        messages->first = message;
    else
        messages->last->next = message;
    messages->last = message;
}

void sim_messages_free(struct sim_messages *messages)
{
    while (messages->first != NULL) {
        struct sim_message *message = messages->first;

        messages->first = message->next;
        free(message);
    }
}

int64_t sim_overhead_ns(const struct sim_network *network, int32_t rank,
                        int64_t overhead_ns)
{
    const struct sim_options *options = &network->options;

    return rank == options->slow ? overhead_ns + options->slow_ns : overhead_ns;
}

int64_t sim_card_ns(const struct sim_network *network, size_t bytes)
{
    int64_t bytes_per_us = network->options.bytes_per_us;

    if (bytes_per_us == 0)
        return 0;
    return ((int64_t)bytes * 1000 + bytes_per_us - 1) / bytes_per_us;
}

static int64_t jitter_draw(struct sim_network *network)
{
    if (network->options.jitter_ns == 0)
        return 0;
    network->random = numeric_mix(network->random);
    return (int64_t)(network->random %
                     (uint64_t)(network->options.jitter_ns + 1));
}

static bool is_cut(const struct sim_network *network, int32_t source,
                   int32_t destination, int64_t time_ns)
{
    for (size_t i = 0; i < network->cut_count; i++) {
        const struct sim_cut *cut = &network->cuts[i];

        if (time_ns >= cut->from_ns &&
            (cut->source == SIM_ANYBODY || cut->source == source) &&
            (cut->destination == SIM_ANYBODY ||
             cut->destination == destination))
            return true;
    }
    return false;
}

bool sim_message_carry(tally_endpoint_t *endpoint, struct sim_message *message,
                       int64_t left_ns)
{
    tally_transport_t *transport = endpoint->transport;
    struct sim_network *network = transport->network;
    int64_t card_ns = sim_card_ns(network, message->bytes);
    int64_t out_ns = later(left_ns, transport->card_out_ns);
    int64_t there_ns =
        out_ns + card_ns + network->options.latency_ns + jitter_draw(network);

    there_ns = later(there_ns, endpoint->last_ns);
    if (is_cut(network, transport->rank, endpoint->peer, out_ns)) {
        transport->counts.lost++;
        free(message);
    } else if (!sim_heap_push(&network->heap,
                              (struct sim_event){.time_ns = there_ns,
                                                 .rank = endpoint->peer,
                                                 .message = message})) {
        return false;
    }
    transport->card_out_ns = out_ns + card_ns;
    endpoint->last_ns = there_ns;
    return true;
}

// ------------------------------------------------------------------------ time

tally_status_t sim_network_timer(struct sim_network *network, int32_t rank,
                                 int64_t time_ns)
{
    assert(rank >= 0 && rank < network->size && time_ns >= network->now_ns);
    if (!sim_heap_push(&network->heap,
                       (struct sim_event){.time_ns = time_ns, .rank = rank}))
        return core_fail(TALLY_ERR_MEMORY, "no memory for a timer");
    return TALLY_OK;
}

static void digest_add(struct sim_network *network,
                       const struct sim_event *event)
{
    uint64_t digest = numeric_mix(network->digest ^ (uint64_t)event->time_ns);

    digest = numeric_mix(digest ^ (uint64_t)event->rank);
    if (event->message != NULL) {
        digest = numeric_mix(digest ^ event->message->tag);
        digest = numeric_mix(digest ^ (uint64_t)event->message->source);
    }
    network->digest = digest;
}

static void message_come(tally_transport_t *transport,
                         struct sim_message *message, int64_t time_ns)
{
    int64_t card_ns = sim_card_ns(transport->network, message->bytes);

    // What came alone has come in while it was on its way.
    transport->card_in_ns = later(time_ns, transport->card_in_ns + card_ns);
    message->came_ns = transport->card_in_ns;
    sim_messages_put(&transport->inbox, message);
}

bool sim_network_step(struct sim_network *network, sim_wake_fn wake,
                      void *context)
{
    struct sim_event event;

    if (!sim_heap_pop(&network->heap, &event))
        return false;
    assert(event.time_ns >= network->now_ns);
    network->now_ns = event.time_ns;
    digest_add(network, &event);
    tally_transport_t *transport = network->transports[event.rank];
    if (transport == NULL) { // closed
        free(event.message);
        return true;
    }
    if (event.message != NULL)
        message_come(transport, event.message, event.time_ns);
    else
        transport->now_ns = later(transport->now_ns, event.time_ns);
    wake(context, event.rank);
    return true;
}

int64_t sim_network_now(const struct sim_network *network)
{
    return network->now_ns;
}

int64_t sim_network_rank_now(const struct sim_network *network, int32_t rank)
{
    return network->transports[rank]->now_ns;
}

uint64_t sim_network_digest(const struct sim_network *network)
{
    return network->digest;
}

struct sim_counts sim_network_counts(const struct sim_network *network,
                                     int32_t rank)
{
    return network->transports[rank]->counts;
}

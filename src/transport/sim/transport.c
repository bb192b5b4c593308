// SPDX-License-Identifier: BSD-3-Clause
// See sim.h: the operations of a rank's transport.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "transport/sim/state.h"

#define MESSAGE_MAX 65536
#define RECEIVE_ROOM_MIN 4

// --------------------------------------------------------------------- opening

static tally_status_t sim_open(const tally_transport_host_t *host,
                               const tally_transport_params_t *params,
                               tally_transport_t **out)
{
    struct sim_network *network = host->context;
    tally_transport_t *transport;

    assert(params->rank >= 0 && params->rank < network->size);
    assert(network->transports[params->rank] == NULL);
    transport = calloc(1, sizeof(*transport));
    if (transport == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a simulated rank");
    transport->network = network;
    transport->rank = params->rank;
    transport->now_ns = network->now_ns;
    network->transports[params->rank] = transport;
    *out = transport;
    return TALLY_OK;
}

void sim_transport_free(tally_transport_t *transport)
{
    transport->network->transports[transport->rank] = NULL;
    while (transport->endpoints != NULL) {
        tally_endpoint_t *endpoint = transport->endpoints;

        transport->endpoints = endpoint->next;
        free(endpoint);
    }
    sim_messages_free(&transport->inbox);
    sim_messages_free(&transport->unexpected);
    free(transport->receives);
    free(transport);
}

static tally_status_t sim_address(tally_transport_t *transport, void *address,
                                  size_t *bytes)
{
    if (*bytes < sizeof(transport->rank))
        return core_fail(TALLY_ERR_MEMORY, "no room for the address");
    memcpy(address, &transport->rank, sizeof(transport->rank));
    *bytes = sizeof(transport->rank);
    return TALLY_OK;
}

static tally_status_t sim_connect(tally_transport_t *transport, int32_t peer,
                                  const void *address, size_t bytes,
                                  tally_endpoint_t **out)
{
    int32_t rank = SIM_NOBODY;

    if (bytes == sizeof(rank))
        memcpy(&rank, address, sizeof(rank));
    if (rank < 0 || rank >= transport->network->size)
        return core_fail(TALLY_ERR_INVALID, "no address of rank %d", (int)peer);
    tally_endpoint_t *endpoint = calloc(1, sizeof(*endpoint));
    if (endpoint == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for an endpoint");
    endpoint->transport = transport;
    endpoint->peer = rank;
    endpoint->next = transport->endpoints;
    transport->endpoints = endpoint;
    transport->counts.connected++;
    *out = endpoint;
    return TALLY_OK;
}

// -------------------------------------------------------------------- messages

static tally_status_t sim_tsend(tally_endpoint_t *endpoint, uint64_t tag,
                                const void *buffer, size_t bytes,
                                tally_request_t *request)
{
    tally_transport_t *transport = endpoint->transport;
    const struct sim_network *network = transport->network;
    int64_t overhead_ns = sim_overhead_ns(network, transport->rank,
                                          network->options.send_overhead_ns);

    if (bytes > MESSAGE_MAX)
        return core_fail(TALLY_ERR_INVALID, "a message of %zu bytes", bytes);
    struct sim_message *message = malloc(sizeof(*message) + bytes);
    if (message == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a message");
    message->tag = tag;
    message->source = transport->rank;
    message->bytes = (uint32_t)bytes;
    memcpy(message->data, buffer, bytes);
    if (!sim_message_carry(endpoint, message,
                           transport->now_ns + overhead_ns)) {
        free(message);
        return core_fail(TALLY_ERR_MEMORY, "no memory for a message");
    }
    transport->now_ns += overhead_ns;
    transport->counts.sent++;
    request->status = TALLY_OK; // it was copied
    return TALLY_OK;
}

static void receive_complete(const struct sim_receive *receive,
                             const struct sim_message *message)
{
    bool fits = message->bytes <= receive->room;

    memcpy(receive->buffer, message->data,
           fits ? message->bytes : receive->room);
    receive->request->bytes = message->bytes;
    receive->request->status = fits ? TALLY_OK : TALLY_ERR_TRANSPORT;
}

// The first that came with this tag; NULL: none.
static struct sim_message *unexpected_take(tally_transport_t *transport,
                                           uint64_t tag)
{
    struct sim_messages *messages = &transport->unexpected;
    struct sim_message *before = NULL;

    for (struct sim_message *message = messages->first; message != NULL;
         message = message->next) {
        if (message->tag != tag) {
            before = message;
            continue;
        }
        if (before == NULL)
            messages->first = message->next;
        else
            before->next = message->next;
        if (messages->last == message)
            messages->last = before;
        return message;
    }
    return NULL;
}

static bool receives_grow(tally_transport_t *transport)
{
    size_t room = transport->receive_room == 0 ? RECEIVE_ROOM_MIN
                                               : 2 * transport->receive_room;
    struct sim_receive *receives =
        realloc(transport->receives, room * sizeof(*receives));

    if (receives == NULL)
        return false;
    transport->receives = receives;
    transport->receive_room = room;
    return true;
}

static tally_status_t sim_trecv(tally_transport_t *transport, uint64_t tag,
                                void *buffer, size_t bytes,
                                tally_request_t *request)
{
    const struct sim_receive receive = {tag, buffer, bytes, request};

    if (transport->counts.posted == transport->receive_room &&
        !receives_grow(transport))
        return core_fail(TALLY_ERR_MEMORY, "no memory for a receive");
    struct sim_message *message = unexpected_take(transport, tag);
    if (message != NULL) {
        receive_complete(&receive, message);
        free(message);
        return TALLY_OK;
    }
    request->status = TALLY_NOT_YET;
    transport->receives[transport->counts.posted++] = receive;
    return TALLY_OK;
}

static void receive_remove(tally_transport_t *transport, size_t index)
{
    size_t left = --transport->counts.posted - index;

    memmove(&transport->receives[index], &transport->receives[index + 1],
            left * sizeof(*transport->receives));
}

static bool message_match(tally_transport_t *transport,
                          const struct sim_message *message)
{
    for (size_t i = 0; i < transport->counts.posted; i++) {
        if (transport->receives[i].tag != message->tag)
            continue;
        receive_complete(&transport->receives[i], message);
        receive_remove(transport, i);
        return true;
    }
    return false;
}

static void message_handle(tally_transport_t *transport,
                           struct sim_message *message)
{
    const struct sim_network *network = transport->network;

    if (transport->now_ns < message->came_ns)
        transport->now_ns = message->came_ns;
    transport->now_ns += sim_overhead_ns(network, transport->rank,
                                         network->options.receive_overhead_ns);
    transport->counts.received++;
    if (message_match(transport, message))
        free(message);
    else
        sim_messages_put(&transport->unexpected, message);
}

static int sim_progress(tally_transport_t *transport)
{
    int events = 0;

    for (; transport->inbox.first != NULL; events++) {
        struct sim_message *message = transport->inbox.first;

        transport->inbox.first = message->next;
        message_handle(transport, message);
    }
    return events;
}

static void sim_cancel(tally_transport_t *transport, tally_request_t *request)
{
    for (size_t i = 0; i < transport->counts.posted; i++) {
        if (transport->receives[i].request != request)
            continue;
        receive_remove(transport, i);
        request->status = TALLY_ERR_TRANSPORT;
        return;
    }
}

static tally_status_t sim_wait_fd(tally_transport_t *transport, int *fd)
{
    (void)transport;
    (void)fd;
    return TALLY_ERR_UNSUPPORTED;
}

static const struct tally_transport_ops sim_ops = {
    .size = sizeof(sim_ops),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_TAGGED_P2P,
    .name = "sim",
    .version = "simulated",
    .open = sim_open,
    .close = sim_transport_free,
    .address = sim_address,
    .connect = sim_connect,
    .tsend = sim_tsend,
    .trecv = sim_trecv,
    .progress = sim_progress,
    .cancel = sim_cancel,
    .wait_fd = sim_wait_fd,
    .message_max = MESSAGE_MAX,
};

const struct tally_transport_ops *sim_network_ops(void)
{
    return &sim_ops;
}

tally_status_t sim_network_open(struct sim_network *network, int32_t rank,
                                tally_transport_t **out)
{
    const tally_transport_host_t host = {
        .size = sizeof(host),
        .abi = TALLY_TRANSPORT_ABI,
        .context = network,
    };
    const tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .rank = rank,
        .world_size = network->size,
    };

    return sim_open(&host, &params, out);
}

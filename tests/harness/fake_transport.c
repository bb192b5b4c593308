// SPDX-License-Identifier: BSD-3-Clause
// See fake_transport.h.
#include "harness/fake_transport.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "harness/list.h"
#include "harness/random.h"

struct message {
    struct link link;
    int32_t source;
    uint32_t countdown; // of the receiver's calls of progress
    uint64_t tag;
    size_t bytes;
    unsigned char data[];
};

struct receive {
    struct link link;
    uint64_t tag;
    void *buffer;
    size_t room;
    tally_request_t *request;
    bool cancelled;
};

struct send {
    struct link link;
    int32_t destination;
    uint32_t countdown; // of the sender's calls of progress
    bool read;          // the message is under way
    uint64_t tag;
    const void *buffer;
    size_t bytes;
    tally_request_t *request;
    unsigned char sent[]; // what was read
};

struct tally_endpoint {
    struct link link;
    tally_transport_t *transport;
    int32_t peer;
};

struct inbox {
    pthread_mutex_t lock;
    struct link *messages; // in the order of arrival
};

struct tally_transport {
    struct fake_network *network;
    int32_t rank;
    struct random random;
    struct link *sends;
    struct link *receives;
    struct link *endpoints;
    struct link *arrived; // awaiting a receive
    struct fake_counts counts;
};

struct fake_network {
    int32_t size;
    struct fake_options options;
    struct tally_transport_ops ops;
    struct inbox inboxes[];
};

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (memory == NULL)
        abort();
    return memory;
}

struct fake_options fake_options_calm(uint64_t seed)
{
    return (struct fake_options){
        .seed = seed,
        .silent = FAKE_NOBODY,
        .dead = FAKE_NOBODY,
        .unreachable = FAKE_NOBODY,
        .refusing = FAKE_NOBODY,
        .garbling = FAKE_NOBODY,
        .deaf = FAKE_NOBODY,
        .message_max = 65536,
    };
}

// -------------------------------------------------------------- opening

static tally_status_t fake_open(const tally_transport_host_t *host,
                                const tally_transport_params_t *params,
                                tally_transport_t **out)
{
    struct fake_network *network = host->context;
    tally_transport_t *transport = allocate(sizeof(*transport));

    transport->network = network;
    transport->rank = params->rank;
    transport->random =
        random_seeded(network->options.seed * 1000003 + (uint64_t)params->rank);
    *out = transport;
    return TALLY_OK;
}

static void fake_close(tally_transport_t *transport)
{
    list_free(&transport->sends);
    list_free(&transport->receives);
    list_free(&transport->endpoints);
    list_free(&transport->arrived);
    free(transport);
}

// Addresses of different lengths: "fake" and a letter for each rank.
static tally_status_t fake_address(tally_transport_t *transport, void *address,
                                   size_t *bytes)
{
    size_t length = 5 + (size_t)transport->rank;

    if (*bytes < length)
        return core_fail(TALLY_ERR_MEMORY, "no room for the address");
    memset(address, 'x', length);
    memcpy(address, "fake", 4);
    *bytes = length;
    return TALLY_OK;
}

static tally_status_t fake_connect(tally_transport_t *transport, int32_t peer,
                                   const void *address, size_t bytes,
                                   tally_endpoint_t **out)
{
    int32_t rank = (int32_t)bytes - 5;

    if (bytes < 5 || memcmp(address, "fake", 4) != 0 ||
        rank >= transport->network->size)
        return core_fail(TALLY_ERR_INVALID, "no address");
    if (rank == transport->network->options.unreachable)
        return core_fail(TALLY_ERR_PEER, "no route to peer %d", (int)peer);
    tally_endpoint_t *endpoint = allocate(sizeof(*endpoint));
    endpoint->transport = transport;
    endpoint->peer = rank;
    list_append(&transport->endpoints, &endpoint->link);
    transport->counts.connected++;
    *out = endpoint;
    return TALLY_OK;
}

// -------------------------------------------------------------- messages

static void message_push(tally_transport_t *transport, const struct send *send)
{
    const struct fake_options *options = &transport->network->options;
    struct inbox *inbox = &transport->network->inboxes[send->destination];
    struct message *message = allocate(sizeof(*message) + send->bytes);

    message->source = transport->rank;
    message->tag = send->tag;
    message->bytes = send->bytes;
    memcpy(message->data, send->buffer, send->bytes);
    if (transport->rank == options->garbling) {
        message->bytes -= options->garble_cut;
        if (options->garble_byte < send->bytes)
            message->data[options->garble_byte] ^= 1;
    }
    message->countdown =
        random_below(&transport->random, options->arrival_delay_max + 1);
    pthread_mutex_lock(&inbox->lock);
    list_append(&inbox->messages, &message->link);
    pthread_mutex_unlock(&inbox->lock);
    if (options->arrived != NULL)
        options->arrived(send->destination);
}

static void send_read(tally_transport_t *transport, struct send *send)
{
    memcpy(send->sent, send->buffer, send->bytes);
    if (send->destination != transport->network->options.dead)
        message_push(transport, send);
    send->read = true;
    send->countdown = random_below(
        &transport->random, transport->network->options.send_lag_max + 1);
}

static void send_complete(tally_transport_t *transport, const struct send *send)
{
    transport->counts.overwritten +=
        memcmp(send->sent, send->buffer, send->bytes) != 0;
    send->request->status =
        send->destination == transport->network->options.dead ? TALLY_ERR_PEER
                                                              : TALLY_OK;
}

// What needs no call of progress is done by tsend.
static bool send_at_once(tally_transport_t *transport, struct send *send)
{
    const struct fake_options *options = &transport->network->options;

    if (options->send_delay_max > 0 || transport->rank == options->silent)
        return false;
    send_read(transport, send);
    if (options->send_lag_max > 0)
        return false;
    send_complete(transport, send);
    return true;
}

static tally_status_t fake_tsend(tally_endpoint_t *endpoint, uint64_t tag,
                                 const void *buffer, size_t bytes,
                                 tally_request_t *request)
{
    tally_transport_t *transport = endpoint->transport;
    const struct fake_options *options = &transport->network->options;

    if (bytes > options->message_max)
        return core_fail(TALLY_ERR_INVALID, "%zu bytes", bytes);
    if (endpoint->peer == options->refusing)
        return core_fail(TALLY_ERR_PEER, "the endpoint was closed");
    struct send *send = allocate(sizeof(*send) + bytes);
    *send = (struct send){
        .destination = endpoint->peer,
        .countdown =
            random_below(&transport->random, options->send_delay_max + 1),
        .tag = tag,
        .buffer = buffer,
        .bytes = bytes,
        .request = request,
    };
    request->status = TALLY_NOT_YET;
    transport->counts.sent++;
    if (send_at_once(transport, send))
        free(send);
    else
        list_append(&transport->sends, &send->link);
    return TALLY_OK;
}

static tally_status_t fake_trecv(tally_transport_t *transport, uint64_t tag,
                                 void *buffer, size_t bytes,
                                 tally_request_t *request)
{
    if (transport->rank == transport->network->options.deaf)
        return core_fail(TALLY_ERR_TRANSPORT, "no more receives");
    struct receive *receive = allocate(sizeof(*receive));
    *receive = (struct receive){
        .tag = tag, .buffer = buffer, .room = bytes, .request = request};
    request->status = TALLY_NOT_YET;
    list_append(&transport->receives, &receive->link);
    transport->counts.posted++;
    return TALLY_OK;
}

// -------------------------------------------------------------- progress

static bool send_waits(const tally_transport_t *transport,
                       const struct send *send)
{
    if (transport->rank == transport->network->options.silent ||
        send->countdown > 0)
        return true;
    for (const struct link *at = transport->sends; at != &send->link;
         at = at->next) {
        const struct send *before = (const struct send *)at;

        if (!before->read && before->destination == send->destination)
            return true;
    }
    return false;
}

static int sends_progress(tally_transport_t *transport)
{
    int events = 0;

    for (struct link **at = &transport->sends; *at != NULL;) {
        struct send *send = (struct send *)*at;

        if (send->countdown > 0)
            send->countdown--;
        if (!send->read && !send_waits(transport, send))
            send_read(transport, send);
        if (!send->read || send->countdown > 0) {
            at = &send->link.next;
            continue;
        }
        *at = send->link.next;
        send_complete(transport, send);
        free(send);
        events++;
    }
    return events;
}

static bool message_waits(const struct inbox *inbox,
                          const struct message *message)
{
    if (message->countdown > 0)
        return true;
    for (const struct link *at = inbox->messages; at != &message->link;
         at = at->next)
        if (((const struct message *)at)->source == message->source)
            return true;
    return false;
}

static void inbox_empty(tally_transport_t *transport)
{
    struct inbox *inbox = &transport->network->inboxes[transport->rank];

    pthread_mutex_lock(&inbox->lock);
    for (struct link **at = &inbox->messages; *at != NULL;) {
        struct message *message = (struct message *)*at;

        if (message->countdown > 0)
            message->countdown--;
        if (message_waits(inbox, message)) {
            at = &message->link.next;
            continue;
        }
        *at = message->link.next;
        list_append(&transport->arrived, &message->link);
    }
    pthread_mutex_unlock(&inbox->lock);
}

static void receive_complete(tally_transport_t *transport,
                             const struct receive *receive,
                             const struct message *message)
{
    bool fits = message->bytes <= receive->room;

    memcpy(receive->buffer, message->data,
           fits ? message->bytes : receive->room);
    receive->request->bytes = (uint32_t)message->bytes;
    receive->request->status = fits ? TALLY_OK : TALLY_ERR_TRANSPORT;
    transport->counts.posted--;
    transport->counts.late += receive->cancelled;
}

static bool message_deliver(tally_transport_t *transport,
                            const struct message *message)
{
    for (struct link **at = &transport->receives; *at != NULL;
         at = &(*at)->next) {
        struct receive *receive = (struct receive *)*at;

        if (receive->tag != message->tag)
            continue;
        *at = receive->link.next;
        receive_complete(transport, receive, message);
        free(receive);
        return true;
    }
    return false;
}

static int receives_progress(tally_transport_t *transport)
{
    int events = 0;

    inbox_empty(transport);
    for (struct link **at = &transport->arrived; *at != NULL;) {
        struct message *message = (struct message *)*at;

        if (!message_deliver(transport, message)) {
            at = &message->link.next;
            continue;
        }
        *at = message->link.next;
        free(message);
        events++;
    }
    return events;
}

static void cancelled_complete(tally_transport_t *transport)
{
    for (struct link **at = &transport->receives; *at != NULL;) {
        struct receive *receive = (struct receive *)*at;

        if (!receive->cancelled) {
            at = &receive->link.next;
            continue;
        }
        *at = receive->link.next;
        receive->request->status = TALLY_ERR_TRANSPORT;
        transport->counts.posted--;
        free(receive);
    }
}

static int fake_progress(tally_transport_t *transport)
{
    int events = sends_progress(transport) + receives_progress(transport);

    if (!transport->network->options.keeps_cancelled)
        cancelled_complete(transport);
    return events;
}

static void fake_cancel(tally_transport_t *transport, tally_request_t *request)
{
    for (struct link *at = transport->receives; at != NULL; at = at->next) {
        struct receive *receive = (struct receive *)at;

        if (receive->request == request)
            receive->cancelled = true;
    }
}

static tally_status_t fake_wait_fd(tally_transport_t *transport, int *fd)
{
    (void)transport;
    (void)fd;
    return TALLY_ERR_UNSUPPORTED;
}

// -------------------------------------------------------------- network

struct fake_network *fake_network_create(int32_t size,
                                         const struct fake_options *options)
{
    struct fake_network *network =
        allocate(sizeof(*network) + (size_t)size * sizeof(struct inbox));

    network->size = size;
    network->options = *options;
    network->ops = (struct tally_transport_ops){
        .size = sizeof(network->ops),
        .abi = TALLY_TRANSPORT_ABI,
        .kind = TALLY_TAGGED_P2P,
        .name = "fake",
        .version = "fake 1",
        .open = fake_open,
        .close = fake_close,
        .address = fake_address,
        .connect = fake_connect,
        .tsend = fake_tsend,
        .trecv = fake_trecv,
        .progress = fake_progress,
        .cancel = fake_cancel,
        .wait_fd = fake_wait_fd,
        .message_max = options->message_max,
    };
    for (int32_t i = 0; i < size; i++)
        pthread_mutex_init(&network->inboxes[i].lock, NULL);
    return network;
}

void fake_network_free(struct fake_network *network)
{
    for (int32_t i = 0; i < network->size; i++) {
        list_free(&network->inboxes[i].messages);
        pthread_mutex_destroy(&network->inboxes[i].lock);
    }
    free(network);
}

const struct tally_transport_ops *
fake_network_ops(const struct fake_network *network)
{
    return &network->ops;
}

tally_transport_t *fake_network_open(struct fake_network *network, int32_t rank)
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
    tally_transport_t *transport = NULL;

    fake_open(&host, &params, &transport);
    return transport;
}

struct fake_counts fake_transport_counts(const tally_transport_t *transport)
{
    return transport->counts;
}

// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer target: the leaders' side of an all-reduce under messages of any
// length, content and order, and a transport that fails at will. Whatever
// comes, no memory is harmed, and a reduction in which a message was not what
// its receive is for does not end well.
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collective/leaders.h"
#include "collective/schedule.h"
#include "numeric/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

#define SIZE_MAX_RANKS 9
#define PENDING_MAX 256
#define MOVES_MAX 4000
#define REDUCTIONS 3
// Of a message, before its lanes: magic, sender, sequence (leaders.c).
#define HEAD_BYTES 16

struct receive {
    uint64_t tag;
    void *buffer;
    size_t room;
    tally_request_t *request; // NULL: taken
};

// The hostile transport: what it does comes from the input.
struct tally_transport {
    const uint8_t *input;
    size_t left;
    struct receive pending[PENDING_MAX];
    size_t pending_count;
    tally_request_t *sends[PENDING_MAX];
    size_t send_count;
    bool spoilt; // a message of this reduction
};

// Of a peer; nothing is known of it.
struct tally_endpoint {
    tally_transport_t *transport;
};

static uint8_t next_byte(tally_transport_t *transport)
{
    if (transport->left == 0)
        return 0;
    transport->left--;
    return *transport->input++;
}

static tally_status_t hostile_connect(tally_transport_t *transport,
                                      int32_t peer, const void *address,
                                      size_t bytes, tally_endpoint_t **out)
{
    static tally_endpoint_t endpoint;

    (void)peer;
    (void)address;
    (void)bytes;
    endpoint.transport = transport;
    if (next_byte(transport) == 0xff)
        return TALLY_ERR_TRANSPORT;
    *out = &endpoint;
    return TALLY_OK;
}

// Completes at once, later, or never; or is refused.
static tally_status_t hostile_send(tally_endpoint_t *endpoint, uint64_t tag,
                                   const void *buffer, size_t bytes,
                                   tally_request_t *request)
{
    tally_transport_t *transport = endpoint->transport;
    uint8_t way = next_byte(transport);
    volatile uint8_t read = ((const uint8_t *)buffer)[bytes - 1];

    (void)tag;
    (void)read;
    if (way == 0xff)
        return TALLY_ERR_TRANSPORT;
    if (way >= 0x80 && transport->send_count < PENDING_MAX)
        transport->sends[transport->send_count++] = request;
    else
        request->status = TALLY_OK;
    return TALLY_OK;
}

static tally_status_t hostile_receive(tally_transport_t *transport,
                                      uint64_t tag, void *buffer, size_t bytes,
                                      tally_request_t *request)
{
    if (transport->pending_count == PENDING_MAX)
        return TALLY_ERR_TRANSPORT;
    transport->pending[transport->pending_count++] =
        (struct receive){tag, buffer, bytes, request};
    return TALLY_OK;
}

// One message into one of the receives: a good one for its tag, of which the
// input may then change a byte, the length or the status.
static void deliver(tally_transport_t *transport)
{
    struct receive *receive =
        &transport->pending[next_byte(transport) % transport->pending_count];
    uint8_t way = next_byte(transport);
    uint8_t *message = receive->buffer;
    uint32_t head[4] = {0x54616c31u, (uint32_t)receive->tag & 0x3fffff,
                        (uint32_t)(receive->tag >> 28) & 0xfffff, 0};

    if (receive->request == NULL)
        return;
    memset(message, 0, receive->room);
    memcpy(message, head, HEAD_BYTES);
    for (size_t i = HEAD_BYTES; i < receive->room && (way & 1) != 0; i++)
        message[i] = next_byte(transport);
    if ((way & 6) == 6)
        message[next_byte(transport) % receive->room] ^= next_byte(transport);
    receive->request->bytes = (uint32_t)receive->room;
    if ((way & 24) == 24)
        receive->request->bytes = next_byte(transport) * 7u;
    receive->request->status =
        (way & 0xe0) == 0xe0 ? TALLY_ERR_TRANSPORT : TALLY_OK;
    if (memcmp(message, head, HEAD_BYTES) != 0 ||
        receive->request->bytes != receive->room ||
        receive->request->status != TALLY_OK)
        transport->spoilt = true;
    receive->request = NULL;
}

static int hostile_progress(tally_transport_t *transport)
{
    if (transport->send_count > 0 && (next_byte(transport) & 1) != 0)
        transport->sends[--transport->send_count]->status =
            (next_byte(transport) & 7) == 7 ? TALLY_ERR_TRANSPORT : TALLY_OK;
    if (transport->pending_count > 0)
        deliver(transport);
    return 1;
}

// As some libraries do, or the memory stays quarantined.
static void hostile_cancel(tally_transport_t *transport,
                           tally_request_t *request)
{
    if (next_byte(transport) < 0x80)
        request->status = TALLY_ERR_TRANSPORT;
}

static const tally_transport_ops_t ops = {
    .size = sizeof(ops),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_TAGGED_P2P,
    .name = "hostile",
    .version = "1",
    .connect = hostile_connect,
    .tsend = hostile_send,
    .trecv = hostile_receive,
    .progress = hostile_progress,
    .cancel = hostile_cancel,
    .message_max = 65536,
};

// Until the reduction ends or nothing can come any more.
static tally_status_t reduce(struct leaders *leaders,
                             tally_transport_t *transport, uint64_t sequence,
                             int64_t *lanes)
{
    tally_status_t status = TALLY_NOT_YET;

    leaders_start(leaders, sequence);
    for (int i = 0; i < MOVES_MAX && status == TALLY_NOT_YET; i++) {
        status = leaders_progress(leaders, lanes);
        assert(status == TALLY_OK || status < 0 || status == TALLY_NOT_YET);
        assert(leaders_awaited(leaders) < SIZE_MAX_RANKS);
        if (status == TALLY_NOT_YET && transport->left == 0)
            break;
        hostile_progress(transport);
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
    static int32_t ranks[SIZE_MAX_RANKS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    static uint64_t address_bytes[SIZE_MAX_RANKS];
    static unsigned char addresses[SIZE_MAX_RANKS];
    const struct links_directory directory = {SIZE_MAX_RANKS, ranks,
                                              address_bytes, addresses, 1};
    tally_transport_t transport = {.input = input, .left = bytes};
    struct leaders *leaders = NULL;
    struct links *links = NULL;
    pid_t no_pid = 0;

    if (bytes < 8)
        return 0;
    int32_t size = 2 + next_byte(&transport) % (SIZE_MAX_RANKS - 1);
    int32_t rank = next_byte(&transport) % size;
    uint32_t records = 1 + next_byte(&transport) % 3;
    uint32_t max_lanes = next_byte(&transport) % 3;
    struct topology topology = {
        .rank = rank,
        .size = size,
        .node = rank,
        .node_count = size,
        .node_of = ranks,
        .leader_of = ranks,
        .local_size = 1,
        .local_ranks = &ranks[rank],
        .local_pids = &no_pid,
    };
    assert(links_create_listed(&ops, &transport, &directory, &links) ==
           TALLY_OK);
    const struct allreduce_params params = {
        .topology = &topology,
        .links = links,
        .records = records,
        .max_lanes = max_lanes,
        .radix = next_byte(&transport) % 5 == 1 ? 2 : 0,
    };
    assert(leaders_create(&params, &leaders) == TALLY_OK);
    int64_t *lanes =
        calloc(records * NUMERIC_LANES + max_lanes, sizeof(*lanes));
    assert(lanes != NULL);
    for (uint64_t sequence = 1; sequence <= REDUCTIONS; sequence++) {
        transport.pending_count = 0;
        transport.spoilt = false;
        if (reduce(leaders, &transport, sequence, lanes) != TALLY_OK)
            break;
        assert(!transport.spoilt);
    }
    leaders_free(leaders);
    links_free(links);
    free(lanes);
    return 0;
}

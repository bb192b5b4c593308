// SPDX-License-Identifier: BSD-3-Clause
// See packets.h.
#include "replica/loop/packets.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// Under way an incarnation; what comes on top is lost, and sent again by who
// needs it.
#define SENDS 24

struct replica_packet_bank {
    struct replica_packet_bank *next;
    bool taken;
    struct replica_packet sends[SENDS];
};

void replica_packet_banks_free(struct replica_packet_bank *banks)
{
    while (banks != NULL) {
        struct replica_packet_bank *bank = banks;
        banks = bank->next;
        free(bank);
    }
}

static bool all_are_free(const struct replica_packet_bank *bank)
{
    for (int i = 0; i < SENDS; i++)
        if (!replica_packet_is_free(&bank->sends[i]))
            return false;
    return true;
}

static struct replica_packet_bank *take_bank(struct replica_packet_bank **banks)
{
    struct replica_packet_bank *bank = *banks;

    while (bank != NULL && (bank->taken || !all_are_free(bank)))
        bank = bank->next;
    if (bank == NULL) {
        bank = calloc(1, sizeof(*bank));
        if (bank == NULL)
            return NULL;
        bank->next = *banks;
        *banks = bank;
    }
    bank->taken = true;
    return bank;
}

static void drop_bank(struct replica_packet_bank *bank,
                      const tally_transport_ops_t *ops,
                      tally_transport_t *transport)
{
    if (bank == NULL)
        return;
    bank->taken = false;
    for (int i = 0; i < SENDS; i++)
        if (!replica_packet_is_free(&bank->sends[i]))
            ops->cancel(transport, &bank->sends[i].request);
}

void replica_packet_queue_begin(struct replica_packet_queue *queue,
                                struct replica_packet_bank **banks,
                                const tally_transport_ops_t *ops,
                                tally_transport_t *transport)
{
    queue->packet = NULL;
    drop_bank(queue->bank, ops, transport);
    queue->bank = take_bank(banks);
}

bool replica_packet_queue_fits(const struct replica_packet_queue *queue,
                               size_t length)
{
    return queue->packet == NULL ||
           queue->filled + REPLICA_PACKET_LENGTH_BYTES + length <=
               REPLICA_PACKET_MAX;
}

static bool begin_packet(struct replica_packet_queue *queue)
{
    for (int i = 0; i < SENDS && queue->packet == NULL; i++)
        if (replica_packet_is_free(&queue->bank->sends[i]))
            queue->packet = &queue->bank->sends[i];
    queue->filled = 0;
    return queue->packet != NULL;
}

bool replica_packet_queue_add(struct replica_packet_queue *queue,
                              const uint8_t *bytes, size_t length)
{
    assert(length <= REPLICA_MESSAGE_MAX);
    assert(replica_packet_queue_fits(queue, length));
    if (queue->bank == NULL || (queue->packet == NULL && !begin_packet(queue)))
        return false;
    uint8_t *to = queue->packet->bytes + queue->filled;
    to[0] = (uint8_t)length;
    to[1] = (uint8_t)(length >> 8);
    memcpy(to + REPLICA_PACKET_LENGTH_BYTES, bytes, length);
    queue->filled += REPLICA_PACKET_LENGTH_BYTES + length;
    return true;
}

bool replica_packet_queue_post(struct replica_packet_queue *queue,
                               const tally_transport_ops_t *ops,
                               tally_endpoint_t *endpoint, uint64_t tag)
{
    struct replica_packet *packet = queue->packet;

    packet->posted = endpoint != NULL &&
                     ops->tsend(endpoint, tag, packet->bytes, queue->filled,
                                &packet->request) == TALLY_OK;
    queue->packet = NULL;
    return packet->posted;
}

const uint8_t *replica_packet_take(const uint8_t **at, size_t *rest,
                                   size_t *length)
{
    if (*rest <= REPLICA_PACKET_LENGTH_BYTES)
        return NULL;
    const uint8_t *message = *at + REPLICA_PACKET_LENGTH_BYTES;
    *length = (*at)[0] | (size_t)(*at)[1] << 8;
    if (*length > *rest - REPLICA_PACKET_LENGTH_BYTES)
        return NULL;
    *at = message + *length;
    *rest -= REPLICA_PACKET_LENGTH_BYTES + *length;
    return message;
}

// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer target: the messages of replica groups. Whatever the decoder takes,
// the encoder gives back to the byte; and a state machine that hears it, at
// whatever place, keeps its assertions.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/replica_position.h"
#include "replica/message.h"
#include "replica/replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

#define RECORDS 1

// The first byte says who hears it, and whether it knows where the job is.
static void hear(uint8_t who, const uint8_t *bytes, size_t length)
{
    struct replica_position position = two_and_a_witness();
    struct replica_params params = {
        .self = {who % 3, 0, 1u + who % 3},
        .witness = who % 3 == 2,
        .records = RECORDS,
        .minimum = 1,
        .attempts = 3,
        .position = who < 128 ? &position : NULL,
        .peers = 7,
        .decide_after_us = 10,
        .apply_after_us = 100,
        .stagger_us = 10,
        .retry_us = 1000,
        .idle_us = 1000,
    };
    struct replica_event event = {
        .kind = REPLICA_EVENT_MESSAGE, .bytes = bytes, .length = length};
    const struct replica_event timer = {.kind = REPLICA_EVENT_TIMER};
    void *memory = malloc(replica_memory());
    size_t count;

    assert(memory != NULL);
    struct replica *replica = replica_open(memory, &params);
    replica_handle(replica, &event, 1, &count);
    replica_handle(replica, &event, 2, &count);
    replica_handle(replica, &timer, 5000, &count);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
    struct replica_message message;
    uint8_t again[REPLICA_MESSAGE_MAX];

    if (bytes < 1)
        return 0;
    if (replica_message_decode(input + 1, bytes - 1, RECORDS, &message)) {
        size_t length = replica_message_encode(&message, RECORDS, again);
        assert(length == bytes - 1);
        assert(memcmp(again, input + 1, length) == 0);
    }
    hear(input[0], input + 1, bytes - 1);
    return 0;
}

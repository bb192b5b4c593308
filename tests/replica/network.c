// SPDX-License-Identifier: BSD-3-Clause
// How messages travel: late, twice, not at all, out of order, and now and then
// damaged.
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_DELAY_US 40 // inside a replica
#define SLOW_US 4000
#define DAMAGED_PPM 1000
#define TWO_DIGESTS_PPM 1000

bool world_reaches(const struct world *world, uint16_t from, uint16_t to)
{
    return world->cut_until[from][to] <= world->now;
}

// Where the layout of message.c has what is damaged.
#define AT_KIND 1
#define AT_BODY 52
#define AT_ENTRY_RECORDS (AT_BODY + 20) // of an entry without a proposal

// What a stranger or a broken sender might send instead: nothing that could be
// taken for another message of this job.
static void damage(struct world *world, uint8_t *bytes, size_t *length)
{
    static const uint8_t everywhere[] = {0, 2, 4, 28, 44}; // see walk_message
    uint8_t kind = bytes[AT_KIND];
    size_t all = sizeof(everywhere);

    switch (world_between(world, 0, 9)) {
    case 0:
        bytes[AT_KIND] = (uint8_t)(world_between(world, 0, 1) * UINT8_MAX);
        break;
    case 1:
        bytes[12] = REPLICA_PEERS_MAX; // the sender
        break;
    case 2:
        bytes[(*length)++] = 0; // there is room for it
        break;
    case 3:
        *length = (size_t)world_between(world, 0, (int64_t)*length - 1);
        break;
    case 4:
    case 5:
    case 6:
        if (kind == REPLICA_ENTRY) // replica, incarnation, applied_through
            bytes[AT_BODY +
                  (uint8_t[]){0, 2, 10}[world_between(world, 0, 2)]]++;
        else if (kind == REPLICA_VOTE)
            bytes[AT_BODY + 26]++; // the value's digest
        else if (kind == REPLICA_DECISION)
            bytes[AT_BODY + 10]++;
        else if (kind == REPLICA_POSITION)
            bytes[AT_BODY + 24] += (uint8_t)world_between(world, 7, 8);
        else
            *length -= 1;
        break;
    case 7:
        if (kind == REPLICA_ENTRY && bytes[AT_BODY + 19] == 0)
            bytes[AT_ENTRY_RECORDS + // lanes are not canonical
                  (uint8_t[]){8 + 7, 24 + 7, 56}[world_between(world, 0, 2)]] =
                1;
        else if (kind == REPLICA_POSITION)
            bytes[*length - 28] = 1; // amid an index
        else
            bytes[0]++;
        break;
    default:
        bytes[everywhere[world_between(world, 0, (int64_t)all - 1)]]++;
        break;
    }
}

static void send_one(struct world *world, uint16_t from, uint16_t to,
                     const struct replica_action *action)
{
    const struct config *config = world->config;
    bool lossy = world->now < world->loss_until;
    uint16_t to_peer = to % SIM_PEERS;
    uint16_t from_peer = from % SIM_PEERS;
    int copies = 1;

    world->tally.messages++;
    if (!world_reaches(world, from_peer, to_peer))
        return;
    if (!world->healed) {
        if (world_chance(world, lossy ? 400000 : config->loss_ppm))
            copies = 0;
        if (world_chance(world, lossy ? 200000 : config->duplicate_ppm))
            copies++;
    }
    while (copies-- > 0) {
        int64_t delay = config->delay_us;
        if (config->jitter_us > 0)
            delay += world_between(world, 0, config->jitter_us);
        if (lossy && !world->healed)
            delay += world_between(world, 0, 30000);
        if (from_peer == to_peer)
            delay = LOCAL_DELAY_US;
        if (world->now < world->processes[from].slow_until ||
            world->now < world->processes[to].slow_until)
            delay += world_between(world, 0, SLOW_US);
        struct happening *arrives =
            world_schedule(world, delay, HAPPENS_MESSAGE, to);
        arrives->bytes = malloc(action->length + 1);
        assert(arrives->bytes != NULL);
        memcpy(arrives->bytes, action->bytes, action->length);
        arrives->length = action->length;
        // A new process may listen at the old one's address.
        arrives->generation = UINT32_MAX;
        if (!world->healed && world_chance(world, DAMAGED_PPM))
            damage(world, arrives->bytes, &arrives->length);
    }
}

void network_send(struct world *world, uint16_t from,
                  const struct replica_action *action)
{
    for (uint64_t rest = action->peers; rest != 0; rest &= rest - 1) {
        uint16_t to = (uint16_t)__builtin_ctzll(rest);
        if (to < world->peers)
            send_one(world, from,
                     (uint16_t)(to + (action->rank == 0 ? 0 : SIM_PEERS)),
                     action);
    }
}

// A replica whose shard reduce is not the same everywhere: an acceptor that
// holds its entry gets another one.
static void give_two_digests(struct world *world, struct happening *happening)
{
    const struct replica *node = world->processes[happening->process].node;
    uint8_t *bytes = happening->bytes;
    struct replica_message message;

    if (world->healed || !world_chance(world, TWO_DIGESTS_PPM) ||
        !replica_message_decode(bytes, happening->length,
                                world->config->records, &message) ||
        message.kind != REPLICA_ENTRY || message.entry.has_proposal ||
        message.previous != node->at.previous ||
        (node->table.held & replica_bit(message.entry.replica)) == 0)
        return;
    bytes[AT_ENTRY_RECORDS]++;
    world->two_digests = true;
}

void network_deliver(struct world *world, struct happening *happening)
{
    struct replica_event event = {.kind = REPLICA_EVENT_MESSAGE,
                                  .bytes = happening->bytes,
                                  .length = happening->length};

    give_two_digests(world, happening);
    world_handle(world, happening->process, &event);
    world->two_digests = false;
}

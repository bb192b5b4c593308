// SPDX-License-Identifier: BSD-3-Clause
// See peers.h.
#include "replica/loop/peers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/park.h"
#include "replica/loop/head.h"
#include "replica/loop/packets.h"

// Packets, posted a peer: a decision brings an entry, a vote and what a leader
// asks.
#define RECEIVES 6
// An endpoint that broke is made anew, not more often than this, and ever more
// seldom while nothing is heard.
#define RECONNECT_US 300000
#define RECONNECT_DOUBLINGS 6
// Tags of this kind alone are on the transport; they name who sends.
#define TAG_OF_PEER(peer) ((uint64_t)0x7a11 << 48 | (uint64_t)(peer))

struct heartbeat {
    uint64_t magic;
    uint64_t incarnation;
    struct replica_peers_beat beat;
};
#define HEARTBEAT_MAGIC 0x7461656274726168u // "hartbeat"

struct peer {
    bool known;
    bool refused; // its layout or transport is another
    uint64_t incarnation;
    uint8_t address[REPLICA_ADDRESS_BYTES_MAX];
    size_t address_bytes;
    tally_endpoint_t *endpoint;
    int64_t connected_us;
    int connects; // since it was heard
    bool broken;  // the endpoint
    bool hinted;  // by the transport, since it was last heard
    bool gone;    // its process has ended
    int pidfd;
    int64_t heard_us;
    struct replica_peers_beat beat; // of this incarnation; zeros: none yet
    struct replica_packet_queue queue;
    struct replica_packet receives[RECEIVES];
};

struct replica_peers {
    struct replica_peers_params params;
    int64_t now_us;
    int64_t beat_us;                // of the next heartbeat
    int64_t late_us;                // who is late next; INT64_MAX: nobody
    struct replica_peers_beat beat; // that goes out
    uint64_t unsent;                // peers whose packet goes at the flush
    uint64_t held;                  // peers whose packet may wait
    uint64_t heard;                 // the peer whose packet is being taken
    struct peer *peers;
    struct replica_packet_bank *banks;
};

static void post_receive(struct replica_peers *peers, uint16_t from,
                         struct replica_packet *packet)
{
    const struct replica_peers_params *params = &peers->params;

    packet->posted =
        params->ops->trecv(params->transport, TAG_OF_PEER(from), packet->bytes,
                           sizeof(packet->bytes), &packet->request) == TALLY_OK;
}

tally_status_t replica_peers_create(const struct replica_peers_params *params,
                                    struct replica_peers **out)
{
    struct replica_peers *peers = calloc(1, sizeof(*peers));

    assert(params->count <= REPLICA_PEERS_MAX);
    assert(params->ops->message_max >= REPLICA_PACKET_MAX);
    if (peers != NULL)
        peers->peers = calloc(params->count, sizeof(*peers->peers));
    if (peers == NULL || peers->peers == NULL) {
        free(peers);
        return core_fail(TALLY_ERR_MEMORY, "no memory for %u peers",
                         (unsigned)params->count);
    }
    peers->params = *params;
    for (uint16_t i = 0; i < params->count; i++) {
        peers->peers[i].pidfd = -1;
        for (int r = 0; i != params->self.peer && r < RECEIVES; r++)
            post_receive(peers, i, &peers->peers[i].receives[r]);
    }
    *out = peers;
    return TALLY_OK;
}

static void unwatch(struct peer *peer)
{
    if (peer->pidfd >= 0)
        close(peer->pidfd);
    peer->pidfd = -1;
}

void replica_peers_free(struct replica_peers *peers)
{
    if (peers == NULL)
        return;
    for (uint32_t i = 0; i < peers->params.count; i++)
        unwatch(&peers->peers[i]);
    replica_packet_banks_free(peers->banks);
    free(peers->peers);
    free(peers);
}

tally_status_t replica_peers_address(struct replica_peers *peers, void *address,
                                     size_t *bytes)
{
    const struct replica_peers_params *params = &peers->params;
    struct peer_head head;
    size_t rest = *bytes - sizeof(head);

    if (*bytes < sizeof(head))
        return core_fail(TALLY_ERR_MEMORY, "no room for an address");
    peer_head_write(&head, params);
    tally_status_t status = params->ops->address(
        params->transport, (uint8_t *)address + sizeof(head), &rest);
    if (status != TALLY_OK)
        return status;
    memcpy(address, &head, sizeof(head));
    *bytes = sizeof(head) + rest;
    return TALLY_OK;
}

// Whether we can talk to it; says why not, once an incarnation.
static bool check_head(const struct replica_peers *peers, uint16_t peer,
                       const struct peer_head *head, size_t bytes)
{
    const char *why = peer_head_refusal(head, bytes, &peers->params);

    if (why != NULL)
        core_log(peers->params.log, TALLY_LOG_ERROR,
                 "replica peer %u is not talked to: %s", (unsigned)peer, why);
    return why == NULL;
}

static void nothing_waits(struct replica_peers *peers, uint16_t number)
{
    peers->unsent &= ~replica_bit(number);
    peers->held &= ~replica_bit(number);
}

void replica_peers_know(struct replica_peers *peers, uint16_t number,
                        uint64_t incarnation, const void *address, size_t bytes,
                        int64_t now_us)
{
    struct peer *peer = &peers->peers[number];
    struct peer_head head = {0};

    if (number >= peers->params.count || number == peers->params.self.peer ||
        (peer->known && incarnation <= peer->incarnation))
        return;
    if (bytes >= sizeof(head))
        memcpy(&head, address, sizeof(head));
    unwatch(peer);
    peer->known = true;
    peer->refused = !check_head(peers, number, &head, bytes);
    peer->incarnation = incarnation;
    peer->endpoint = NULL; // the transport closes it
    peer->connected_us = 0;
    peer->connects = 0;
    peer->broken = false;
    peer->hinted = false;
    peer->gone = false;
    peer->heard_us = now_us;
    peer->beat = (struct replica_peers_beat){0};
    nothing_waits(peers, number);
    replica_packet_queue_begin(&peer->queue, &peers->banks, peers->params.ops,
                               peers->params.transport);
    if (peer->refused)
        return;
    if (peers->params.layout == 0 && head.layout != 0) {
        peers->params.layout = head.layout;
        peers->params.records = (uint32_t)head.records;
    }
    peer->address_bytes = bytes - sizeof(head);
    memcpy(peer->address, (const uint8_t *)address + sizeof(head),
           peer->address_bytes);
    peer->pidfd = process_identity_watch(&head.process, &peer->gone);
}

static bool connect_to(struct replica_peers *peers, uint16_t number)
{
    const struct replica_peers_params *params = &peers->params;
    struct peer *peer = &peers->peers[number];

    if (peer->endpoint != NULL && !peer->broken)
        return true;
    if (!peer->known || peer->refused || peer->gone ||
        (peer->connected_us != 0 &&
         peers->now_us <
             peer->connected_us + ((int64_t)RECONNECT_US << peer->connects)))
        return false;
    peer->connected_us = peers->now_us;
    if (peer->connects < RECONNECT_DOUBLINGS)
        peer->connects++;
    peer->endpoint = NULL;
    peer->broken =
        params->ops->connect(params->transport, number, peer->address,
                             peer->address_bytes, &peer->endpoint) != TALLY_OK;
    return !peer->broken;
}

static void post_packet(struct replica_peers *peers, uint16_t number)
{
    const struct replica_peers_params *params = &peers->params;
    struct peer *peer = &peers->peers[number];
    tally_endpoint_t *endpoint =
        peer->broken || park_silences() ? NULL : peer->endpoint;

    if (!replica_packet_queue_post(&peer->queue, params->ops, endpoint,
                                   TAG_OF_PEER(params->self.peer))) {
        peer->broken = true;
        peer->hinted = true;
    }
    nothing_waits(peers, number);
}

// Returns whether there is a packet that it is in.
static bool fill(struct replica_peers *peers, uint16_t number,
                 const uint8_t *bytes, size_t length)
{
    const struct replica_peers_params *params = &peers->params;
    struct replica_packet_queue *queue = &peers->peers[number].queue;

    if (number >= params->count || number == params->self.peer ||
        park_silences() || !connect_to(peers, number))
        return false;
    if (!replica_packet_queue_fits(queue, length))
        post_packet(peers, number);
    return replica_packet_queue_add(queue, bytes, length);
}

void replica_peers_send(struct replica_peers *peers, uint16_t number,
                        const uint8_t *bytes, size_t length)
{
    if (fill(peers, number, bytes, length))
        peers->unsent |= replica_bit(number);
}

void replica_peers_hold(struct replica_peers *peers, uint16_t number,
                        const uint8_t *bytes, size_t length)
{
    if (fill(peers, number, bytes, length))
        peers->held |= replica_bit(number);
}

bool replica_peers_holds(const struct replica_peers *peers)
{
    return peers->held != 0;
}

void replica_peers_release(struct replica_peers *peers)
{
    peers->unsent |= peers->held;
    replica_peers_flush(peers);
}

static void post_packets(struct replica_peers *peers, uint64_t to)
{
    for (; to != 0; to &= to - 1)
        post_packet(peers, (uint16_t)__builtin_ctzll(to));
}

void replica_peers_flush(struct replica_peers *peers)
{
    // Who is answered waits for it; others may not.
    post_packets(peers, peers->unsent & peers->heard);
    post_packets(peers, peers->unsent);
}

// Returns whether it is a word of the present incarnation.
static bool take_message(struct replica_peers *peers, uint16_t from,
                         const uint8_t *bytes, size_t length)
{
    struct peer *peer = &peers->peers[from];
    struct heartbeat beat;

    if (length != sizeof(beat)) {
        peers->params.receive(peers->params.context, bytes, length);
        return true;
    }
    memcpy(&beat, bytes, sizeof(beat));
    if (beat.magic != HEARTBEAT_MAGIC || !peer->known ||
        beat.incarnation != peer->incarnation)
        return false;
    peer->beat = beat.beat;
    return true;
}

static void take(struct replica_peers *peers, uint16_t from,
                 const struct replica_packet *packet)
{
    struct peer *peer = &peers->peers[from];
    const uint8_t *at = packet->bytes;
    size_t rest = packet->request.bytes;
    const uint8_t *message;
    size_t length;
    bool heard = false;

    if (packet->request.status != TALLY_OK)
        return;
    peers->heard = replica_bit(from);
    while ((message = replica_packet_take(&at, &rest, &length)) != NULL)
        heard |= take_message(peers, from, message, length);
    peers->heard = 0;
    if (!heard)
        return;
    peer->heard_us = peers->now_us;
    peer->hinted = false;
    peer->connects = 0;
}

void replica_peers_progress(struct replica_peers *peers, int64_t now_us)
{
    peers->now_us = now_us;
    for (uint16_t from = 0; from < peers->params.count; from++) {
        if (from == peers->params.self.peer)
            continue;
        for (int i = 0; i < RECEIVES; i++) {
            struct replica_packet *packet = &peers->peers[from].receives[i];
            if (!replica_packet_is_free(packet))
                continue;
            if (packet->posted)
                take(peers, from, packet);
            post_receive(peers, from, packet);
        }
    }
}

// The last moment at which it may be silent.
static int64_t limit_of(const struct replica_peers *peers,
                        const struct peer *peer)
{
    uint32_t allowed = peers->params.dead_after;

    if (peer->hinted && allowed > 1)
        allowed--;
    return peer->heard_us + (int64_t)allowed * peers->params.heartbeat_us;
}

static bool is_dead(const struct replica_peers *peers, struct peer *peer)
{
    if (peer->pidfd >= 0 && process_has_ended(peer->pidfd)) {
        peer->gone = true;
        unwatch(peer);
    }
    return peer->gone || peer->refused || peers->now_us > limit_of(peers, peer);
}

uint64_t replica_peers_check(struct replica_peers *peers, int64_t now_us)
{
    const struct heartbeat beat = {HEARTBEAT_MAGIC,
                                   peers->params.self.incarnation, peers->beat};
    bool beats = now_us >= peers->beat_us;
    uint64_t dead = 0;

    peers->now_us = now_us;
    if (beats)
        peers->beat_us = now_us + peers->params.heartbeat_us;
    peers->late_us = INT64_MAX;
    for (uint16_t i = 0; i < peers->params.count; i++) {
        struct peer *peer = &peers->peers[i];
        if (!peer->known)
            continue;
        if (beats)
            replica_peers_send(peers, i, (const uint8_t *)&beat, sizeof(beat));
        if (is_dead(peers, peer))
            dead |= replica_bit(i);
        else if (limit_of(peers, peer) < peers->late_us)
            peers->late_us = limit_of(peers, peer) + 1;
    }
    replica_peers_flush(peers);
    return dead;
}

int64_t replica_peers_due(const struct replica_peers *peers)
{
    return peers->beat_us < peers->late_us ? peers->beat_us : peers->late_us;
}

void replica_peers_hint(struct replica_peers *peers, uint16_t peer)
{
    if (peer >= peers->params.count)
        return;
    peers->peers[peer].hinted = true;
    peers->peers[peer].broken = true;
}

void replica_peers_beat(struct replica_peers *peers,
                        struct replica_peers_beat beat)
{
    if (memcmp(&peers->beat, &beat, sizeof(beat)) != 0)
        peers->beat_us = 0; // others wait for it
    peers->beat = beat;
}

bool replica_peers_heard(const struct replica_peers *peers, uint16_t number,
                         uint64_t *incarnation, struct replica_peers_beat *beat)
{
    const struct peer *peer = &peers->peers[number];

    if (number >= peers->params.count || !peer->known || peer->refused)
        return false;
    *incarnation = peer->incarnation;
    *beat = peer->beat;
    return true;
}

bool replica_peers_layout(const struct replica_peers *peers, uint64_t *layout,
                          uint32_t *records)
{
    *layout = peers->params.layout;
    *records = peers->params.records;
    return peers->params.layout != 0;
}

size_t replica_peers_pidfds(const struct replica_peers *peers,
                            struct pollfd *out)
{
    size_t count = 0;

    for (uint16_t i = 0; i < peers->params.count; i++)
        if (peers->peers[i].pidfd >= 0)
            out[count++] =
                (struct pollfd){.fd = peers->peers[i].pidfd, .events = POLLIN};
    return count;
}

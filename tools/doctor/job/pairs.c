// SPDX-License-Identifier: BSD-3-Clause
// See pairs.h.
#include "doctor/job/pairs.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/error.h"

// Asked so often, the least is taken.
#define ASKED_MAX 20

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int32_t pairs_slot(int32_t own, int32_t peer, int32_t count)
{
    uint32_t differs = (uint32_t)own ^ (uint32_t)peer;

    if (own == peer)
        return -1;
    if (count <= PAIRS_SLOTS)
        return peer;
    return (differs & (differs - 1)) == 0 ? __builtin_ctz(differs) : -1;
}

static void send_to(struct pairs *pairs, int32_t index, enum pairs_kind kind,
                    uint32_t number)
{
    struct pairs_peer *peer = &pairs->peers[index];

    if (peer->way == NULL || peer->failed ||
        peer->way->ops->send(peer->way, index, kind, number))
        return;
    peer->failed = true;
    if (pairs->reason[0] == '\0')
        snprintf(pairs->reason, sizeof(pairs->reason), "%s", core_error_text());
}

static void ask(struct pairs *pairs, int32_t index)
{
    struct pairs_peer *peer = &pairs->peers[index];

    peer->asked++;
    peer->asked_ns = now_ns();
    send_to(pairs, index, PAIRS_PING, peer->asked);
}

void pairs_take(struct pairs *pairs, int32_t index, enum pairs_kind kind,
                uint32_t number)
{
    struct pairs_peer *peer = &pairs->peers[index];

    switch (kind) {
    case PAIRS_PING:
        send_to(pairs, index, PAIRS_PONG, number);
        break;
    case PAIRS_PONG:
        if (number != peer->asked)
            break; // too late
        peer->answered = number;
        int64_t ns = now_ns() - peer->asked_ns;
        if (!peer->reached || ns < peer->best_ns)
            peer->best_ns = ns;
        peer->reached = true;
        break;
    case PAIRS_OVER:
        peer->over = true;
        break;
    case PAIRS_KINDS:
        break;
    }
}

static void poll_until(struct pairs *pairs,
                       bool (*done)(const struct pairs *pairs), int64_t end_us)
{
    while (!done(pairs) && clock_now_us() < end_us) {
        for (int i = 0; i < 2; i++)
            if (pairs->ways[i] != NULL)
                pairs->ways[i]->ops->poll(pairs->ways[i], pairs);
        sched_yield(); // ranks may outnumber processors
    }
}

static bool all_answered(const struct pairs *pairs)
{
    for (int32_t i = 0; i < pairs->count; i++)
        if (pairs->peers[i].way != NULL && !pairs->peers[i].reached &&
            !pairs->peers[i].failed)
            return false;
    return true;
}

static bool current_answered(const struct pairs *pairs)
{
    const struct pairs_peer *peer = &pairs->peers[pairs->current];

    return peer->answered == peer->asked || peer->failed;
}

// Who was not reached may not reach us either.
static bool all_over(const struct pairs *pairs)
{
    for (int32_t i = 0; i < pairs->count; i++)
        if (pairs->peers[i].reached && !pairs->peers[i].over &&
            !pairs->peers[i].failed)
            return false;
    return true;
}

void pairs_run(struct pairs *pairs, int64_t patience_us)
{
    int64_t begin_us = clock_now_us();

    for (int32_t i = 0; i < pairs->count; i++)
        if (pairs->peers[i].way != NULL)
            ask(pairs, i);
    poll_until(pairs, all_answered, begin_us + patience_us);
    for (int32_t i = 0; i < pairs->count; i++) {
        pairs->current = i;
        for (int k = 1; k < ASKED_MAX && pairs->peers[i].reached &&
                        current_answered(pairs);
             k++) {
            ask(pairs, i);
            poll_until(pairs, current_answered, begin_us + 2 * patience_us);
        }
    }
    for (int32_t i = 0; i < pairs->count; i++)
        if (pairs->peers[i].reached)
            send_to(pairs, i, PAIRS_OVER, 0);
    poll_until(pairs, all_over, begin_us + 3 * patience_us);
}

void pairs_row(const struct pairs *pairs, float row[PAIRS_SLOTS])
{
    for (int i = 0; i < PAIRS_SLOTS; i++)
        row[i] = PAIRS_UNTRIED;
    for (int32_t i = 0; i < pairs->count; i++) {
        const struct pairs_peer *peer = &pairs->peers[i];
        int32_t slot = pairs_slot(pairs->own, i, pairs->count);

        if (slot >= 0 && peer->way != NULL)
            row[slot] =
                peer->reached ? (float)peer->best_ns / 2000 : PAIRS_UNREACHED;
    }
}

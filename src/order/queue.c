// SPDX-License-Identifier: BSD-3-Clause
// See queue.h.
#include "order/queue.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "order/gone.h"

tally_status_t queue_create(const struct queue_params *params,
                            struct queue **out)
{
    struct queue *queue = calloc(1, sizeof(*queue));

    if (queue == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a step's queue");
    queue->lane_memory =
        calloc(QUEUE_SLOTS * params->lane_count, sizeof(int64_t));
    if (queue->lane_memory == NULL) {
        free(queue);
        return core_fail(TALLY_ERR_MEMORY, "no memory for a step's queue");
    }
    for (size_t i = 0; i < QUEUE_SLOTS; i++)
        queue->slots[i].lanes = queue->lane_memory + i * params->lane_count;
    queue->allreduce = params->allreduce;
    queue->watch = params->watch;
    queue->health = params->health;
    queue->fate = params->fate;
    queue->log = params->log;
    queue->group_key = params->group_key;
    queue->ranks = params->ranks;
    queue->rank_count = params->rank_count;
    queue->lane_count = params->lane_count;
    queue->timeout_us = params->timeout_us;
    queue->suspect = -1;
    *out = queue;
    return TALLY_OK;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    allreduce_free(queue->allreduce);
    free(queue->lane_memory);
    free(queue);
}

static struct queue_slot *slot_of(struct queue *queue, uint64_t ticket)
{
    return &queue->slots[ticket % QUEUE_SLOTS];
}

static void complete(struct queue *queue, tally_status_t status)
{
    struct queue_slot *slot = slot_of(queue, queue->completed + 1);

    slot->status = status;
    queue->active = false;
    queue->completed++;
    if (queue->completed_hook != NULL)
        queue->completed_hook(queue->completed_context, queue->completed, slot);
}

// Everything posted ends with the fate of the group.
static void end_all(struct queue *queue)
{
    queue->active = false;
    while (queue_pending(queue))
        complete(queue, queue->fate->status);
}

static void fail_group(struct queue *queue, tally_status_t status,
                       int32_t failed_rank, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void fail_group(struct queue *queue, tally_status_t status,
                       int32_t failed_rank, const char *format, ...)
{
    struct queue_fate *fate = queue->fate;
    va_list arguments;

    if (fate->status == TALLY_OK) {
        fate->status = status;
        fate->failed_rank = failed_rank;
        va_start(arguments, format);
        vsnprintf(fate->sentence, sizeof(fate->sentence), format, arguments);
        va_end(arguments);
        core_log(
            queue->log, TALLY_LOG_ERROR, "group \"%s\", epoch %llu: %s",
            queue->group_key,
            (unsigned long long)slot_of(queue, queue->completed + 1)->epoch,
            fate->sentence);
    }
    end_all(queue);
}

uint64_t queue_post(struct queue *queue, const int64_t *lanes, uint64_t epoch)
{
    assert(queue->posted - queue->completed < QUEUE_SLOTS);
    struct queue_slot *slot = slot_of(queue, ++queue->posted);

    memcpy(slot->lanes, lanes, queue->lane_count * sizeof(*lanes));
    slot->epoch = epoch;
    slot->status = TALLY_NOT_YET;
    return queue->posted;
}

void queue_take(struct queue *queue, tally_status_t status,
                const int64_t *lanes, uint64_t epoch)
{
    assert(!queue_pending(queue));
    queue_post(queue, lanes, epoch);
    complete(queue, status);
}

void queue_skip(struct queue *queue, uint64_t ticket)
{
    assert(!queue_pending(queue));
    for (size_t i = 0; i < QUEUE_SLOTS; i++)
        queue->slots[i].status = TALLY_ERR_OVERWRITTEN;
    queue->posted = ticket;
    queue->completed = ticket;
}

void queue_advance(struct queue *queue)
{
    while (queue_pending(queue)) {
        struct queue_slot *slot = slot_of(queue, queue->completed + 1);

        if (queue->fate->status != TALLY_OK) {
            end_all(queue);
            return;
        }
        if (!queue->active) {
            queue->active = true;
            queue->deadline_us = 0;
            allreduce_start(queue->allreduce, slot->lanes);
        }
        if (queue->broken)
            return;
        tally_status_t status = allreduce_progress(queue->allreduce);
        if (status == TALLY_NOT_YET)
            return;
        if (status == TALLY_ERR_PEER) {
            // The rendezvous knows better who went, and how: queue_check.
            queue->broken = true;
            snprintf(queue->broken_sentence, sizeof(queue->broken_sentence),
                     "%s", core_error_text());
            return;
        }
        if (status != TALLY_OK) {
            int32_t awaited = allreduce_awaited(queue->allreduce);
            fail_group(queue, status, awaited >= 0 ? queue->ranks[awaited] : -1,
                       "%s", core_error_text());
            return;
        }
        memcpy(slot->lanes, allreduce_result_borrow(queue->allreduce),
               queue->lane_count * sizeof(*slot->lanes));
        complete(queue, TALLY_OK);
    }
}

tally_status_t queue_arm(struct queue *queue, struct allreduce_source *out)
{
    // What is broken waits for the clock alone: queue_check.
    return queue->broken ? TALLY_ERR_UNSUPPORTED
                         : allreduce_arm(queue->allreduce, out);
}

// The rank of the group that was first to go.
static void find_suspect(struct queue *queue)
{
    uint32_t version = health_version(queue->health);

    if (version == queue->health_version)
        return;
    queue->health_version = version;
    queue->died_us = 0;
    for (int32_t i = 0; i < queue->rank_count; i++) {
        int64_t since_us;
        enum health_state state =
            health_rank(queue->health, queue->ranks[i], &since_us);
        if (state == HEALTH_PRESENT)
            continue;
        if (queue->suspect < 0 || since_us < queue->suspect_since_us) {
            queue->suspect = queue->ranks[i];
            queue->suspect_since_us = since_us;
        }
        if (state != HEALTH_LEFT &&
            (queue->died_us == 0 || since_us < queue->died_us))
            queue->died_us = since_us;
    }
}

// Who left in order had sent all that it owed to reductions that it saw end: it
// matters only if it is the one waited for. A death ends them all.
static bool is_hopeless(const struct queue *queue, int64_t now_us)
{
    int32_t awaited = allreduce_awaited(queue->allreduce);
    int64_t since_us;

    if (queue->suspect < 0)
        return false;
    if (queue->died_us != 0 && now_us >= queue->died_us + GONE_GRACE_US)
        return true;
    if (awaited < 0 || queue->broken)
        return now_us >= queue->suspect_since_us + GONE_GRACE_US;
    if (health_rank(queue->health, queue->ranks[awaited], &since_us) ==
        HEALTH_PRESENT)
        return false;
    // It may have been lost before it was known to have left.
    if (queue->ranks[awaited] == queue->suspect)
        since_us = queue->suspect_since_us;
    return now_us >= since_us + GONE_GRACE_US;
}

void queue_check(struct queue *queue, int64_t now_us)
{
    if (!queue->active)
        return;
    if (queue->deadline_us == 0)
        queue->deadline_us = now_us + queue->timeout_us;
    if (queue->watch != NULL &&
        now_us - queue->watched_us > GONE_WATCH_INTERVAL_US) {
        queue->watched_us = now_us;
        watch_check(queue->watch);
    }
    find_suspect(queue);
    if (queue->broken && queue->broken_since_us == 0)
        queue->broken_since_us = now_us;
    if (is_hopeless(queue, now_us)) {
        enum health_state state =
            health_rank(queue->health, queue->suspect, NULL);
        fail_group(queue, TALLY_ERR_PEER, queue->suspect, "rank %d %s",
                   (int)queue->suspect, gone_how(state));
        return;
    }
    if (queue->broken && now_us >= queue->broken_since_us + 2 * GONE_GRACE_US) {
        int32_t awaited = allreduce_awaited(queue->allreduce);
        fail_group(queue, TALLY_ERR_PEER,
                   awaited >= 0 ? queue->ranks[awaited] : -1, "%s",
                   queue->broken_sentence);
        return;
    }
    if (now_us >= queue->deadline_us) {
        int32_t awaited = allreduce_awaited(queue->allreduce);
        int32_t rank = awaited >= 0 ? queue->ranks[awaited] : -1;
        fail_group(queue, TALLY_ERR_TIMEOUT, rank,
                   "timed out after %g s waiting for rank %d",
                   (double)queue->timeout_us / 1e6, (int)rank);
    }
}

void queue_end(struct queue *queue, const char *why)
{
    if (queue_pending(queue))
        fail_group(queue, TALLY_ERR_DEAD, -1, "%s", why);
}

void queue_abandon(struct queue *queue, uint64_t ticket, const char *why)
{
    fail_group(queue, TALLY_ERR_TIMEOUT, -1, "%s", why);
    if (ticket <= queue->posted && ticket + QUEUE_SLOTS > queue->posted)
        slot_of(queue, ticket)->status = TALLY_ERR_TIMEOUT;
}

tally_status_t queue_result(const struct queue *queue, uint64_t ticket,
                            int64_t *lanes)
{
    const struct queue_slot *slot = &queue->slots[ticket % QUEUE_SLOTS];

    if (ticket + QUEUE_SLOTS <= queue->posted)
        return TALLY_ERR_OVERWRITTEN;
    if (slot->status == TALLY_OK)
        memcpy(lanes, slot->lanes, queue->lane_count * sizeof(*lanes));
    return slot->status;
}

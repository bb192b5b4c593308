// SPDX-License-Identifier: BSD-3-Clause
// See stream.h. Ranks decide in two rounds: who can take part, and whose
// communicator has reduced. Each says why not in the same breath.
#include "core/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/join.h"
#include "core/park.h"
#include "transport/check.h"

#define ID_BYTES_MAX 256
#define PATIENCE_PARTS 4 // of TALLY_BOOTSTRAP_TIMEOUT
#define NAP_US 50

struct group_stream {
    struct transports_entry *entry;
    tally_stream_group_t *communicator;
    struct watchdog watchdog;
};

// What a rank says before the communicator is made, and after.
struct offer {
    int32_t status; // tally_status_t: whether it can, or has
    uint32_t id_bytes;
    unsigned char id[ID_BYTES_MAX]; // of the first rank
    uint8_t adopts;                 // it was given nccl_comm
    char reason[TRANSPORTS_REASON_BYTES];
};

struct attempt {
    tally_group_t *group;
    struct group_stream *stream;
    struct offer own;
    struct offer *all; // of each rank
    char why[900];     // those before were passed over
};

static const tally_transport_ops_t *ops_of(const struct group_stream *stream)
{
    return stream->entry->backend->ops;
}

static tally_transport_t *transport_of(const struct group_stream *stream)
{
    return stream->entry->opened[TRANSPORTS_BY_ITSELF].transport;
}

// ------------------------------------------------------------------ two rounds

static void say(struct offer *offer, tally_status_t status)
{
    offer->status = status;
    if (status != TALLY_OK)
        snprintf(offer->reason, sizeof(offer->reason), "%s", core_error_text());
}

static tally_status_t gather(struct attempt *attempt)
{
    tally_group_t *group = attempt->group;

    return exchange_allgather(group->exchange, &group->members, &attempt->own,
                              attempt->all, sizeof(attempt->own));
}

// Whose reason says most: a rank that has failed by itself, before one that
// has waited for it in vain. -1: all are well.
static int32_t find_worst(const struct attempt *attempt)
{
    int32_t worst = -1;

    for (int32_t i = attempt->group->members.count - 1; i >= 0; i--) {
        tally_status_t status = (tally_status_t)attempt->all[i].status;
        bool waited = status == TALLY_ERR_TIMEOUT || status == TALLY_ERR_PEER;
        if (status != TALLY_OK && (worst < 0 || !waited))
            worst = i;
    }
    return worst;
}

static void pass_over(struct attempt *attempt, int32_t worst, bool worrying)
{
    join_pass_over(attempt->group, worst, attempt->stream->entry->name,
                   attempt->all[worst].reason, worrying, attempt->why,
                   sizeof(attempt->why));
}

// --------------------------------------------------------- who can take part

static tally_status_t prepare(struct attempt *attempt)
{
    tally_group_t *group = attempt->group;
    struct transports *transports = group->tally->transports;
    struct group_stream *stream = attempt->stream;
    tally_status_t status =
        transports_need(transports, stream->entry, TALLY_STREAM_COLLECTIVE);

    if (status == TALLY_OK)
        status =
            transports_open(transports, stream->entry, TRANSPORTS_BY_ITSELF);
    if (status != TALLY_OK || group->members.index != 0 ||
        group->nccl_comm != NULL)
        return status;
    size_t bytes = sizeof(attempt->own.id);
    progress_lock(group->tally->progress);
    status =
        ops_of(stream)->group_id(transport_of(stream), attempt->own.id, &bytes);
    progress_unlock(group->tally->progress);
    attempt->own.id_bytes = (uint32_t)bytes;
    return status;
}

static tally_status_t check_adoption(const struct attempt *attempt)
{
    const tally_group_t *group = attempt->group;

    for (int32_t i = 1; i < group->members.count; i++)
        if (attempt->all[i].adopts != attempt->all[0].adopts)
            return core_fail(TALLY_ERR_MISMATCH,
                             "nccl_comm is NULL at rank %d, and not at rank %d",
                             (int)group->ranks[attempt->all[0].adopts ? i : 0],
                             (int)group->ranks[attempt->all[0].adopts ? 0 : i]);
    return TALLY_OK;
}

// ------------------------------------------------ whose communicator works

static tally_status_t open_communicator(struct attempt *attempt)
{
    tally_group_t *group = attempt->group;
    struct group_stream *stream = attempt->stream;
    const tally_stream_group_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .rank = group->members.index,
        .ranks = group->members.count,
        .id = attempt->all[0].id,
        .id_bytes = attempt->all[0].id_bytes,
        .adopted = group->nccl_comm,
        .timeout_us = config_microseconds(group->tally->config, CONFIG_TIMEOUT),
    };

    progress_lock(group->tally->progress);
    tally_status_t status = ops_of(stream)->group_open(
        transport_of(stream), &params, &stream->communicator);
    progress_unlock(group->tally->progress);
    if (status != TALLY_OK)
        stream->communicator = NULL;
    return status;
}

// Whether it is still worth waiting.
static tally_status_t check_ranks(const tally_group_t *group)
{
    for (int32_t i = 0; i < group->members.count; i++) {
        enum health_state state =
            health_rank(group->tally->health, group->ranks[i], NULL);
        if (state == HEALTH_DIED || state == HEALTH_LEFT)
            return core_fail(TALLY_ERR_PEER, "rank %d is gone",
                             (int)group->ranks[i]);
    }
    return TALLY_NOT_YET;
}

static tally_status_t wait_open(const struct attempt *attempt)
{
    const struct timespec nap = {0, NAP_US * 1000};
    tally_group_t *group = attempt->group;
    tally_t *tally = group->tally;
    const struct group_stream *stream = attempt->stream;
    int64_t patience_us =
        config_microseconds(tally->config, CONFIG_BOOTSTRAP_TIMEOUT) /
        PATIENCE_PARTS;
    int64_t deadline_us = clock_now_us() + patience_us;

    for (;;) {
        progress_lock(tally->progress);
        tally_status_t status = ops_of(stream)->group_poll(
            transport_of(stream), stream->communicator);
        if (group->watch != NULL)
            watch_check(group->watch);
        progress_unlock(tally->progress);
        if (status == TALLY_NOT_YET)
            status = check_ranks(group);
        if (status == TALLY_NOT_YET && clock_now_us() >= deadline_us)
            status = core_fail(TALLY_ERR_TIMEOUT,
                               "its communicator is not open after %g s",
                               (double)patience_us * 1e-6);
        if (status != TALLY_NOT_YET)
            return status;
        nanosleep(&nap, NULL);
    }
}

static void close_communicator(const tally_group_t *group,
                               struct group_stream *stream)
{
    if (!park_call_begins())
        return;
    progress_lock(group->tally->progress);
    ops_of(stream)->group_close(transport_of(stream), stream->communicator);
    progress_unlock(group->tally->progress);
    park_call_ends();
    stream->communicator = NULL;
}

// ----------------------------------------------------------------- one attempt

static tally_status_t attempt_make(struct attempt *attempt, bool *joined)
{
    tally_group_t *group = attempt->group;
    int32_t worst;

    attempt->own = (struct offer){.adopts = group->nccl_comm != NULL};
    say(&attempt->own, prepare(attempt));
    tally_status_t status = gather(attempt);
    if (status == TALLY_OK)
        status = check_adoption(attempt);
    if (status != TALLY_OK)
        return status;
    worst = find_worst(attempt);
    if (worst >= 0) {
        pass_over(attempt, worst, !group->tally->transports->automatic);
        return TALLY_OK;
    }
    status = open_communicator(attempt);
    if (status == TALLY_OK)
        status = wait_open(attempt);
    say(&attempt->own, status);
    status = gather(attempt);
    if (status != TALLY_OK)
        return status;
    worst = find_worst(attempt);
    if (worst >= 0)
        pass_over(attempt, worst, true);
    *joined = worst < 0;
    return TALLY_OK;
}

static void attempt_release(const struct attempt *attempt)
{
    struct group_stream *stream = attempt->stream;

    if (stream->communicator != NULL)
        close_communicator(attempt->group, stream);
    transports_close_unused(stream->entry, TRANSPORTS_BY_ITSELF);
}

// From now on the watchdog looks at it.
static tally_status_t attempt_use(const struct attempt *attempt)
{
    tally_group_t *group = attempt->group;
    tally_t *tally = group->tally;
    struct group_stream *stream = attempt->stream;
    const struct watchdog_params params = {
        .ops = ops_of(stream),
        .transport = transport_of(stream),
        .group = stream->communicator,
        .watch = group->watch,
        .health = tally->health,
        .fate = &group->fate,
        .log = &tally->log,
        .group_key = group->key,
        .ranks = group->ranks,
        .rank_count = group->members.count,
        .timeout_us = config_microseconds(tally->config, CONFIG_TIMEOUT),
    };

    stream->entry->opened[TRANSPORTS_BY_ITSELF].used = true;
    watchdog_init(&stream->watchdog, &params);
    progress_add_watchdog(tally->progress, &stream->watchdog);
    group->stream = stream;
    group->transport = ops_of(stream)->name;
    core_log(&tally->log, TALLY_LOG_INFO,
             "group \"%s\": reduces on the stream by %s (%s)%s", group->key,
             group->transport, stream->entry->backend->version,
             group->nccl_comm != NULL ? ", over the trainer's communicator"
                                      : "");
    return progress_start(tally->progress);
}

static tally_status_t try_all(struct attempt *attempt)
{
    struct transports *transports = attempt->group->tally->transports;
    bool joined = false;

    for (int i = 0; i < transports->count; i++) {
        attempt->stream->entry = &transports->entries[i];
        if (!transports_may_be(attempt->stream->entry, TALLY_STREAM_COLLECTIVE))
            continue;
        tally_status_t status = attempt_make(attempt, &joined);
        if (status == TALLY_OK && joined)
            return attempt_use(attempt);
        attempt_release(attempt);
        if (status != TALLY_OK)
            return status;
    }
    return core_fail(TALLY_ERR_TRANSPORT,
                     "no transport reduces on the stream of all ranks: %s",
                     attempt->why[0] != '\0' ? attempt->why
                                             : "TALLY_TRANSPORT has none");
}

tally_status_t stream_join(tally_group_t *group)
{
    size_t count = (size_t)group->members.count;

    if (group->stream != NULL)
        return TALLY_OK;
    struct attempt *attempt = calloc(1, sizeof(*attempt));
    struct group_stream *stream = calloc(1, sizeof(*stream));
    struct offer *all = calloc(count, sizeof(*all));
    tally_status_t status;
    if (attempt == NULL || stream == NULL || all == NULL) {
        status = core_fail(TALLY_ERR_MEMORY, "no memory for %zu ranks", count);
    } else {
        *attempt =
            (struct attempt){.group = group, .stream = stream, .all = all};
        status = try_all(attempt);
    }
    if (group->stream == NULL)
        free(stream);
    free(all);
    free(attempt);
    return status;
}

// --------------------------------------------------------------------- its use

void stream_add(tally_group_t *group, struct watchdog_step *step)
{
    progress_lock(group->tally->progress);
    watchdog_add_step(&group->stream->watchdog, step);
    progress_unlock(group->tally->progress);
}

void stream_remove(tally_group_t *group, struct watchdog_step *step)
{
    progress_lock(group->tally->progress);
    watchdog_remove_step(&group->stream->watchdog, step);
    progress_unlock(group->tally->progress);
}

static tally_status_t enqueue(struct group_stream *stream, int64_t *lanes,
                              size_t sums, size_t maxima, tally_stream_t queue)
{
    const tally_transport_ops_t *ops = ops_of(stream);
    tally_status_t status = TALLY_OK;

    if (maxima > 0 &&
        (!TRANSPORT_HAS(ops, allreduce_max) || ops->allreduce_max == NULL))
        return core_fail(TALLY_ERR_UNSUPPORTED, "%s reduces no maxima",
                         ops->name);
    if (maxima > 0)
        status = ops->allreduce_max(transport_of(stream), stream->communicator,
                                    lanes + sums, maxima, queue);
    if (status == TALLY_OK && sums > 0)
        status = ops->allreduce(transport_of(stream), stream->communicator,
                                lanes, sums, queue);
    if (status != TALLY_OK)
        watchdog_fail(&stream->watchdog, status, core_error_text());
    return status;
}

tally_status_t stream_reduce(tally_group_t *group, int64_t *lanes, size_t sums,
                             size_t maxima, tally_stream_t stream)
{
    tally_status_t status;

    progress_lock(group->tally->progress);
    status = group->fate.status;
    if (status == TALLY_OK)
        status = enqueue(group->stream, lanes, sums, maxima, stream);
    else
        core_fail(status, "%s", group->fate.sentence);
    progress_unlock(group->tally->progress);
    return status;
}

void stream_doubt(tally_group_t *group, tally_status_t status)
{
    watchdog_doubt(&group->stream->watchdog, status, core_error_text(),
                   clock_now_us());
}

void stream_leave(tally_group_t *group)
{
    if (group->stream == NULL)
        return;
    progress_drop_watchdog(group->tally->progress, &group->stream->watchdog);
    close_communicator(group, group->stream);
    free(group->stream);
    group->stream = NULL;
}

// SPDX-License-Identifier: BSD-3-Clause
// See join.h. A transport is taken once one reduction over it has come to its
// end between the leaders, who thereby connect to just those whom they will
// talk to in every step: O(k log_k N) each. What only loads, or opens, may
// still lead nowhere: another network, another address family, a firewall.
#include "core/join.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/leaders.h"
#include "core/clock.h"
#include "core/error.h"
#include "numeric/record.h"

// How long leaders try to reach each other, but no longer than a part of
// TALLY_BOOTSTRAP_TIMEOUT.
#define REACH_US_MAX ((int64_t)10000000)
#define REACH_PARTS 4

// Of an index of a rank.
#define ALL_WELL (-1)

// One way of one entry, tried by all ranks at once.
struct attempt {
    tally_group_t *group;
    struct transports_entry *entry;
    enum transports_way way;
    struct links_address address; // own, if it opened
    struct links *links;          // once addresses are known
    char why[900];                // those before were passed over
};

static const char *const way_text[TRANSPORTS_WAYS] = {
    "", " on the rendezvous' interface"};

// What a rank says before anything is sent.
struct offer {
    uint32_t next_tag_space;
    uint8_t loaded;        // there is the backend
    uint8_t able;          // and the transport is open
    uint8_t has_interface; // TRANSPORTS_BY_INTERFACE would be another way
    uint8_t crowded;
};

// All offers in one.
struct offers {
    uint32_t tag_space; // new to all ranks
    int32_t first_unable;
    bool any_able;
    bool all_loaded;
    bool has_interface; // at some rank
    bool crowded;       // at some rank
};

// How a rank fared. An error of its own says more than that others were lost.
enum verdict { VERDICT_GOOD, VERDICT_FAILED, VERDICT_WAITED };

static struct transports_opened *opened_of(const struct attempt *attempt)
{
    return &attempt->entry->opened[attempt->way];
}

// ------------------------------------------------------------ what ranks have

// Opens the transport; the thread's sentence says why it cannot.
static tally_status_t attempt_open(struct attempt *attempt)
{
    tally_t *tally = attempt->group->tally;
    tally_status_t status =
        transports_need(tally->transports, attempt->entry, TALLY_TAGGED_P2P);

    if (status == TALLY_OK)
        status =
            transports_open(tally->transports, attempt->entry, attempt->way);
    if (status != TALLY_OK)
        return status;
    // Another group may have it polled already.
    progress_lock(tally->progress);
    links_address_read(attempt->entry->backend->ops,
                       opened_of(attempt)->transport, &attempt->address);
    progress_unlock(tally->progress);
    return attempt->address.status;
}

static tally_status_t offers_gather(const struct attempt *attempt, bool able,
                                    struct offers *out)
{
    tally_group_t *group = attempt->group;
    const tally_t *tally = group->tally;
    struct offer mine = {
        .next_tag_space = tally->next_tag_space,
        .loaded = attempt->entry->backend != NULL,
        .able = able,
        .has_interface =
            transports_has_interface(tally->transports, attempt->entry),
        .crowded = group->crowded,
    };
    struct offer *all = calloc((size_t)group->members.count, sizeof(*all));

    if (all == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->members.count);
    tally_status_t status = exchange_allgather(group->exchange, &group->members,
                                               &mine, all, sizeof(mine));
    *out = (struct offers){.first_unable = ALL_WELL, .all_loaded = true};
    for (int32_t i = 0; status == TALLY_OK && i < group->members.count; i++) {
        if (all[i].next_tag_space > out->tag_space)
            out->tag_space = all[i].next_tag_space;
        if (all[i].able == 0 && out->first_unable == ALL_WELL)
            out->first_unable = i;
        out->any_able = out->any_able || all[i].able != 0;
        out->all_loaded = out->all_loaded && all[i].loaded != 0;
        out->has_interface = out->has_interface || all[i].has_interface != 0;
        out->crowded = out->crowded || all[i].crowded != 0;
    }
    free(all);
    return status;
}

// -------------------------------------------------------- whom leaders reach

// Whether it is still worth waiting for a rank.
static tally_status_t peer_check(const struct attempt *attempt, int32_t peer)
{
    const tally_group_t *group = attempt->group;
    int32_t lost = opened_of(attempt)->lost;
    enum health_state state = HEALTH_PRESENT;
    int64_t reported_us;

    if (lost >= 0)
        return core_fail(TALLY_ERR_PEER, "the connection to rank %d was lost",
                         (int)lost);
    if (peer >= 0)
        state =
            health_rank(group->tally->health, group->ranks[peer], &reported_us);
    if (state == HEALTH_DIED || state == HEALTH_LEFT)
        return core_fail(TALLY_ERR_PEER, "rank %d is gone",
                         (int)group->ranks[peer]);
    return TALLY_NOT_YET;
}

static tally_status_t poll(const struct attempt *attempt,
                           struct leaders *leaders, int64_t *lanes)
{
    struct progress *progress = attempt->group->tally->progress;
    tally_status_t status = TALLY_OK;

    progress_lock(progress);
    int events =
        attempt->entry->backend->ops->progress(opened_of(attempt)->transport);
    if (events < 0)
        status = (tally_status_t)events;
    else
        status = leaders_progress(leaders, lanes);
    // Nobody makes progress once this rank is done, and others are not yet.
    if (status == TALLY_OK)
        status = leaders_settle(leaders);
    progress_unlock(progress);
    return status;
}

static tally_status_t give_up(const tally_group_t *group, int32_t awaited,
                              int64_t patience_us)
{
    double seconds = (double)patience_us * 1e-6;

    if (awaited < 0)
        return core_fail(TALLY_ERR_TIMEOUT,
                         "what it sent was not out after %g s", seconds);
    return core_fail(TALLY_ERR_TIMEOUT, "nothing came from rank %d in %g s",
                     (int)group->ranks[awaited], seconds);
}

static tally_status_t reach(const struct attempt *attempt,
                            struct leaders *leaders)
{
    tally_group_t *group = attempt->group;
    int64_t lanes[NUMERIC_LANES] = {0};
    int64_t patience_us =
        config_microseconds(group->tally->config, CONFIG_BOOTSTRAP_TIMEOUT) /
        REACH_PARTS;

    if (patience_us > REACH_US_MAX)
        patience_us = REACH_US_MAX;
    int64_t deadline_us = clock_now_us() + patience_us;

    progress_lock(group->tally->progress);
    leaders_start(leaders, 1);
    progress_unlock(group->tally->progress);
    for (;;) {
        tally_status_t status = poll(attempt, leaders, lanes);
        int32_t awaited = leaders_awaited(leaders);

        if (status == TALLY_NOT_YET)
            status = peer_check(attempt, awaited);
        if (status == TALLY_NOT_YET && clock_now_us() >= deadline_us)
            status = give_up(group, awaited, patience_us);
        if (status != TALLY_NOT_YET)
            return status;
        sched_yield();
    }
}

// The thread's sentence says why this rank does not reach others.
static tally_status_t attempt_reach(const struct attempt *attempt,
                                    const struct offers *offers)
{
    tally_group_t *group = attempt->group;
    tally_t *tally = group->tally;
    struct allreduce_params params = {
        .topology = group->topology,
        .links = attempt->links,
        .records = 1,
        .radix = (uint32_t)config_integer(tally->config, CONFIG_RADIX),
        .crowded = offers->crowded,
        .tag_space = (uint16_t)offers->tag_space,
    };
    char reason[TRANSPORTS_REASON_BYTES];
    struct leaders *leaders;

    if (group->topology->local_index != 0)
        return TALLY_OK;
    tally_status_t status = leaders_create(&params, &leaders);
    if (status != TALLY_OK)
        return status;
    status = reach(attempt, leaders);
    snprintf(reason, sizeof(reason), "%s", core_error_text());
    progress_lock(tally->progress);
    leaders_free(leaders); // cancels, which leaves a sentence
    progress_unlock(tally->progress);
    return status == TALLY_OK ? TALLY_OK : core_fail(status, "%s", reason);
}

static enum verdict verdict_of(tally_status_t status)
{
    if (status == TALLY_OK)
        return VERDICT_GOOD;
    return status == TALLY_ERR_PEER || status == TALLY_ERR_TIMEOUT
               ? VERDICT_WAITED
               : VERDICT_FAILED;
}

static int32_t find_verdict(const uint8_t *verdicts, int32_t count,
                            enum verdict verdict)
{
    for (int32_t i = 0; i < count; i++)
        if (verdicts[i] == (uint8_t)verdict)
            return i;
    return ALL_WELL;
}

// Whose verdict says most, or ALL_WELL.
static tally_status_t verdicts_gather(const struct attempt *attempt,
                                      enum verdict own, int32_t *worst)
{
    tally_group_t *group = attempt->group;
    int32_t count = group->members.count;
    uint8_t mine = (uint8_t)own;
    uint8_t *verdicts = calloc((size_t)count, 1);

    *worst = ALL_WELL;
    if (verdicts == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)count);
    tally_status_t status = exchange_allgather(group->exchange, &group->members,
                                               &mine, verdicts, sizeof(mine));
    *worst = find_verdict(verdicts, count, VERDICT_FAILED);
    if (*worst == ALL_WELL)
        *worst = find_verdict(verdicts, count, VERDICT_WAITED);
    free(verdicts);
    return status;
}

// --------------------------------------------------------------- one attempt

void join_pass_over(const tally_group_t *group, int32_t rank, const char *what,
                    const char *reason, bool worrying, char *why,
                    size_t why_bytes)
{
    size_t used = strlen(why);
    char line[TRANSPORTS_REASON_BYTES + 320];

    snprintf(line, sizeof(line), "rank %d cannot use %s: %.*s",
             (int)group->ranks[rank], what, TRANSPORTS_REASON_BYTES - 1,
             reason);
    snprintf(why + used, why_bytes - used, "%s%s", used > 0 ? "; " : "", line);
    core_log(&group->tally->log,
             group->members.index > 0 ? TALLY_LOG_DEBUG
             : worrying               ? TALLY_LOG_WARN
                                      : TALLY_LOG_INFO,
             "%s", line);
}

// Exchanges reasons, as not all are well, and logs that of `worst` at one rank.
static tally_status_t pass_over(struct attempt *attempt, int32_t worst,
                                bool worrying, const char *reason)
{
    tally_group_t *group = attempt->group;
    char mine[TRANSPORTS_REASON_BYTES];
    char what[320];
    char(*all)[TRANSPORTS_REASON_BYTES] =
        calloc((size_t)group->members.count, sizeof(*all));

    if (all == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->members.count);
    memset(mine, 0, sizeof(mine));
    snprintf(mine, sizeof(mine), "%s", reason);
    tally_status_t status = exchange_allgather(group->exchange, &group->members,
                                               mine, all, sizeof(mine));
    if (status == TALLY_OK) {
        snprintf(what, sizeof(what), "%s%s", attempt->entry->name,
                 way_text[attempt->way]);
        join_pass_over(group, worst, what, all[worst], worrying, attempt->why,
                       sizeof(attempt->why));
    }
    free(all);
    return status;
}

static void attempt_release(struct attempt *attempt)
{
    struct transports *transports = attempt->group->tally->transports;

    // Not before all have given up: UCX 1.13 may abort a process whose peer
    // goes away while they connect to each other. The transport may hold
    // buffers of the links.
    transports_close_unused(attempt->entry, attempt->way);
    if (attempt->links == NULL)
        return;
    if (opened_of(attempt)->transport == NULL)
        links_free(attempt->links);
    else
        transports_keep_links(transports, attempt->links);
    attempt->links = NULL;
}

// Whether all ranks reach each other, who all have it open.
static tally_status_t reach_all(struct attempt *attempt,
                                const struct offers *offers, bool *joined)
{
    tally_group_t *group = attempt->group;
    struct transports_opened *opened = opened_of(attempt);
    char reason[TRANSPORTS_REASON_BYTES] = "";
    int32_t worst;
    tally_status_t status;

    if (offers->tag_space >= TAG_SPACES)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "more than %u steps and groups were made in this "
                         "process",
                         TAG_SPACES);
    group->tally->next_tag_space = offers->tag_space + 1;
    status = links_create(attempt->entry->backend->ops, opened->transport,
                          &attempt->address, opened->endpoints, group->exchange,
                          &group->members, &attempt->links);
    if (status != TALLY_OK)
        return status;
    status = attempt_reach(attempt, offers);
    enum verdict verdict = verdict_of(status);
    if (verdict != VERDICT_GOOD)
        snprintf(reason, sizeof(reason), "%s", core_error_text());
    status = verdicts_gather(attempt, verdict, &worst);
    if (status == TALLY_OK && worst != ALL_WELL)
        return pass_over(attempt, worst, true, reason);
    *joined = status == TALLY_OK;
    return status;
}

static tally_status_t attempt_make(struct attempt *attempt,
                                   struct offers *offers, bool *joined)
{
    char reason[TRANSPORTS_REASON_BYTES] = "";
    bool able = attempt_open(attempt) == TALLY_OK;

    if (!able)
        snprintf(reason, sizeof(reason), "%s", core_error_text());
    tally_status_t status = offers_gather(attempt, able, offers);
    if (status != TALLY_OK)
        return status;
    // What nobody has, and nobody asked for by name, is not worth a warning.
    if (offers->first_unable != ALL_WELL)
        return pass_over(attempt, offers->first_unable,
                         offers->any_able ||
                             !attempt->group->tally->transports->automatic,
                         reason);
    return reach_all(attempt, offers, joined);
}

// Takes over what the attempt made.
static tally_status_t attempt_use(struct attempt *attempt)
{
    tally_group_t *group = attempt->group;
    struct progress *progress = group->tally->progress;
    const struct interface *interface = &group->tally->transports->interface;
    const tally_transport_ops_t *ops = attempt->entry->backend->ops;
    struct transports_opened *opened = opened_of(attempt);

    if (attempt->way == TRANSPORTS_BY_INTERFACE)
        core_log(&group->tally->log, TALLY_LOG_INFO, "%s on %s (%s)", ops->name,
                 interface->name, interface->address);
    progress_lock(progress);
    opened->used = true;
    progress_unlock(progress);
    group->links = attempt->links;
    group->transport = ops->name;
    // Once for each group; dropped as often when the tally_t is closed.
    progress_drop_transport(progress, opened->transport);
    return progress_add_transport(progress, ops, opened->transport);
}

tally_status_t join_nodes(tally_group_t *group)
{
    struct transports *transports = group->tally->transports;
    struct attempt *attempt = calloc(1, sizeof(*attempt));
    struct offers offers = {.has_interface = false};
    tally_status_t status = TALLY_OK;
    bool joined = false;

    if (attempt == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a transport");
    attempt->group = group;
    for (int i = 0; i < transports->group_count * TRANSPORTS_WAYS; i++) {
        attempt->entry = &transports->entries[i / TRANSPORTS_WAYS];
        attempt->way = (enum transports_way)(i % TRANSPORTS_WAYS);
        if (!transports_may_be(attempt->entry, TALLY_TAGGED_P2P))
            continue;
        if (attempt->way == TRANSPORTS_BY_INTERFACE &&
            !(offers.all_loaded && offers.has_interface))
            continue;
        status = attempt_make(attempt, &offers, &joined);
        if (status != TALLY_OK || joined)
            break;
        attempt_release(attempt);
    }
    if (status == TALLY_OK)
        status = joined ? attempt_use(attempt)
                        : core_fail(TALLY_ERR_TRANSPORT,
                                    "no transport joins all ranks: %s",
                                    attempt->why);
    else
        attempt_release(attempt);
    free(attempt);
    return status;
}

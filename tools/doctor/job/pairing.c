// SPDX-License-Identifier: BSD-3-Clause
// The pairs of a job: who takes part, over which ways, and the gathered rows.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/bootstrap.h"
#include "collective/agreement.h"
#include "collective/segment.h"
#include "core/error.h"
#include "doctor/job/job.h"
#include "doctor/job/ways.h"
#include "doctor/watchdog.h"

// An answer may take a fraction of what a meeting may.
#define PATIENCE_SHARE 5

// Of one measurement; its ways and links outlast it, in job->kept.
struct kept {
    struct kept *next;
    struct links *links;
    struct pairs_way *tagged;
};

struct pairing {
    struct job *job;
    int32_t own; // of the members; -1: this rank is none
    enum transports_way way;
    struct segment segment;
    struct pairs_way *shared, *tagged;
    struct links_address address;
};

// ------------------------------------------------------------ who and by what

static void members_choose(struct job *job)
{
    bool of_nodes = job->count > JOB_RANKS_IN_PAIRS;

    job->member_count = 0;
    for (int32_t i = 0; i < job->count; i++) {
        bool first = true;

        for (int32_t k = 0; of_nodes && first && k < i; k++)
            first = job->node_of[k] != job->node_of[i];
        if (first)
            job->members[job->member_count++] = i;
    }
}

// The first, in the order of the first rank, that all have; else the one that
// most have. The same at all ranks.
static void transport_choose(struct job *job)
{
    int32_t most = 0;

    job->transport = job->node_count > 1 ? NULL : "";
    for (int i = 0; job->node_count > 1 && i < TRANSPORTS_MAX; i++) {
        const struct facts_transport *transport = &job->facts[0].transports[i];
        int32_t users = 0;

        if (transport->name[0] == '\0' || transport->wanted == 0)
            continue;
        for (int32_t k = 0; k < job->count; k++)
            users += facts_transport_usable(&job->facts[k], transport->name);
        if (users > most) {
            most = users;
            job->transport = transport->name;
        }
    }
}

// ------------------------------------------------------------------- the ways

// Members of this rank's node, in order; the first makes the segment.
static int32_t locals_list(const struct pairing *pairing, int32_t *locals)
{
    const struct job *job = pairing->job;
    int32_t node = job->node_of[job->index];
    int32_t count = 0;

    for (int32_t m = 0; pairing->own >= 0 && m < job->member_count; m++)
        if (job->node_of[job->members[m]] == node)
            locals[count++] = m;
    return count;
}

// Collective. A segment that cannot be made or opened leaves pairs untried.
static tally_status_t shared_way_open(struct pairing *pairing)
{
    struct job *job = pairing->job;
    char(*names)[SEGMENT_NAME_BYTES] =
        calloc((size_t)job->count, sizeof(*names));
    int32_t *locals = calloc((size_t)job->count, sizeof(*locals));
    tally_status_t status;

    if (names == NULL || locals == NULL) {
        status = core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                           (int)job->count);
        goto free_locals;
    }
    int32_t local = locals_list(pairing, locals);
    size_t bytes = shared_bytes(local);
    bool makes = local > 1 && locals[0] == pairing->own;
    if (makes && segment_create(bytes, &pairing->segment) != TALLY_OK)
        pairing->segment = (struct segment){.memory = NULL};
    status = exchange_allgather(job->exchange, &job->group,
                                pairing->segment.name, names, sizeof(*names));
    if (status != TALLY_OK)
        goto free_locals;
    if (local > 1 && !makes &&
        segment_open(names[job->members[locals[0]]], bytes,
                     &pairing->segment) != TALLY_OK)
        pairing->segment = (struct segment){.memory = NULL};
    // All have opened it, or failed.
    status =
        agreement_gather(job->exchange, &job->group, TALLY_OK, NULL, NULL, 0);
    segment_unlink(&pairing->segment);
    if (status == TALLY_OK && pairing->segment.memory != NULL)
        pairing->shared =
            shared_open(pairing->segment.memory, locals, local, pairing->own);

free_locals:
    free(locals);
    free(names);
    return status;
}

static struct transports_entry *entry_open(const struct pairing *pairing)
{
    const struct job *job = pairing->job;
    struct transports *transports = job->self->transports;
    struct transports_entry *found = NULL;

    for (int i = 0; transports != NULL && i < transports->count; i++)
        if (strcmp(transports->entries[i].name, job->transport) == 0)
            found = &transports->entries[i];
    if (found == NULL)
        return NULL;
    watchdog_enter("opening the transport");
    if (transports_open(transports, found, pairing->way) != TALLY_OK)
        found = NULL;
    watchdog_leave();
    return found;
}

// Collective: who is no member or lacks the transport takes part, with nothing.
static tally_status_t links_make(struct pairing *pairing,
                                 const struct transports_entry *entry,
                                 struct links **out)
{
    struct job *job = pairing->job;
    const tally_transport_ops_t *ops = NULL;
    tally_transport_t *transport = NULL;

    if (entry != NULL) {
        ops = entry->backend->ops;
        transport = entry->opened[pairing->way].transport;
        links_address_read(ops, transport, &pairing->address);
    }
    return links_create(ops, transport, &pairing->address, NULL, job->exchange,
                        &job->group, out);
}

static struct pairs_way *tagged_make(struct pairing *pairing,
                                     const struct transports_entry *entry,
                                     struct links *links)
{
    struct job *job = pairing->job;
    const struct tagged_params params = {
        .ops = entry->backend->ops,
        .transport = entry->opened[pairing->way].transport,
        .links = links,
        .link_of = job->members,
        .count = job->member_count,
        .own = pairing->own,
        .space = ++job->spaces,
    };

    return tagged_open(&params);
}

static tally_status_t tagged_way_open(struct pairing *pairing)
{
    struct job *job = pairing->job;
    const struct transports_entry *entry = NULL;

    if (job->transport == NULL || *job->transport == '\0')
        return TALLY_OK;
    if (pairing->own >= 0)
        entry = entry_open(pairing);
    struct kept *kept = calloc(1, sizeof(*kept));
    if (kept == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for links");
    kept->next = job->kept;
    job->kept = kept;
    tally_status_t status = links_make(pairing, entry, &kept->links);
    if (status == TALLY_OK && entry != NULL)
        pairing->tagged = kept->tagged =
            tagged_make(pairing, entry, kept->links);
    return status;
}

// ------------------------------------------------------------------ measuring

static void pairs_measure(struct pairing *pairing, struct job_row *row)
{
    struct job *job = pairing->job;
    struct pairs pairs = {
        .count = job->member_count,
        .own = pairing->own,
        .ways = {pairing->shared, pairing->tagged},
    };
    int32_t node = job->node_of[job->index];

    pairs.peers = calloc((size_t)pairs.count, sizeof(*pairs.peers));
    if (pairs.peers == NULL)
        return;
    for (int32_t m = 0; m < pairs.count; m++) {
        const struct facts *facts = &job->facts[job->members[m]];

        if (pairs_slot(pairs.own, m, pairs.count) < 0)
            continue;
        if (job->node_of[job->members[m]] == node)
            pairs.peers[m].way = pairing->shared;
        else if (job->transport != NULL &&
                 facts_transport_usable(facts, job->transport))
            pairs.peers[m].way = pairing->tagged;
    }
    pairs_run(&pairs, job->timeout_us / PATIENCE_SHARE);
    pairs_row(&pairs, row->us);
    memcpy(row->reason, pairs.reason, sizeof(row->reason));
    free(pairs.peers);
}

static tally_status_t rows_gather(struct job *job, const struct job_row *own)
{
    struct job_row *all = calloc((size_t)job->count, sizeof(*all));

    if (all == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)job->count);
    tally_status_t status =
        exchange_allgather(job->exchange, &job->group, own, all, sizeof(*own));
    if (status != TALLY_OK) {
        free(all);
        return status;
    }
    for (int32_t m = 0; m < job->member_count; m++)
        all[m] = all[job->members[m]]; // members ascend
    free(job->rows);
    job->rows = all;
    return TALLY_OK;
}

static tally_status_t measure_by(struct job *job, enum transports_way way)
{
    struct pairing pairing = {.job = job, .own = -1, .way = way};
    struct job_row row = {.reason = ""};

    for (int32_t m = 0; m < job->member_count; m++)
        if (job->members[m] == job->index)
            pairing.own = m;
    tally_status_t status = shared_way_open(&pairing);
    if (status == TALLY_OK)
        status = tagged_way_open(&pairing);
    if (status == TALLY_OK && pairing.own >= 0)
        pairs_measure(&pairing, &row);
    if (status == TALLY_OK)
        status = rows_gather(job, &row);
    if (pairing.tagged != NULL)
        tagged_cancel(pairing.tagged);
    shared_free(pairing.shared);
    segment_close(&pairing.segment);
    return status;
}

// Over the transport; the same at all ranks.
static int32_t count_unreached(const struct job *job)
{
    int32_t unreached = 0;

    for (int32_t a = 0; a < job->member_count; a++)
        for (int32_t b = 0; b < job->member_count; b++)
            unreached += job->node_of[job->members[a]] !=
                             job->node_of[job->members[b]] &&
                         job_pair_us(job, a, b) == PAIRS_UNREACHED;
    return unreached;
}

// The second way that a group takes, too, when it is made.
static tally_status_t measure_by_interface(struct job *job, int32_t unreached)
{
    struct transports *transports = job->self->transports;
    struct job_row *before = job->rows;

    bootstrap_interface(job->exchange, &job->interface);
    if (transports != NULL)
        transports->interface = job->interface;
    job->rows = NULL;
    tally_status_t status = measure_by(job, TRANSPORTS_BY_INTERFACE);
    job->by_interface = status == TALLY_OK && count_unreached(job) < unreached;
    if (job->by_interface) {
        free(before);
    } else {
        free(job->rows);
        job->rows = before;
    }
    return status;
}

tally_status_t job_pairs_measure(struct job *job)
{
    int32_t unreached;

    free(job->members);
    job->by_interface = false;
    job->members = calloc((size_t)job->count, sizeof(*job->members));
    if (job->members == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)job->count);
    members_choose(job);
    transport_choose(job);
    tally_status_t status = measure_by(job, TRANSPORTS_BY_ITSELF);
    if (status != TALLY_OK)
        return status;
    unreached = count_unreached(job);
    return unreached > 0 ? measure_by_interface(job, unreached) : TALLY_OK;
}

void job_kept_free(struct job *job)
{
    while (job->kept != NULL) {
        struct kept *kept = job->kept;

        job->kept = kept->next;
        if (kept->tagged != NULL)
            tagged_free(kept->tagged);
        links_free(kept->links);
        free(kept);
    }
}

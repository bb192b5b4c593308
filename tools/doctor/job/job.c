// SPDX-License-Identifier: BSD-3-Clause
// See job.h: the meeting, and what is exchanged there.
#include "doctor/job/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bootstrap/bootstrap.h"
#include "collective/topology_self.h"
#include "core/error.h"
#include "doctor/facts/pack.h"

// Doctors of all versions of Tally meet, and then see whether their facts have
// one form.
#define MEETING "tally_doctor"
#define MEETING_ABI 1u
#define FACTS_FORM 1u

// How often ranks that stopped answering are left behind.
#define LEFT_BEHIND_MAX 3

struct form {
    uint32_t form;
    uint32_t bytes;
    char version[32];
};

static void fail(struct job *job)
{
    if (job->failure[0] == '\0')
        snprintf(job->failure, sizeof(job->failure), "%s", core_error_text());
}

static void *room_for(const struct job *job, size_t bytes)
{
    void *memory = calloc((size_t)job->count, bytes);

    if (memory == NULL)
        core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks", (int)job->count);
    return memory;
}

static tally_status_t gather(struct job *job, const void *send, void *recv,
                             size_t bytes)
{
    return exchange_allgather(job->exchange, &job->group, send, recv, bytes);
}

// ------------------------------------------------------------------ the steps

static tally_status_t forms_compare(struct job *job)
{
    struct form mine = {FACTS_FORM, sizeof(struct facts), ""};
    tally_status_t status = TALLY_OK;
    struct form *all = room_for(job, sizeof(*all));

    if (all == NULL)
        return TALLY_ERR_MEMORY;
    snprintf(mine.version, sizeof(mine.version), "%s", tally_version());
    status = gather(job, &mine, all, sizeof(mine));
    for (int32_t i = 0; status == TALLY_OK && i < job->count; i++)
        if (all[i].form != all[0].form || all[i].bytes != all[0].bytes)
            status = core_fail(TALLY_ERR_MISMATCH,
                               "the doctor is of Tally %.31s at rank %d and of "
                               "%.31s at rank %d, and they do not understand "
                               "each other: install one version everywhere",
                               all[i].version, (int)job->ranks[i],
                               all[0].version, (int)job->ranks[0]);
    free(all);
    return status;
}

static tally_status_t facts_unpack(const struct job *job, const uint8_t *parts,
                                   size_t stride, struct facts *all)
{
    for (int32_t i = 0; i < job->count; i++)
        if (!pack_read(parts + (size_t)i * stride, stride, &all[i],
                       sizeof(*all)))
            return core_fail(TALLY_ERR_MISMATCH,
                             "what rank %d tells cannot be read",
                             (int)job->ranks[i]);
    return TALLY_OK;
}

// First the lengths, then room for the longest.
static tally_status_t facts_gather(struct job *job)
{
    uint32_t *lengths = room_for(job, sizeof(*lengths));
    struct facts *all = room_for(job, sizeof(*all));
    uint8_t *own = calloc(1, PACK_BYTES_MAX(sizeof(*all)));
    uint8_t *parts = NULL;
    uint32_t stride = 0;
    tally_status_t status;

    if (lengths == NULL || all == NULL || own == NULL) {
        status = core_fail(TALLY_ERR_MEMORY, "no memory for facts");
        goto free_all;
    }
    uint32_t length =
        (uint32_t)pack_write(&job->self->facts, sizeof(job->self->facts), own);
    status = gather(job, &length, lengths, sizeof(length));
    if (status != TALLY_OK)
        goto free_all;
    for (int32_t i = 0; i < job->count; i++)
        if (lengths[i] > stride)
            stride = lengths[i];
    if (stride > PACK_BYTES_MAX(sizeof(*all))) {
        status = core_fail(TALLY_ERR_MISMATCH, "facts of %u bytes",
                           (unsigned)stride);
        goto free_all;
    }
    parts = room_for(job, stride);
    status = parts != NULL ? gather(job, own, parts, stride) : TALLY_ERR_MEMORY;
    if (status == TALLY_OK)
        status = facts_unpack(job, parts, stride, all);
    if (status != TALLY_OK)
        goto free_all;
    free(job->facts);
    job->facts = all;
    all = NULL;

free_all:
    free(parts);
    free(own);
    free(all);
    free(lengths);
    return status;
}

static int64_t wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static tally_status_t clocks_compare(struct job *job)
{
    int64_t begun[CLOCKS_ROUNDS], left[CLOCKS_ROUNDS];
    tally_status_t status = TALLY_OK;
    int64_t *stamps = room_for(job, CLOCKS_ROUNDS * sizeof(*stamps));
    struct clocks_bound *bounds = room_for(job, sizeof(*bounds));

    if (stamps == NULL || bounds == NULL) {
        status = TALLY_ERR_MEMORY;
        goto free_bounds;
    }
    for (int round = 0; status == TALLY_OK && round < CLOCKS_ROUNDS; round++) {
        begun[round] = wall_us();
        status = gather(job, &begun[round], stamps + round * job->count,
                        sizeof(*begun));
        left[round] = wall_us();
    }
    if (status != TALLY_OK)
        goto free_bounds;
    clocks_judge(begun, left, stamps, job->count, bounds);
    free(job->clocks);
    job->clocks = bounds;
    bounds = NULL;

free_bounds:
    free(bounds);
    free(stamps);
    return status;
}

static tally_status_t nodes_find(struct job *job)
{
    const struct config *config = job->self->config;
    const struct topology_params params = {
        .node_shm = config_flag(config, CONFIG_NODE_SHM),
        .node_name = config_text(config, CONFIG_NODE),
    };
    struct topology_self self;
    struct topology *topology;
    int32_t *nodes = room_for(job, sizeof(*nodes));

    if (nodes == NULL)
        return TALLY_ERR_MEMORY;
    topology_self_read(&params, &self);
    // What is wrong there was found already: it must not end this.
    self.alone |= job->self->facts.found[FACTS_SHM][0] != '\0';
    tally_status_t status =
        topology_prove(job->exchange, &job->group, &self, &topology);
    if (status != TALLY_OK) {
        free(nodes);
        return status;
    }
    memcpy(nodes, topology->node_of, (size_t)job->count * sizeof(*nodes));
    free(job->node_of);
    job->node_of = nodes;
    job->node_count = topology->node_count;
    topology_free(topology);
    return TALLY_OK;
}

// ------------------------------------------------------------- who is missing

static void group_begin(struct job *job)
{
    job->group = (struct exchange_group){
        .ranks = job->ranks,
        .count = job->count,
        .index = job->index,
        .key = MEETING,
    };
}

static bool is_among(int32_t rank, const int32_t *ranks, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (ranks[i] == rank)
            return true;
    return false;
}

// Goes on without the missing. False: it is not known who they are, or the root
// is among them.
static bool leave_behind(struct job *job)
{
    int32_t own = job->ranks[job->index];
    int32_t *missing = room_for(job, sizeof(*missing));
    int32_t kept = 0;

    if (missing == NULL)
        return false;
    int32_t count = bootstrap_missing(job->exchange, missing);
    bool possible = count > 0 && !is_among(0, missing, count) &&
                    !is_among(own, missing, count);
    for (int32_t i = 0; possible && i < job->count; i++) {
        if (is_among(job->ranks[i], missing, count)) {
            job->absent[job->absent_count++] = job->ranks[i];
            continue;
        }
        if (job->ranks[i] == own)
            job->index = kept;
        job->ranks[kept] = job->ranks[i];
        if (job->facts != NULL)
            job->facts[kept] = job->facts[i];
        if (job->clocks != NULL)
            job->clocks[kept] = job->clocks[i];
        if (job->node_of != NULL)
            job->node_of[kept] = job->node_of[i];
        kept++;
    }
    if (possible)
        job->count = kept;
    free(missing);
    return possible;
}

// Does a step until all who take part come to its end. False: it failed.
static bool do_step(struct job *job, tally_status_t (*step)(struct job *job))
{
    for (int left = 0;; left++) {
        group_begin(job);
        tally_status_t status = step(job);

        if (status == TALLY_OK)
            return true;
        fail(job);
        if ((status != TALLY_ERR_TIMEOUT && status != TALLY_ERR_PEER) ||
            left == LEFT_BEHIND_MAX || !leave_behind(job))
            return false;
        job->failure[0] = '\0'; // the absent are named by themselves
    }
}

// -------------------------------------------------------------------- meeting

static tally_status_t meet(struct job *job)
{
    const struct self *self = job->self;
    struct bootstrap_params params = {
        .identity = &self->identity,
        .secret = self->secret,
        .secret_bytes = self->secret != NULL ? strlen(self->secret) : 0,
        .timeout_us = job->timeout_us,
        .abi = MEETING_ABI,
        .version = MEETING,
        .settings = "",
    };

    if (self->identity.world_size == 1)
        return exchange_self_open(&job->exchange);
    tally_status_t status =
        health_create(self->identity.world_size, &job->health);
    if (status != TALLY_OK)
        return status;
    params.health = job->health;
    return bootstrap_open(&params, &job->exchange);
}

static tally_status_t begin_alone(struct job *job)
{
    size_t size =
        (size_t)(job->self->identified ? job->self->identity.world_size : 1);

    job->count = 1;
    job->ranks = calloc(size, sizeof(*job->ranks));
    job->absent = calloc(size, sizeof(*job->absent));
    job->facts = calloc(1, sizeof(*job->facts));
    if (job->ranks == NULL || job->absent == NULL || job->facts == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu ranks", size);
    job->ranks[0] = job->self->facts.rank;
    return TALLY_OK;
}

static void begin_together(struct job *job)
{
    job->count = job->self->identity.world_size;
    job->index = job->self->identity.rank;
    for (int32_t i = 0; i < job->count; i++)
        job->ranks[i] = i;
    free(job->facts);
    job->facts = NULL;
}

static void end_alone(struct job *job)
{
    job->count = 1;
    job->index = 0;
    job->ranks[0] = job->self->facts.rank;
    job->facts = calloc(1, sizeof(*job->facts));
    if (job->facts != NULL)
        job->facts[0] = job->self->facts;
}

void job_open(struct self *self, int64_t timeout_us, struct job *job)
{
    *job =
        (struct job){.self = self, .timeout_us = timeout_us, .reporter = true};
    if (begin_alone(job) != TALLY_OK) {
        fail(job);
        return;
    }
    job->facts[0] = self->facts;
    if (!self->identified)
        return;
    bool known = facts_root_resolve(self);
    if (!known)
        core_fail(TALLY_ERR_BOOTSTRAP,
                  "the other ranks were not looked for: it is not known where "
                  "the root is");
    if (!known || meet(job) != TALLY_OK) {
        fail(job);
        if (known)
            facts_root_probe(self);
        job->facts[0] = self->facts;
        return;
    }
    begin_together(job);
    if (!do_step(job, forms_compare) || !do_step(job, facts_gather)) {
        end_alone(job);
        return;
    }
    job->joined = true;
    if (do_step(job, clocks_compare) && do_step(job, nodes_find))
        do_step(job, job_pairs_measure);
    // Where it ended early, each knows something else.
    job->reporter = self->identity.rank == 0 || job->failure[0] != '\0';
}

void job_close(struct job *job)
{
    self_close(job->self); // closes transports, before what they may use
    job_kept_free(job);
    if (job->exchange != NULL)
        exchange_close(job->exchange);
    health_free(job->health);
    free(job->rows);
    free(job->members);
    free(job->clocks);
    free(job->node_of);
    free(job->absent);
    free(job->facts);
    free(job->ranks);
}

float job_pair_us(const struct job *job, int32_t from, int32_t to)
{
    int32_t slot = pairs_slot(from, to, job->member_count);

    return slot >= 0 ? job->rows[from].us[slot] : PAIRS_UNTRIED;
}

bool job_is_crowded(const struct job *job)
{
    for (int32_t i = 0; i < job->count; i++) {
        int32_t here = 0;

        for (int32_t k = 0; k < job->count; k++)
            here += job->facts[k].boot == job->facts[i].boot;
        if (here > job->facts[i].processors)
            return true;
    }
    return false;
}

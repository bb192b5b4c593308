// SPDX-License-Identifier: BSD-3-Clause
// See job.h.
#include "transport/sim/job.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/types.h>

#include "core/error.h"
#include "numeric/record.h"

#define ADDRESS_BYTES ((size_t)4)

struct member {
    struct topology topology; // its arrays are shared
    tally_transport_t *transport;
    struct links *links;
    struct allreduce *allreduce;
    tally_status_t status;
    int32_t awaited;
    uint64_t sequence; // of its last reduction
    uint64_t left;     // reductions of this run
    bool busy;         // with one
    bool timed;        // a timer goes off at timer_ns
    int64_t timer_ns;
    int64_t deadline_ns;
};

struct sim_job {
    struct sim_network *network;
    int32_t size;
    int32_t *ranks; // [size]: 0, 1, ...
    pid_t no_pid;
    struct links_directory directory;
    int64_t *lanes; // of one rank
    const struct sim_job_run *run;
    int64_t begin_ns;
    int64_t end_ns;
    int32_t running; // ranks
    struct member members[];
};

// -------------------------------------------------------------------- creation

static tally_status_t directory_fill(struct sim_job *job)
{
    struct links_directory *directory = &job->directory;
    const struct tally_transport_ops *ops = sim_network_ops();

    for (int32_t i = 0; i < job->size; i++) {
        size_t bytes = ADDRESS_BYTES;
        tally_status_t status =
            sim_network_open(job->network, i, &job->members[i].transport);

        if (status == TALLY_OK)
            status = ops->address(
                job->members[i].transport,
                directory->addresses + (size_t)i * ADDRESS_BYTES, &bytes);
        if (status != TALLY_OK)
            return status;
        directory->address_bytes[i] = bytes;
    }
    return TALLY_OK;
}

static tally_status_t member_create(struct sim_job *job, int32_t rank,
                                    const struct allreduce_params *params)
{
    struct member *member = &job->members[rank];
    struct allreduce_params own = *params;
    // Of itself alone: what others would say is known.
    struct exchange_group group = {
        .ranks = &job->ranks[rank],
        .count = 1,
        .key = "",
    };
    tally_status_t status;

    member->topology = (struct topology){
        .rank = rank,
        .size = job->size,
        .node = rank,
        .node_count = job->size,
        .node_of = job->ranks,
        .leader_of = job->ranks,
        .local_size = 1,
        .local_ranks = &job->ranks[rank],
        .local_pids = &job->no_pid,
    };
    status = links_create_listed(sim_network_ops(), member->transport,
                                 &job->directory, &member->links);
    if (status != TALLY_OK)
        return status;
    own.topology = &member->topology;
    own.links = member->links;
    own.group = &group;
    return allreduce_create(&own, &member->allreduce);
}

static tally_status_t members_create(struct sim_job *job,
                                     const struct sim_job_params *params)
{
    struct schedule_plan plan;
    struct allreduce_params common = {
        .records = params->records,
        .max_lanes = params->max_lanes,
        .radix = params->radix,
        .plan = params->plan,
    };
    tally_status_t status;

    status = exchange_self_open(&common.exchange);
    if (status != TALLY_OK)
        return status;
    if (common.plan == NULL) {
        schedule_plan(params->size, params->radix,
                      schedule_costs_measured(false), &plan);
        common.plan = &plan;
    }
    for (int32_t i = 0; status == TALLY_OK && i < params->size; i++)
        status = member_create(job, i, &common);
    return status;
}

// NULL: no memory.
static struct sim_job *job_allocate(const struct sim_job_params *params)
{
    size_t size = (size_t)params->size;
    size_t lanes = (size_t)params->records * NUMERIC_LANES + params->max_lanes;
    struct sim_job *job =
        calloc(1, sizeof(*job) + size * sizeof(*job->members));

    if (job == NULL)
        return NULL;
    job->size = params->size;
    job->lanes = calloc(lanes, sizeof(*job->lanes));
    job->ranks = calloc(size, sizeof(*job->ranks));
    job->directory = (struct links_directory){
        .count = params->size,
        .world_ranks = job->ranks,
        .address_bytes = calloc(size, sizeof(uint64_t)),
        .addresses = calloc(size, ADDRESS_BYTES),
        .address_stride = ADDRESS_BYTES,
    };
    if (job->lanes == NULL || job->ranks == NULL ||
        job->directory.address_bytes == NULL ||
        job->directory.addresses == NULL) {
        sim_job_free(job);
        return NULL;
    }
    for (int32_t i = 0; i < params->size; i++)
        job->ranks[i] = i;
    return job;
}

tally_status_t sim_job_create(const struct sim_job_params *params,
                              struct sim_job **out)
{
    struct sim_job *job = job_allocate(params);
    tally_status_t status;

    if (job == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d simulated ranks",
                         (int)params->size);
    status = sim_network_create(params->size, &params->network, &job->network);
    if (status != TALLY_OK)
        goto free_job;
    status = directory_fill(job);
    if (status != TALLY_OK)
        goto free_job;
    status = members_create(job, params);
    if (status != TALLY_OK)
        goto free_job;
    *out = job;
    return TALLY_OK;
free_job:
    sim_job_free(job);
    return status;
}

void sim_job_free(struct sim_job *job)
{
    if (job == NULL)
        return;
    for (int32_t i = 0; i < job->size; i++)
        allreduce_free(job->members[i].allreduce);
    sim_network_free(job->network); // and its transports
    for (int32_t i = 0; i < job->size; i++)
        links_free(job->members[i].links);
    free(job->directory.addresses);
    free(job->directory.address_bytes);
    free(job->ranks);
    free(job->lanes);
    free(job);
}

struct sim_network *sim_job_network(struct sim_job *job)
{
    return job->network;
}

// --------------------------------------------------------------------- running

static void member_stop(struct sim_job *job, struct member *member,
                        tally_status_t status)
{
    int64_t now_ns = sim_network_rank_now(job->network, member->topology.rank);

    if (status != TALLY_OK)
        member->awaited = allreduce_awaited(member->allreduce);
    else if (now_ns > job->end_ns)
        job->end_ns = now_ns;
    member->status = status;
    member->busy = false;
    member->left = 0;
    job->running--;
}

static tally_status_t timer_set(struct sim_job *job, struct member *member)
{
    if (member->timed)
        return TALLY_OK;
    member->timed = true;
    member->timer_ns = member->deadline_ns;
    return sim_network_timer(job->network, member->topology.rank,
                             member->timer_ns);
}

static tally_status_t member_start(struct sim_job *job, struct member *member)
{
    const struct sim_job_run *run = job->run;
    int32_t rank = member->topology.rank;

    run->fill(run->context, rank, ++member->sequence, job->lanes);
    allreduce_start(member->allreduce, job->lanes);
    member->busy = true;
    member->deadline_ns =
        sim_network_rank_now(job->network, rank) + run->timeout_ns;
    return timer_set(job, member);
}

// Completes and starts reductions until there is one to wait for.
static void member_move(struct sim_job *job, struct member *member)
{
    const struct sim_job_run *run = job->run;
    tally_status_t status = TALLY_OK;

    while (status == TALLY_OK) {
        if (!member->busy)
            status = member_start(job, member);
        if (status == TALLY_OK)
            status = allreduce_progress(member->allreduce);
        if (status != TALLY_OK)
            break;
        if (run->done != NULL)
            run->done(run->context, member->topology.rank, member->sequence,
                      allreduce_result_borrow(member->allreduce));
        member->busy = false;
        if (--member->left == 0)
            break;
    }
    if (status != TALLY_NOT_YET)
        member_stop(job, member, status);
}

static int64_t member_begin_ns(const struct sim_job *job, int32_t rank)
{
    const struct sim_job_run *run = job->run;

    return job->begin_ns + (rank == run->late ? run->late_ns : 0);
}

static void timer_look(struct sim_job *job, struct member *member,
                       int64_t now_ns)
{
    tally_status_t status = TALLY_ERR_TIMEOUT;

    if (!member->timed || now_ns < member->timer_ns)
        return;
    member->timed = false;
    if (!member->busy)
        return;
    if (now_ns < member->deadline_ns) // of an earlier reduction
        status = timer_set(job, member);
    if (status != TALLY_OK)
        member_stop(job, member, status);
}

static void member_wake(void *context, int32_t rank)
{
    struct sim_job *job = context;
    struct member *member = &job->members[rank];
    int64_t now_ns = sim_network_now(job->network);

    if (member->status != TALLY_OK)
        return;
    sim_network_ops()->progress(member->transport);
    if (member->left > 0 && now_ns >= member_begin_ns(job, rank))
        member_move(job, member);
    timer_look(job, member, now_ns);
}

// When nobody is busy with what was before.
static int64_t quiet_ns(const struct sim_job *job)
{
    int64_t quiet = sim_network_now(job->network);

    for (int32_t i = 0; i < job->size; i++) {
        int64_t now_ns = sim_network_rank_now(job->network, i);

        if (now_ns > quiet)
            quiet = now_ns;
    }
    return quiet;
}

static void member_begin(struct sim_job *job, struct member *member)
{
    tally_status_t status;

    if (member->status != TALLY_OK || job->run->reductions == 0)
        return;
    member->left = job->run->reductions;
    job->running++;
    status = sim_network_timer(job->network, member->topology.rank,
                               member_begin_ns(job, member->topology.rank));
    if (status != TALLY_OK)
        member_stop(job, member, status);
}

struct sim_job_result sim_job_run(struct sim_job *job,
                                  const struct sim_job_run *run)
{
    struct sim_job_result result = {.failed = 0};

    assert(run->timeout_ns > 0);
    job->run = run;
    job->begin_ns = quiet_ns(job);
    job->end_ns = job->begin_ns;
    job->running = 0;
    for (int32_t i = 0; i < job->size; i++)
        member_begin(job, &job->members[i]);
    while (job->running > 0) {
        // Whoever is not done has a timer.
        bool moved = sim_network_step(job->network, member_wake, job);

        assert(moved);
        (void)moved;
    }
    for (int32_t i = 0; i < job->size; i++)
        result.failed += job->members[i].status != TALLY_OK;
    result.time_ns = job->end_ns - job->begin_ns;
    job->run = NULL;
    return result;
}

tally_status_t sim_job_status(const struct sim_job *job, int32_t rank)
{
    return job->members[rank].status;
}

int32_t sim_job_awaited(const struct sim_job *job, int32_t rank)
{
    return job->members[rank].awaited;
}

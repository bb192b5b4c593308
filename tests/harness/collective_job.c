// SPDX-License-Identifier: BSD-3-Clause
// See collective_job.h.
#include "harness/collective_job.h"

#include <check.h>
#include <stdlib.h>

static void open_one(struct ranks_member *member)
{
    struct collective_job *job = member->argument;
    struct collective_rank *rank = &job->ranks[member->rank];

    collective_open(rank, ranks_allgather, member, member->rank, member->size,
                    job->layout, job->network);
    for (size_t i = 0; i < job->reducer_count; i++)
        job->allreduces[i][member->rank] =
            collective_allreduce(rank, &job->reducers[i].shape,
                                 job->reducers[i].radix, (uint16_t)(i + 1));
}

void collective_job_open(struct collective_job *job, int32_t size,
                         const struct fake_options *options,
                         collective_layout_fn layout,
                         const struct collective_reducer *reducers,
                         size_t count)
{
    ck_assert(size <= JOB_RANKS_MAX && count <= JOB_REDUCERS_MAX);
    *job = (struct collective_job){
        .size = size,
        .layout = layout,
        .reducers = reducers,
        .reducer_count = count,
        .network = options != NULL ? fake_network_create(size, options) : NULL,
    };
    ranks_run(size, open_one, job);
}

void collective_job_close(struct collective_job *job)
{
    for (int32_t rank = 0; rank < job->size; rank++) {
        if (job->network != NULL)
            ck_assert_int_eq(collective_job_counts(job, rank).overwritten, 0);
        for (size_t i = 0; i < job->reducer_count; i++)
            allreduce_free(job->allreduces[i][rank]);
        collective_close(&job->ranks[rank]);
    }
    if (job->network != NULL)
        fake_network_free(job->network);
}

struct fake_counts collective_job_counts(const struct collective_job *job,
                                         int32_t rank)
{
    return fake_transport_counts(job->ranks[rank].transport);
}

void collective_job_start(struct collective_job *job, int32_t rank,
                          uint64_t sequence)
{
    const struct lanes_shape *shape = &job->reducers[0].shape;
    int64_t *lanes = calloc(lanes_count(shape), sizeof(*lanes));

    if (lanes == NULL)
        abort();
    lanes_fill(shape, rank, sequence, lanes);
    allreduce_start(job->allreduces[0][rank], lanes);
    free(lanes);
}

tally_status_t collective_job_move(struct collective_job *job, int32_t rank)
{
    return collective_progress(&job->ranks[rank], job->allreduces[0][rank]);
}

bool collective_job_right(const struct collective_job *job, int32_t rank,
                          uint64_t sequence)
{
    const struct lanes_shape *shape = &job->reducers[0].shape;
    int64_t *lanes = calloc(lanes_count(shape), sizeof(*lanes));

    if (lanes == NULL)
        abort();
    lanes_expect(shape, job->size, sequence, lanes);
    bool right = lanes_equal(
        shape, allreduce_result_borrow(job->allreduces[0][rank]), lanes);
    free(lanes);
    return right;
}

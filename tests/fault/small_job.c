// SPDX-License-Identifier: BSD-3-Clause
// See small_job.h.
#include "fault/small_job.h"

tally_status_t small_job_open(struct small_job *job)
{
    tally_status_t status = tally_open(NULL, &job->tally);

    if (status != TALLY_OK)
        return status;
    tally_rank(job->tally, &job->rank, &job->ranks);
    return small_job_enter(job, NULL);
}

tally_status_t small_job_enter(struct small_job *job,
                               const tally_group_params_t *params)
{
    tally_step_params_t step = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_status_t status = tally_group_create(job->tally, params, &job->group);

    if (status != TALLY_OK)
        return status;
    channel.vocab = 1;
    step.channels = &channel;
    step.channel_count = 1;
    return tally_step_create(job->group, &step, &job->step);
}

tally_status_t small_job_leave(struct small_job *job)
{
    tally_status_t status = tally_step_free(job->step);

    return status == TALLY_OK ? tally_group_free(job->group) : status;
}

tally_status_t small_job_step(struct small_job *job, int64_t tokens)
{
    static const int32_t values[64] = {0};
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    tally_status_t status = tally_step_begin(job->step, 1, NULL);

    labels.type = TALLY_I32;
    labels.values = values;
    labels.tokens = tokens;
    if (status == TALLY_OK)
        status = tally_step_count(job->step, 0, &labels, NULL);
    if (status == TALLY_OK)
        status = tally_step_reduce(job->step, NULL);
    return status == TALLY_OK ? tally_step_end(job->step, NULL) : status;
}

tally_status_t small_job_close(struct small_job *job)
{
    tally_status_t status = small_job_leave(job);

    return status == TALLY_OK ? tally_close(job->tally) : status;
}

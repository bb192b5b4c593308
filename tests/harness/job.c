// SPDX-License-Identifier: BSD-3-Clause
// See job.h.
#include "harness/job.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void capture(void *context, tally_log_level_t level, const char *line)
{
    struct job *job = context;

    (void)level;
    pthread_mutex_lock(&job->log_lock);
    size_t used = strlen(job->log);
    snprintf(job->log + used, sizeof(job->log) - used, "%s\n", line);
    pthread_mutex_unlock(&job->log_lock);
}

static const char *look_up(void *context, const char *name)
{
    const struct job *job = context;

    for (const char *const *at = job->settings; at != NULL && *at != NULL;
         at += 2)
        if (strcmp(at[0], name) == 0)
            return at[1];
    return NULL;
}

static int gather(void *context, const void *send, void *recv, size_t bytes)
{
    struct job *job = context;

    return ranks_allgather(job->member, send, recv, bytes);
}

void job_prepare(struct job *job, struct ranks_member *member,
                 const char *const *settings)
{
    memset(job, 0, sizeof(*job));
    pthread_mutex_init(&job->log_lock, NULL);
    job->member = member;
    job->settings = settings;
    job->host = (tally_host_t)TALLY_INIT(tally_host_t);
    job->host.context = job;
    job->host.log = capture;
    job->host.get_env = look_up;
    if (member != NULL) {
        job->host.allgather = gather;
        job->host.rank = member->rank;
        job->host.world_size = member->size;
    }
}

void job_open(struct job *job, struct ranks_member *member,
              const char *const *settings)
{
    job_prepare(job, member, settings);
    ck_assert_msg(tally_open(&job->host, &job->tally) == TALLY_OK, "%s",
                  tally_last_error());
    ck_assert_msg(tally_group_create(job->tally, NULL, &job->group) == TALLY_OK,
                  "%s", tally_last_error());
}

void job_close(struct job *job)
{
    ck_assert_msg(tally_group_free(job->group) == TALLY_OK, "%s",
                  tally_last_error());
    ck_assert_msg(tally_close(job->tally) == TALLY_OK, "%s",
                  tally_last_error());
    pthread_mutex_destroy(&job->log_lock);
}

tally_step_t *job_step(struct job *job, tally_order_t order,
                       uint32_t channel_count, int64_t vocab)
{
    tally_channel_t channels[TALLY_CHANNELS_MAX];
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_step_t *step;

    for (uint32_t k = 0; k < channel_count; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = vocab;
    }
    params.order = order;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = channels;
    params.channel_count = channel_count;
    ck_assert_msg(tally_step_create(job->group, &params, &step) == TALLY_OK,
                  "%s", tally_last_error());
    return step;
}

static bool is_logged(struct job *job, const char *whole)
{
    pthread_mutex_lock(&job->log_lock);
    bool found = strstr(job->log, whole) != NULL;
    pthread_mutex_unlock(&job->log_lock);
    return found;
}

void job_assert_logged(struct job *job, const char *line)
{
    const struct timespec nap = {0, 1000000};
    char whole[1024];

    snprintf(whole, sizeof(whole), "%s\n", line);
    // The progress thread logs after it has told others.
    for (int i = 0; i < 10000 && !is_logged(job, whole); i++)
        nanosleep(&nap, NULL);
    ck_assert_msg(is_logged(job, whole), "not logged: %s\nlogged: %s", line,
                  job->log);
}

tally_labels_t job_labels(const int64_t *values, int64_t tokens)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I64;
    labels.values = values;
    labels.tokens = tokens;
    return labels;
}

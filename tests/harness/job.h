// SPDX-License-Identifier: BSD-3-Clause
// A rank of a test job that is a thread: Tally opened through the host
// callbacks, with settings and captured log lines of its own.
#ifndef HARNESS_JOB_H
#define HARNESS_JOB_H

#include <pthread.h>
#include <tally/tally.h>

#include "harness/ranks.h"

#define JOB_LOG_BYTES 8192

struct job {
    struct ranks_member *member; // NULL: a job of one rank
    const char *const *settings; // "NAME", "value", ..., NULL
    tally_host_t host;
    tally_t *tally;
    tally_group_t *group;
    pthread_mutex_t log_lock;
    char log[JOB_LOG_BYTES]; // lines, each with its newline
};

// Opens Tally and a group of all ranks, and asserts that it works. settings:
// NULL for none.
void job_open(struct job *job, struct ranks_member *member,
              const char *const *settings);

// Prepares job->host only, for tests of tally_open itself.
void job_prepare(struct job *job, struct ranks_member *member,
                 const char *const *settings);

// Frees the group and closes, and asserts that it works.
void job_close(struct job *job);

// A step with `channel_count` channels of vocabulary `vocab`, all else preset.
tally_step_t *job_step(struct job *job, tally_order_t order,
                       uint32_t channel_count, int64_t vocab);

// Asserts that the log holds `line`, whole.
void job_assert_logged(struct job *job, const char *line);

// Labels of int64, without weights.
tally_labels_t job_labels(const int64_t *values, int64_t tokens);

// Asserts a status and tally_last_error's sentence.
#define job_assert_fails(call, expected_status, sentence)                      \
    do {                                                                       \
        ck_assert_int_eq((call), (expected_status));                           \
        ck_assert_str_eq(tally_last_error(), (sentence));                      \
    } while (0)

#endif

// SPDX-License-Identifier: BSD-3-Clause
// See replica_step.h.
#include "harness/replica_step.h"

#include <check.h>

static const int64_t some_labels[] = {0, 1, 2};

static const char *const of_all[] = {
    "TALLY_UCX_TLS",
    "tcp,self",
    "TALLY_OFI_PROVIDER",
    "tcp;ofi_rxm",
};

void replica_step_open(struct replica_step *replica,
                       struct ranks_member *member, const char *const *settings,
                       int32_t number, int32_t replicas)
{
    tally_replica_params_t params = TALLY_INIT(tally_replica_params_t);
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    struct job *job = &replica->job;
    size_t used = 0;

    for (size_t i = 0; i < sizeof(of_all) / sizeof(of_all[0]); i++)
        replica->settings[used++] = of_all[i];
    for (; *settings != NULL; settings++) {
        ck_assert_uint_lt(used, REPLICA_STEP_SETTINGS_MAX - 1);
        replica->settings[used++] = *settings;
    }
    replica->settings[used] = NULL;
    job_prepare(job, member, replica->settings);
    params.replica = number;
    params.replicas = replicas;
    group.replica = &params;
    ck_assert_msg(tally_open(&job->host, &job->tally) == TALLY_OK, "%s",
                  tally_last_error());
    ck_assert_msg(tally_group_create(job->tally, &group, &job->group) ==
                      TALLY_OK,
                  "%s", tally_last_error());
    replica->step = job_step(job, TALLY_COUNT_FIRST, 1, 7);
}

void replica_step_close(struct replica_step *replica)
{
    ck_assert_int_eq(tally_step_free(replica->step), TALLY_OK);
    job_close(&replica->job);
}

static tally_status_t count_once(struct replica_step *replica)
{
    tally_labels_t labels = job_labels(some_labels, 3);
    tally_result_t result = TALLY_INIT(tally_result_t);

    ck_assert_int_eq(tally_step_begin(replica->step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(replica->step, 0, &labels, NULL),
                     TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(replica->step, NULL), TALLY_OK);
    tally_status_t status = tally_step_end(replica->step, NULL);
    return status == TALLY_OK
               ? tally_step_result(replica->step, 0, TALLY_RESULT_WAIT, &result)
               : status;
}

void replica_step_count(struct replica_step *replica)
{
    tally_status_t status;

    do
        status = count_once(replica);
    while (status == TALLY_ERR_REPLICA);
    ck_assert_msg(status == TALLY_OK, "%s", tally_last_error());
}

void replica_step_apply(struct replica_step *replica,
                        tally_replica_verdict_t *verdict)
{
    ck_assert_int_eq(tally_replica_ready(replica->step, TALLY_REPLICA_READY),
                     TALLY_OK);
    do
        ck_assert_int_eq(tally_replica_apply(replica->step, verdict), TALLY_OK);
    while (verdict->status == TALLY_REPLICA_IN_DOUBT);
}

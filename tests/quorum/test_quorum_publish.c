// SPDX-License-Identifier: BSD-3-Clause
// tally_replica_publish as a trainer calls it: a replica of two ranks, over a
// real etcd, which is stopped in the midst of it.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness/replica_step.h"
#include "quorum/scene.h"

static void set_up(void)
{
    if (!scene_open(SCENE_ETCD)) {
        scene_close();
        puts("skipped: no etcd here");
        exit(77);
    }
}

static void open_step(struct replica_step *replica, struct ranks_member *member)
{
    const char *const settings[] = {
        "TALLY_QUORUM",
        "etcd",
        "TALLY_ETCD_ENDPOINTS",
        scene_setting("TALLY_ETCD_ENDPOINTS"),
        "TALLY_ETCD_LEASE",
        scene_setting("TALLY_ETCD_LEASE"),
        "TALLY_JOB",
        "publish",
        "TALLY_PLUGIN_PATH",
        BUILD_FOLDER "/.libs",
        NULL,
    };

    replica_step_open(replica, member, settings, 0, 1);
}

static tally_replica_state_t apply(struct replica_step *replica)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);

    replica_step_count(replica);
    replica_step_apply(replica, &verdict);
    ck_assert_int_eq(verdict.status, TALLY_REPLICA_APPLY);
    return verdict.state;
}

static void close_step(struct replica_step *replica,
                       struct ranks_member *member)
{
    ranks_barrier(member);
    replica_step_close(replica);
}

static void publishes(struct ranks_member *member)
{
    struct replica_step replica;

    open_step(&replica, member);
    tally_replica_state_t first = apply(&replica);
    tally_replica_state_t second = apply(&replica);
    if (member->rank == 1) {
        job_assert_fails(tally_replica_publish(replica.step, &first),
                         TALLY_ERR_ORDER,
                         "tally_replica_publish: the first rank of a replica "
                         "publishes");
        close_step(&replica, member);
        return;
    }
    ck_assert_int_eq(tally_replica_publish(replica.step, &second), TALLY_OK);
    ck_assert_int_eq(tally_replica_publish(replica.step, &second), TALLY_OK);
    job_assert_fails(tally_replica_publish(replica.step, &first),
                     TALLY_ERR_MISMATCH,
                     "tally_replica_publish: the checkpoint of index 2 is "
                     "published: that of 1 is not after it");
    second.lineage = 2;
    job_assert_fails(tally_replica_publish(replica.step, &second),
                     TALLY_ERR_MISMATCH,
                     "tally_replica_publish: the register holds lineage 1: no "
                     "checkpoint of lineage 2 is published");
    close_step(&replica, member);
}

START_TEST(a_checkpoint_is_published_once_and_by_the_first_rank)
{
    ranks_run(2, publishes, NULL);
}
END_TEST

START_TEST(who_has_no_replica_group_publishes_nothing)
{
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
    struct job job;

    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    job_assert_fails(tally_replica_publish(step, &state), TALLY_ERR_ORDER,
                     "tally_replica_publish: its group is no replica group");
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

struct call {
    tally_step_t *step;
    tally_replica_state_t state;
    tally_status_t status;
};

static void *call(void *context)
{
    struct call *one = context;

    one->status = tally_replica_publish(one->step, &one->state);
    return NULL;
}

// Two at a time, while the register does not answer.
static void call_twice(struct call calls[2])
{
    pthread_t other;

    ck_assert_int_eq(pthread_create(&other, NULL, call, &calls[1]), 0);
    call(&calls[0]);
    pthread_join(other, NULL);
}

static void waits_for_etcd(struct ranks_member *member)
{
    struct replica_step replica;
    struct call calls[2];

    open_step(&replica, member);
    calls[0] = (struct call){.step = replica.step, .state = apply(&replica)};
    calls[1] = calls[0];
    etcd_server_pause(true);
    // Of two that overlap, the first waits for the register.
    do {
        call_twice(calls);
        for (int i = 0; i < 2; i++)
            ck_assert(calls[i].status == TALLY_ERR_TIMEOUT ||
                      calls[i].status == TALLY_ERR_BUSY);
    } while (calls[0].status == calls[1].status);
    etcd_server_pause(false);
    tally_status_t status;
    do // it is not known yet: again
        status = tally_replica_publish(replica.step, &calls[0].state);
    while (status == TALLY_ERR_TIMEOUT || status == TALLY_ERR_BUSY);
    ck_assert_msg(status == TALLY_OK, "%s", tally_last_error());
    close_step(&replica, member);
}

START_TEST(while_the_register_does_not_answer_it_is_not_known)
{
    ranks_run(1, waits_for_etcd, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quorum, checkpoints");
    TCase *tests = tcase_create("publish");

    if (access("/usr/bin/etcd", X_OK) != 0 ||
        access(BUILD_FOLDER "/.libs/libtally-etcd.so", F_OK) != 0) {
        puts("skipped: etcd-server or libtally-etcd.so is not here");
        return 77;
    }
    if (access(BUILD_FOLDER "/.libs/libtally-ucx.so", F_OK) != 0 &&
        access(BUILD_FOLDER "/.libs/libtally-ofi.so", F_OK) != 0) {
        puts("skipped: there is no transport between replicas");
        return 77;
    }
    tcase_set_timeout(tests, 180);
    tcase_add_checked_fixture(tests, set_up, scene_close);
    tcase_add_test(tests, a_checkpoint_is_published_once_and_by_the_first_rank);
    tcase_add_test(tests, who_has_no_replica_group_publishes_nothing);
    tcase_add_test(tests, while_the_register_does_not_answer_it_is_not_known);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

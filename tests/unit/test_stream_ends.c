// SPDX-License-Identifier: BSD-3-Clause
// Tests of how reductions on a stream end where they do not end by themselves.
#include <check.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "core/health.h"
#include "core/stream.h"
#include "harness/nccl_scene.h"
#include "kernels/slot.h"

static struct {
    const struct nccl_setup *setup;
    void (*happens)(struct job *job, int32_t rank);
    tally_status_t status;
    const char *sentence;
} end;

// A reduction that does not end by itself, as kernels show it.
static void ended_as_rank(struct ranks_member *member)
{
    const struct timespec nap = {0, 1000000};
    struct made_up_stream stream = {.pending = 0};
    struct kernel_mirror mirror = {.started = 0};
    struct watchdog_step step = {.mirror = &mirror};
    int64_t lanes[NCCL_SCENE_LANES] = {0};
    struct job job;

    nccl_scene_open(&job, member, end.setup);
    ck_assert_int_eq(stream_join(job.group), TALLY_OK);
    stream_add(job.group, &step);
    ranks_barrier(member);
    atomic_store(&nccl_scene.nccl->stuck, true);
    ranks_barrier(member);
    ck_assert_int_eq(
        stream_reduce(job.group, lanes, NCCL_SCENE_LANES, 0, (void *)&stream),
        TALLY_OK);
    __atomic_store_n(&mirror.started, 1, __ATOMIC_SEQ_CST);
    end.happens(&job, member->rank);
    while (__atomic_load_n(&mirror.dead, __ATOMIC_SEQ_CST) == 0)
        nanosleep(&nap, NULL);
    // One of Tally's is aborted, so its stream goes on.
    while (end.setup == &nccl_own && atomic_load(&stream.pending) > 0)
        nanosleep(&nap, NULL);
    ck_assert_int_eq(
        stream_reduce(job.group, lanes, NCCL_SCENE_LANES, 0, (void *)&stream),
        end.status);
    ck_assert_msg(strstr(core_error_text(), end.sentence) != NULL, "%s",
                  core_error_text());
    ranks_barrier(member);
    stream_remove(job.group, &step);
    job_close(&job);
}

static void expect_end(const struct nccl_setup *setup,
                       void (*happens)(struct job *, int32_t),
                       tally_status_t status, const char *sentence)
{
    end.setup = setup;
    end.happens = happens;
    end.status = status;
    end.sentence = sentence;
    ranks_run(NCCL_SCENE_RANKS, ended_as_rank, NULL);
    atomic_store(&nccl_scene.nccl->stuck, false);
}

static void a_rank_dies(struct job *job, int32_t rank)
{
    (void)rank;
    health_report(job->tally->health, 1, HEALTH_DIED);
}

static void nccl_reports(struct job *job, int32_t rank)
{
    (void)job;
    (void)rank;
    atomic_store(&nccl_scene.nccl->async_error, ncclRemoteError);
}

static void nothing(struct job *job, int32_t rank)
{
    (void)job;
    (void)rank;
}

START_TEST(a_rank_that_dies_ends_the_group_and_the_communicator)
{
    nccl_scene_load();
    expect_end(&nccl_own, a_rank_dies, TALLY_ERR_PEER,
               "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), NCCL_SCENE_RANKS);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->destroys), 0);
    nccl_scene_check(0);
}
END_TEST

START_TEST(what_nccl_reports_ends_the_group)
{
    nccl_scene_load();
    expect_end(&nccl_own, nccl_reports, TALLY_ERR_PEER,
               "NCCL: remote error: said by the tests");
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), NCCL_SCENE_RANKS);
    nccl_scene_check(0);
}
END_TEST

START_TEST(the_deadline_ends_a_reduction_that_nobody_fails)
{
    nccl_scene_load();
    expect_end(&nccl_own, nothing, TALLY_ERR_TIMEOUT,
               "a reduction on the device timed out after 2 s");
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), NCCL_SCENE_RANKS);
    nccl_scene_check(0);
}
END_TEST

START_TEST(the_trainers_communicator_is_not_aborted_either)
{
    nccl_scene_load();
    expect_end(&nccl_adopting, a_rank_dies, TALLY_ERR_PEER,
               "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->destroys), 0);
    nccl_scene_check(NCCL_SCENE_RANKS);
}
END_TEST

START_TEST(a_graph_that_holds_a_reduction_does_not_hold_the_end)
{
    nccl_scene_load();
    atomic_store(&nccl_scene.nccl->graphs, true);
    expect_end(&nccl_own, a_rank_dies, TALLY_ERR_PEER,
               "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), NCCL_SCENE_RANKS);
    ranks_run(NCCL_SCENE_RANKS, nccl_scene_reduce, (void *)&nccl_own);
    nccl_scene_check(0);
}
END_TEST

static void refusing_as_rank(struct ranks_member *member)
{
    const bool *taken = member->argument;
    struct made_up_stream stream = {.pending = 0};
    int64_t lanes[NCCL_SCENE_LANES] = {0};
    struct job job;

    nccl_scene_open(&job, member, &nccl_own);
    ck_assert_int_eq(stream_join(job.group), TALLY_OK);
    ranks_barrier(member);
    if (*taken)
        atomic_store(&nccl_scene.nccl->never_taken, true);
    else
        atomic_store(&nccl_scene.nccl->reduce_error, ncclInvalidUsage);
    ranks_barrier(member);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(stream_reduce(job.group, lanes, NCCL_SCENE_LANES, 0,
                                       (void *)&stream),
                         *taken ? TALLY_ERR_TIMEOUT : TALLY_ERR_TRANSPORT);
        ck_assert_msg(strstr(core_error_text(),
                             *taken ? "NCCL has not put a reduction into the "
                                      "stream in 2 s"
                                    : "NCCL: some error: said by") != NULL,
                      "%s", core_error_text());
    }
    ck_assert_int_ne(job.group->fate.status, TALLY_OK);
    ranks_barrier(member);
    job_close(&job);
}

START_TEST(a_reduction_that_nccl_does_not_take_ends_the_group)
{
    bool taken = _i == 1;

    nccl_scene_load();
    ranks_run(NCCL_SCENE_RANKS, refusing_as_rank, &taken);
    nccl_scene_check(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream_ends");
    TCase *tests = tcase_create("ends");

    tcase_add_test(tests, a_rank_that_dies_ends_the_group_and_the_communicator);
    tcase_add_test(tests, what_nccl_reports_ends_the_group);
    tcase_add_test(tests, the_deadline_ends_a_reduction_that_nobody_fails);
    tcase_add_test(tests, the_trainers_communicator_is_not_aborted_either);
    tcase_add_test(tests, a_graph_that_holds_a_reduction_does_not_hold_the_end);
    tcase_add_loop_test(
        tests, a_reduction_that_nccl_does_not_take_ends_the_group, 0, 2);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

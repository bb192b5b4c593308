// SPDX-License-Identifier: BSD-3-Clause
// Tests of how a group comes to its communicator of stream collectives: ranks
// decide together, nothing hangs, and what is the trainer's stays the
// trainer's.
#include <check.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/stream.h"
#include "harness/nccl_scene.h"

START_TEST(ranks_get_the_sums_and_maxima_of_all)
{
    const struct nccl_setup automatic = {.transport = "auto"};

    nccl_scene_load();
    atomic_store(&nccl_scene.nccl->init_delay, 5);
    ranks_run(NCCL_SCENE_RANKS, nccl_scene_reduce, (void *)&nccl_own);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->inits), NCCL_SCENE_RANKS);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->destroys), NCCL_SCENE_RANKS);
    ranks_run(NCCL_SCENE_RANKS, nccl_scene_reduce, (void *)&automatic);
    nccl_scene_check(0);
}
END_TEST

START_TEST(a_call_that_nccl_has_only_begun_to_take_is_waited_for)
{
    nccl_scene_load();
    atomic_store(&nccl_scene.nccl->in_progress, true);
    ranks_run(NCCL_SCENE_RANKS, nccl_scene_reduce, (void *)&nccl_own);
    nccl_scene_check(0);
}
END_TEST

START_TEST(the_trainers_communicator_is_used_and_left_alone)
{
    nccl_scene_load();
    ranks_run(NCCL_SCENE_RANKS, nccl_scene_reduce, (void *)&nccl_adopting);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->inits), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->finalizes), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->destroys), 0);
    nccl_scene_check(NCCL_SCENE_RANKS);
}
END_TEST

// ----------------------------------------------------------- no communicator

static struct {
    const struct nccl_setup *setup;
    tally_status_t status;
    const char *sentence; // part of it
} refusal;

static void refused_as_rank(struct ranks_member *member)
{
    struct job job;

    nccl_scene_open(&job, member, refusal.setup);
    ck_assert_int_eq(stream_join(job.group), refusal.status);
    ck_assert_msg(strstr(core_error_text(), refusal.sentence) != NULL, "%s",
                  core_error_text());
    ck_assert_ptr_null(job.group->stream);
    job_close(&job);
}

static void expect_refusal(const struct nccl_setup *setup,
                           tally_status_t status, const char *sentence)
{
    refusal.setup = setup;
    refusal.status = status;
    refusal.sentence = sentence;
    ranks_run(NCCL_SCENE_RANKS, refused_as_rank, NULL);
}

START_TEST(what_keeps_all_from_nccl_is_said_at_all)
{
    static const struct nccl_setup hasty = {.transport = "nccl",
                                            .timeout = "1"};

    nccl_scene_load();
    nccl_scene.cuda->devices = 0;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "rank 0 cannot use nccl: there is no CUDA device: the "
                   "driver sees none");
    nccl_scene.cuda->devices = 1;
    nccl_scene.cuda->init_error = 100;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT, "the driver says error 100");
    nccl_scene.cuda->init_error = 0;
    nccl_scene.cuda->no_context = true;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "no CUDA context is current");
    nccl_scene.cuda->no_context = false;
    nccl_scene.cuda->memory_error = 2;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "no memory of the host: error 2");
    nccl_scene.cuda->memory_error = 0;
    nccl_scene.nccl->init_error = ncclSystemError;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT, "NCCL: some error: said by");
    nccl_scene.nccl->init_error = ncclSuccess;
    atomic_store(&nccl_scene.nccl->async_error, ncclRemoteError);
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "NCCL: remote error: said by");
    atomic_store(&nccl_scene.nccl->async_error, ncclSuccess);
    nccl_scene.cuda->stream_error = 700;
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "a reduction failed on the device: error 700");
    nccl_scene.cuda->stream_error = 0;
    atomic_store(&nccl_scene.nccl->wrong, 1);
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "NCCL adds up one each of 3 ranks to 4");
    atomic_store(&nccl_scene.nccl->wrong, 0);
    atomic_store(&nccl_scene.nccl->absent, true);
    expect_refusal(&hasty, TALLY_ERR_TRANSPORT,
                   "its communicator is not open after 0.25 s");
    atomic_store(&nccl_scene.nccl->absent, false);
    atomic_store(&nccl_scene.nccl->stuck, true);
    expect_refusal(&hasty, TALLY_ERR_TRANSPORT,
                   "its communicator is not open after 0.25 s");
    nccl_scene_check(0);
}
END_TEST

START_TEST(the_trainers_communicator_must_be_of_the_groups_ranks)
{
    static const struct nccl_setup some = {.transport = "nccl",
                                           .adopts = {true, false, true}};
    static const struct nccl_setup turned = {
        .transport = "nccl", .adopts = {true, true, true}, .turned = true};

    nccl_scene_load();
    expect_refusal(&some, TALLY_ERR_MISMATCH,
                   "nccl_comm is NULL at rank 1, and not at rank 0");
    expect_refusal(&turned, TALLY_ERR_TRANSPORT,
                   "rank 0 cannot use nccl: nccl_comm is rank 2 of 3, the "
                   "group is rank 0 of 3");
    nccl_scene_check(2 + NCCL_SCENE_RANKS);
}
END_TEST

START_TEST(a_replica_group_takes_no_communicator)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    tally_replica_params_t replica = TALLY_INIT(tally_replica_params_t);
    tally_group_t *group;
    struct job job;

    job_open(&job, NULL, NULL);
    params.nccl_comm = &params;
    params.replica = &replica;
    job_assert_fails(tally_group_create(job.tally, &params, &group),
                     TALLY_ERR_UNSUPPORTED,
                     "tally_group_create: nccl_comm: steps of a replica group "
                     "are in host memory");
    job_close(&job);
}
END_TEST

static void beside_a_communicator_as_rank(struct ranks_member *member)
{
    const int64_t labels[] = {1, 2};
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    tally_labels_t given = job_labels(labels, 2);
    tally_result_t result = TALLY_INIT(tally_result_t);
    struct job job;

    nccl_scene_open(&job, member, &nccl_own);
    ck_assert_int_eq(tally_group_free(job.group), TALLY_OK);
    params.nccl_comm = &params; // of steps on a device, so nobody looks at it
    ck_assert_int_eq(tally_group_create(job.tally, &params, &job.group),
                     TALLY_OK);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 7);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &given, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_result(step, 1, TALLY_RESULT_WAIT, &result),
                     TALLY_OK);
    ck_assert_int_eq(result.members, NCCL_SCENE_RANKS);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}

START_TEST(steps_on_the_host_reduce_beside_a_communicator)
{
    nccl_scene_load();
    ranks_run(NCCL_SCENE_RANKS, beside_a_communicator_as_rank, NULL);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->inits), 0);
    nccl_scene_check(0);
}
END_TEST

START_TEST(where_no_transport_is_of_the_kind_that_is_said)
{
    static const struct nccl_setup shm = {.transport = "shm"};

    expect_refusal(&shm, TALLY_ERR_TRANSPORT,
                   "no transport reduces on the stream of all ranks: "
                   "TALLY_TRANSPORT has none");
}
END_TEST

static void expect_no_nccl(const char *library, const char *sentence)
{
    const char *settings[] = {"TALLY_TRANSPORT",
                              "nccl",
                              "TALLY_PLUGIN_PATH",
                              BUILD_FOLDER "/.libs",
                              "TALLY_NCCL_LIBRARY",
                              library,
                              NULL};
    struct job job;

    job_prepare(&job, NULL, settings);
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_ERR_TRANSPORT);
    ck_assert_msg(strstr(tally_last_error(), sentence) != NULL, "%s",
                  tally_last_error());
}

START_TEST(an_nccl_that_does_not_fit_is_refused_with_both_versions)
{
    char built[64];

    nccl_scene_load();
    nccl_scene.nccl->version = 21704;
    expect_no_nccl("", "serves 2.18.0 and later ones of its major version, the "
                       "library loaded is 2.17.4");
    nccl_scene.nccl->version = 30100;
    expect_no_nccl("", "the library loaded is 3.1.0");
    snprintf(built, sizeof(built), "was built against NCCL %d.%d.%d",
             NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
    expect_no_nccl("", built);
}
END_TEST

START_TEST(what_is_no_nccl_is_refused)
{
    expect_no_nccl(BUILD_FOLDER "/tests/harness/nccl/.libs/libcuda.so.1",
                   "is not NCCL: it has no ncclGetVersion");
    expect_no_nccl("/nonexistent/libnccl.so.2", "NCCL cannot be loaded: ");
}
END_TEST

// As beside PyTorch's. The other one is none: whichever is looked at is told by
// the error.
START_TEST(the_nccl_that_is_loaded_already_is_used_and_not_the_named_one)
{
    nccl_scene_load();
    nccl_scene.nccl->version = 21704;
    expect_no_nccl(BUILD_FOLDER "/tests/harness/nccl/.libs/libcuda.so.1",
                   "the library loaded is 2.17.4");
}
END_TEST

// As a process with the real library, and no driver, sees it.
START_TEST(without_a_driver_the_real_nccl_is_loaded_and_not_used)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

    if (driver != NULL || access(NCCL_FOLDER "/libnccl.so.2", R_OK) != 0) {
        printf("skipped: %s\n", driver != NULL ? "there is a CUDA driver"
                                               : NCCL_FOLDER
                                    " has no libnccl.so.2");
        return;
    }
    expect_refusal(&nccl_own, TALLY_ERR_TRANSPORT,
                   "rank 0 cannot use nccl: there is no CUDA device: "
                   "libcuda.so.1: cannot open shared object file");
    ck_assert_ptr_nonnull(dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD));
}
END_TEST

static void on_the_host_as_rank(struct ranks_member *member)
{
    const char *settings[] = {"TALLY_TRANSPORT",
                              "nccl",
                              "TALLY_PLUGIN_PATH",
                              BUILD_FOLDER "/.libs",
                              "TALLY_NODE_SHM",
                              "0",
                              NULL};
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_step_t *step;
    struct job job;

    job_open(&job, member, settings);
    channel.vocab = 7;
    params.channels = &channel;
    params.channel_count = 1;
    job_assert_fails(tally_step_create(job.group, &params, &step),
                     TALLY_ERR_TRANSPORT,
                     "tally_step_create: TALLY_TRANSPORT=nccl reduces on the "
                     "stream of a device, the 3 nodes of group \"\" are not "
                     "joined for steps in the memory of the host");
    ck_assert_int_eq(stream_join(job.group), TALLY_OK);
    ranks_barrier(member);
    job_close(&job);
}

START_TEST(nccl_alone_joins_no_nodes_for_steps_on_the_host)
{
    nccl_scene_load();
    ranks_run(NCCL_SCENE_RANKS, on_the_host_as_rank, NULL);
    nccl_scene_check(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *tests = tcase_create("join");

    tcase_add_test(tests, ranks_get_the_sums_and_maxima_of_all);
    tcase_add_test(tests,
                   a_call_that_nccl_has_only_begun_to_take_is_waited_for);
    tcase_add_test(tests, the_trainers_communicator_is_used_and_left_alone);
    tcase_add_test(tests, what_keeps_all_from_nccl_is_said_at_all);
    tcase_add_test(tests,
                   the_trainers_communicator_must_be_of_the_groups_ranks);
    tcase_add_test(tests, a_replica_group_takes_no_communicator);
    tcase_add_test(tests, steps_on_the_host_reduce_beside_a_communicator);
    tcase_add_test(tests, where_no_transport_is_of_the_kind_that_is_said);
    tcase_add_test(tests,
                   an_nccl_that_does_not_fit_is_refused_with_both_versions);
    tcase_add_test(tests, what_is_no_nccl_is_refused);
    tcase_add_test(
        tests, the_nccl_that_is_loaded_already_is_used_and_not_the_named_one);
    tcase_add_test(tests,
                   without_a_driver_the_real_nccl_is_loaded_and_not_used);
    tcase_add_test(tests, nccl_alone_joins_no_nodes_for_steps_on_the_host);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of core/stream.h over libtally-nccl.so, with an NCCL and a CUDA driver
// of the tests' own: ranks decide together, nothing hangs, and what is the
// trainer's stays the trainer's.
#include <check.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/health.h"
#include "core/stream.h"
#include "harness/job.h"
#include "harness/nccl_scene.h"

#define RANKS 3
#define LANES 9
#define TRAINERS 15 // number of the trainer's communicators

static struct nccl_scene scene;

// How a rank comes to its communicator.
struct setup {
    const char *transport;
    const char *timeout; // of bootstrap; NULL: preset
    bool adopts[RANKS];
    bool turned; // the trainer's communicator has another order
};

static const struct setup own = {.transport = "nccl"};
static const struct setup adopting = {.transport = "nccl",
                                      .adopts = {true, true, true}};

static void load(void)
{
    scene = nccl_scene_load(BUILD_FOLDER);
}

static void prepare(struct job *job, struct ranks_member *member,
                    const struct setup *setup)
{
    const char *settings[] = {"TALLY_TRANSPORT",
                              setup->transport,
                              "TALLY_PLUGIN_PATH",
                              BUILD_FOLDER "/.libs",
                              "TALLY_TIMEOUT",
                              "2",
                              "TALLY_LOG",
                              "info",
                              "TALLY_BOOTSTRAP_TIMEOUT",
                              setup->timeout != NULL ? setup->timeout : "120",
                              NULL};

    job_open(job, member, settings);
    if (setup->adopts[member->rank])
        job->group->nccl_comm = nccl_scene_communicator(
            &scene, TRAINERS,
            setup->turned ? RANKS - 1 - member->rank : member->rank,
            member->size);
}

static void wait_done(struct made_up_stream *stream)
{
    const struct timespec nap = {0, 100000};

    while (atomic_load(&stream->pending) > 0)
        nanosleep(&nap, NULL);
}

static void reduce(struct job *job, int32_t rank, int32_t round)
{
    struct made_up_stream stream = {.pending = 0};
    int64_t lanes[LANES];

    for (int k = 0; k < LANES; k++)
        lanes[k] = (int64_t)(k + round) * (rank + 1);
    ck_assert_int_eq(
        stream_reduce(job->group, lanes, LANES - 1, 1, (void *)&stream),
        TALLY_OK);
    wait_done(&stream);
    for (int k = 0; k < LANES - 1; k++)
        ck_assert_int_eq(lanes[k],
                         (int64_t)(k + round) * (RANKS * (RANKS + 1) / 2));
    ck_assert_int_eq(lanes[LANES - 1], (int64_t)(LANES - 1 + round) * RANKS);
}

static void reduce_as_rank(struct ranks_member *member)
{
    const struct setup *setup = member->argument;
    tally_group_info_t info = TALLY_INIT(tally_group_info_t);
    struct job job;

    prepare(&job, member, setup);
    ck_assert_msg(stream_join(job.group) == TALLY_OK, "%s", core_error_text());
    ck_assert_int_eq(stream_join(job.group), TALLY_OK); // it has one
    ck_assert_int_eq(tally_group_describe(job.group, &info), TALLY_OK);
    ck_assert_str_eq(info.transport, "nccl");
    for (int32_t round = 0; round < 20; round++)
        reduce(&job, member->rank, round);
    // So that nobody takes a communicator away that others still use.
    ranks_barrier(member);
    job_close(&job);
}

START_TEST(ranks_get_the_sums_and_maxima_of_all)
{
    const struct setup automatic = {.transport = "auto"};

    load();
    atomic_store(&scene.nccl->init_delay, 5);
    ranks_run(RANKS, reduce_as_rank, (void *)&own);
    ck_assert_int_eq(atomic_load(&scene.nccl->inits), RANKS);
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&scene.nccl->destroys), RANKS);
    ranks_run(RANKS, reduce_as_rank, (void *)&automatic);
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(a_call_that_nccl_has_only_begun_to_take_is_waited_for)
{
    load();
    atomic_store(&scene.nccl->in_progress, true);
    ranks_run(RANKS, reduce_as_rank, (void *)&own);
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(the_trainers_communicator_is_used_and_left_alone)
{
    load();
    ranks_run(RANKS, reduce_as_rank, (void *)&adopting);
    ck_assert_int_eq(atomic_load(&scene.nccl->inits), 0);
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&scene.nccl->finalizes), 0);
    ck_assert_int_eq(atomic_load(&scene.nccl->destroys), 0);
    nccl_scene_check(&scene, RANKS);
}
END_TEST

// ----------------------------------------------------------- no communicator

static struct {
    const struct setup *setup;
    tally_status_t status;
    const char *sentence; // part of it
} refusal;

static void refused_as_rank(struct ranks_member *member)
{
    struct job job;

    prepare(&job, member, refusal.setup);
    ck_assert_int_eq(stream_join(job.group), refusal.status);
    ck_assert_msg(strstr(core_error_text(), refusal.sentence) != NULL, "%s",
                  core_error_text());
    ck_assert_ptr_null(job.group->stream);
    job_close(&job);
}

static void expect_refusal(const struct setup *setup, tally_status_t status,
                           const char *sentence)
{
    refusal.setup = setup;
    refusal.status = status;
    refusal.sentence = sentence;
    ranks_run(RANKS, refused_as_rank, NULL);
}

START_TEST(what_keeps_all_from_nccl_is_said_at_all)
{
    static const struct setup hasty = {.transport = "nccl", .timeout = "1"};

    load();
    scene.cuda->devices = 0;
    expect_refusal(&own, TALLY_ERR_TRANSPORT,
                   "rank 0 cannot use nccl: there is no CUDA device: the "
                   "driver sees none");
    scene.cuda->devices = 1;
    scene.cuda->init_error = 100;
    expect_refusal(&own, TALLY_ERR_TRANSPORT, "the driver says error 100");
    scene.cuda->init_error = 0;
    scene.cuda->no_context = true;
    expect_refusal(&own, TALLY_ERR_TRANSPORT, "no CUDA context is current");
    scene.cuda->no_context = false;
    scene.cuda->memory_error = 2;
    expect_refusal(&own, TALLY_ERR_TRANSPORT, "no memory of the host: error 2");
    scene.cuda->memory_error = 0;
    scene.nccl->init_error = ncclSystemError;
    expect_refusal(&own, TALLY_ERR_TRANSPORT, "NCCL: some error: said by");
    scene.nccl->init_error = ncclSuccess;
    atomic_store(&scene.nccl->async_error, ncclRemoteError);
    expect_refusal(&own, TALLY_ERR_TRANSPORT, "NCCL: remote error: said by");
    atomic_store(&scene.nccl->async_error, ncclSuccess);
    scene.cuda->stream_error = 700;
    expect_refusal(&own, TALLY_ERR_TRANSPORT,
                   "a reduction failed on the device: error 700");
    scene.cuda->stream_error = 0;
    atomic_store(&scene.nccl->wrong, 1);
    expect_refusal(&own, TALLY_ERR_TRANSPORT,
                   "NCCL adds up one each of 3 ranks to 4");
    atomic_store(&scene.nccl->wrong, 0);
    atomic_store(&scene.nccl->absent, true);
    expect_refusal(&hasty, TALLY_ERR_TRANSPORT,
                   "its communicator is not open after 0.25 s");
    atomic_store(&scene.nccl->absent, false);
    atomic_store(&scene.nccl->stuck, true);
    expect_refusal(&hasty, TALLY_ERR_TRANSPORT,
                   "its communicator is not open after 0.25 s");
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(the_trainers_communicator_must_be_of_the_groups_ranks)
{
    static const struct setup some = {.transport = "nccl",
                                      .adopts = {true, false, true}};
    static const struct setup turned = {
        .transport = "nccl", .adopts = {true, true, true}, .turned = true};

    load();
    expect_refusal(&some, TALLY_ERR_MISMATCH,
                   "nccl_comm is NULL at rank 1, and not at rank 0");
    expect_refusal(&turned, TALLY_ERR_TRANSPORT,
                   "rank 0 cannot use nccl: nccl_comm is rank 2 of 3, the "
                   "group is rank 0 of 3");
    nccl_scene_check(&scene, 2 + RANKS);
}
END_TEST

START_TEST(the_host_device_takes_no_communicator)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    tally_group_t *group;
    struct job job;

    job_open(&job, NULL, NULL);
    params.nccl_comm = &params;
    job_assert_fails(tally_group_create(job.tally, &params, &group),
                     TALLY_ERR_UNSUPPORTED,
                     "tally_group_create: nccl_comm is for steps "
                     "in the memory of a CUDA device, and this tally_t has the "
                     "host device");
    job_close(&job);
}
END_TEST

START_TEST(where_no_transport_is_of_the_kind_that_is_said)
{
    static const struct setup shm = {.transport = "shm"};

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

    load();
    scene.nccl->version = 21704;
    expect_no_nccl("", "serves 2.18.0 and later ones of its major version, the "
                       "library loaded is 2.17.4");
    scene.nccl->version = 30100;
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
    expect_refusal(&own, TALLY_ERR_TRANSPORT,
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
    load();
    ranks_run(RANKS, on_the_host_as_rank, NULL);
    nccl_scene_check(&scene, 0);
}
END_TEST

// ------------------------------------------------------- how a reduction ends

static struct {
    const struct setup *setup;
    void (*happens)(struct job *job, int32_t rank);
    tally_status_t status;
    const char *sentence;
} end;

// A reduction that does not end by itself, as kernels show it.
static void ended_as_rank(struct ranks_member *member)
{
    const struct timespec nap = {0, 1000000};
    struct made_up_stream stream = {.pending = 0};
    struct watchdog_mirror mirror = {.started = 0};
    struct watchdog_step step = {.mirror = &mirror};
    int64_t lanes[LANES] = {0};
    struct job job;

    prepare(&job, member, end.setup);
    ck_assert_int_eq(stream_join(job.group), TALLY_OK);
    stream_add(job.group, &step);
    ranks_barrier(member);
    atomic_store(&scene.nccl->stuck, true);
    ranks_barrier(member);
    ck_assert_int_eq(stream_reduce(job.group, lanes, LANES, 0, (void *)&stream),
                     TALLY_OK);
    atomic_store(&mirror.started, 1);
    end.happens(&job, member->rank);
    while (atomic_load(&mirror.dead) == 0)
        nanosleep(&nap, NULL);
    ck_assert_int_eq(atomic_load(&mirror.dead), end.status);
    // One of Tally's is aborted, so its stream goes on.
    while (end.setup == &own && atomic_load(&stream.pending) > 0)
        nanosleep(&nap, NULL);
    ck_assert_int_eq(stream_reduce(job.group, lanes, LANES, 0, (void *)&stream),
                     end.status);
    ck_assert_msg(strstr(core_error_text(), end.sentence) != NULL, "%s",
                  core_error_text());
    ranks_barrier(member);
    stream_remove(job.group, &step);
    job_close(&job);
}

static void expect_end(const struct setup *setup,
                       void (*happens)(struct job *, int32_t),
                       tally_status_t status, const char *sentence)
{
    end.setup = setup;
    end.happens = happens;
    end.status = status;
    end.sentence = sentence;
    ranks_run(RANKS, ended_as_rank, NULL);
    atomic_store(&scene.nccl->stuck, false);
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
    atomic_store(&scene.nccl->async_error, ncclRemoteError);
}

static void nothing(struct job *job, int32_t rank)
{
    (void)job;
    (void)rank;
}

START_TEST(a_rank_that_dies_ends_the_group_and_the_communicator)
{
    load();
    expect_end(&own, a_rank_dies, TALLY_ERR_PEER, "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), RANKS);
    ck_assert_int_eq(atomic_load(&scene.nccl->destroys), 0);
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(what_nccl_reports_ends_the_group)
{
    load();
    expect_end(&own, nccl_reports, TALLY_ERR_PEER,
               "NCCL: remote error: said by the tests");
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), RANKS);
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(the_deadline_ends_a_reduction_that_nobody_fails)
{
    load();
    expect_end(&own, nothing, TALLY_ERR_TIMEOUT,
               "a reduction on the device timed out after 2 s");
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), RANKS);
    nccl_scene_check(&scene, 0);
}
END_TEST

START_TEST(the_trainers_communicator_is_not_aborted_either)
{
    load();
    expect_end(&adopting, a_rank_dies, TALLY_ERR_PEER,
               "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), 0);
    ck_assert_int_eq(atomic_load(&scene.nccl->destroys), 0);
    nccl_scene_check(&scene, RANKS);
}
END_TEST

START_TEST(a_graph_that_holds_a_reduction_does_not_hold_the_end)
{
    load();
    atomic_store(&scene.nccl->graphs, true);
    expect_end(&own, a_rank_dies, TALLY_ERR_PEER, "rank 1 died in mid-step");
    ck_assert_int_eq(atomic_load(&scene.nccl->aborts), RANKS);
    ranks_run(RANKS, reduce_as_rank, (void *)&own);
    nccl_scene_check(&scene, 0);
}
END_TEST

static void refusing_as_rank(struct ranks_member *member)
{
    const bool *taken = member->argument;
    struct made_up_stream stream = {.pending = 0};
    int64_t lanes[LANES] = {0};
    struct job job;

    prepare(&job, member, &own);
    ck_assert_int_eq(stream_join(job.group), TALLY_OK);
    ranks_barrier(member);
    if (*taken)
        atomic_store(&scene.nccl->never_taken, true);
    else
        atomic_store(&scene.nccl->reduce_error, ncclInvalidUsage);
    ranks_barrier(member);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            stream_reduce(job.group, lanes, LANES, 0, (void *)&stream),
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

    load();
    ranks_run(RANKS, refusing_as_rank, &taken);
    nccl_scene_check(&scene, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *join = tcase_create("join");
    TCase *ends = tcase_create("ends");

    tcase_add_test(join, ranks_get_the_sums_and_maxima_of_all);
    tcase_add_test(join, a_call_that_nccl_has_only_begun_to_take_is_waited_for);
    tcase_add_test(join, the_trainers_communicator_is_used_and_left_alone);
    tcase_add_test(join, what_keeps_all_from_nccl_is_said_at_all);
    tcase_add_test(join, the_trainers_communicator_must_be_of_the_groups_ranks);
    tcase_add_test(join, the_host_device_takes_no_communicator);
    tcase_add_test(join, where_no_transport_is_of_the_kind_that_is_said);
    tcase_add_test(join,
                   an_nccl_that_does_not_fit_is_refused_with_both_versions);
    tcase_add_test(join, what_is_no_nccl_is_refused);
    tcase_add_test(join, without_a_driver_the_real_nccl_is_loaded_and_not_used);
    tcase_add_test(join, nccl_alone_joins_no_nodes_for_steps_on_the_host);
    tcase_add_test(ends, a_rank_that_dies_ends_the_group_and_the_communicator);
    tcase_add_test(ends, what_nccl_reports_ends_the_group);
    tcase_add_test(ends, the_deadline_ends_a_reduction_that_nobody_fails);
    tcase_add_test(ends, the_trainers_communicator_is_not_aborted_either);
    tcase_add_test(ends, a_graph_that_holds_a_reduction_does_not_hold_the_end);
    tcase_add_loop_test(
        ends, a_reduction_that_nccl_does_not_take_ends_the_group, 0, 2);
    tcase_set_timeout(join, 120);
    tcase_set_timeout(ends, 120);
    suite_add_tcase(suite, join);
    suite_add_tcase(suite, ends);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

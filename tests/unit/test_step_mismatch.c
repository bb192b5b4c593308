// SPDX-License-Identifier: BSD-3-Clause
// Tests of ranks that do not fit together: layouts and settings that differ,
// transports that do not join them. All ranks are told, with the values.
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/job.h"

#define VOCAB 7

// One rank's step differs from the others'.
static void differ_as_rank(struct ranks_member *member)
{
    const int *which = member->argument;
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[2] = {TALLY_INIT(tally_channel_t),
                                   TALLY_INIT(tally_channel_t)};
    bool odd = member->rank == 2;
    tally_step_t *step;
    struct job job;

    job_open(&job, member, NULL);
    channels[0].vocab = VOCAB;
    channels[1].vocab = VOCAB;
    params.channels = channels;
    params.channel_count = odd && *which == 0 ? 2 : 1;
    if (odd && *which == 1)
        channels[0].ignore_index = -1;
    job_assert_fails(
        tally_step_create(job.group, &params, &step), TALLY_ERR_MISMATCH,
        *which == 0
            ? "tally_step_create: channel_count is 2 at rank 2 and 1 at rank 0"
            : "tally_step_create: ignore_index of channel 0 is -1 at rank 2 "
              "and -100 at rank 0");
    job_close(&job);
}

START_TEST(a_rank_with_another_layout_is_named_at_all_ranks)
{
    ranks_run(3, differ_as_rank, &_i);
}
END_TEST

static void settings_as_rank(struct ranks_member *member)
{
    const char *const slow[] = {"TALLY_TIMEOUT", "7", NULL};
    struct job job;

    job_prepare(&job, member, member->rank == 1 ? slow : NULL);
    job_assert_fails(tally_open(&job.host, &job.tally), TALLY_ERR_MISMATCH,
                     "tally_open: TALLY_TIMEOUT is 7 at rank 1 and 60 at rank "
                     "0");
}

static void long_settings_as_rank(struct ranks_member *member)
{
#define FOLDER "/a/folder/whose/name/is/so/long/that/what/comes/past/it"
    const char *const one[] = {"TALLY_TRANSPORT", FOLDER "/a.so,shm", NULL};
    const char *const two[] = {"TALLY_TRANSPORT", FOLDER "/a.so,ucx,shm", NULL};
    struct job job;

    job_prepare(&job, member, member->rank == 1 ? one : two);
    job_assert_fails(tally_open(&job.host, &job.tally), TALLY_ERR_MISMATCH,
                     "tally_open: TALLY_TRANSPORT is " FOLDER
                     " at rank 1 and " FOLDER " at rank 0");
}

START_TEST(settings_that_differ_at_a_late_byte_are_refused_too)
{
    ranks_run(2, long_settings_as_rank, NULL);
}
END_TEST

START_TEST(job_wide_settings_that_differ_are_named_at_all_ranks)
{
    ranks_run(2, settings_as_rank, NULL);
}
END_TEST

static void backend_as_rank(struct ranks_member *member)
{
    static const struct {
        const char *transport, *folder, *sentence;
    } cases[] = {
        {"shm", "/nonexistent",
         "tally_group_create: group \"\": TALLY_TRANSPORT=shm, but the "
         "2 ranks do not share one memory: they are on 2 nodes"},
        {"good", BUILD_FOLDER "/tests/harness/backends/.libs",
         "tally_group_create: group \"\": no transport joins all ranks: rank 0 "
         "cannot use good: it does not open, and gave no reason (not "
         "supported)"},
        {"uxc,shm", "/nonexistent",
         "tally_group_create: group \"\": no transport joins all ranks: rank 0 "
         "cannot use uxc: libtally-uxc.so was not found in /nonexistent"},
    };
    const int *which = member->argument;
    const char *const settings[] = {"TALLY_TRANSPORT",
                                    cases[*which].transport,
                                    "TALLY_NODE_SHM",
                                    "0",
                                    "TALLY_PLUGIN_PATH",
                                    cases[*which].folder,
                                    NULL};
    const char *expected = cases[*which].sentence;
    struct job job;

    job_prepare(&job, member, settings);
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_OK);
    ck_assert_int_eq(tally_group_create(job.tally, NULL, &job.group),
                     TALLY_ERR_TRANSPORT);
    ck_assert_int_eq(strncmp(tally_last_error(), expected, strlen(expected)),
                     0);
    ck_assert_int_eq(tally_close(job.tally), TALLY_OK);
}

START_TEST(no_way_between_nodes_is_an_error_at_all_ranks)
{
    ranks_run(2, backend_as_rank, &_i);
}
END_TEST

static void streaming_as_rank(struct ranks_member *member)
{
    const char *const settings[] = {"TALLY_TRANSPORT",
                                    "streaming",
                                    "TALLY_NODE_SHM",
                                    "0",
                                    "TALLY_PLUGIN_PATH",
                                    BUILD_FOLDER
                                    "/tests/harness/backends/.libs",
                                    NULL};
    struct job job;

    job_prepare(&job, member, settings);
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_OK);
    ck_assert_int_eq(tally_group_create(job.tally, NULL, &job.group),
                     TALLY_ERR_TRANSPORT);
    ck_assert_ptr_nonnull(strstr(tally_last_error(),
                                 "/libtally-streaming.so reduces on the stream "
                                 "of a device, and the host device has none"));
    ck_assert_int_eq(tally_close(job.tally), TALLY_OK);
}

START_TEST(a_transport_for_device_streams_does_not_serve_the_host_device)
{
    ranks_run(2, streaming_as_rank, NULL);
}
END_TEST

START_TEST(an_unknown_transport_is_refused_with_the_nearest_name)
{
    const char *const settings[] = {"TALLY_TRANSPORT", "ucs",
                                    "TALLY_PLUGIN_PATH", "/nonexistent", NULL};
    struct job job;

    job_prepare(&job, NULL, settings);
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_ERR_TRANSPORT);
    ck_assert_ptr_nonnull(strstr(tally_last_error(),
                                 "tally_open: TALLY_TRANSPORT=ucs: "
                                 "libtally-ucs.so was not found in "
                                 "/nonexistent"));
    ck_assert_ptr_nonnull(strstr(tally_last_error(), "did you mean ucx?"));
}
END_TEST

START_TEST(a_list_of_too_many_transports_is_refused)
{
    const char *const settings[] = {"TALLY_TRANSPORT", "a,b,c,d,e,f,g,h,ucx",
                                    NULL};
    struct job job;

    job_prepare(&job, NULL, settings);
    ck_assert_int_eq(tally_open(&job.host, &job.tally), TALLY_ERR_CONFIG);
    ck_assert_str_eq(tally_last_error(),
                     "tally_open: TALLY_TRANSPORT=a,b,c,d,e,f,g,h,ucx: at most "
                     "8 transports of at most 255 bytes are possible");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step mismatch");
    TCase *tests = tcase_create("refusals");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_rank_with_another_layout_is_named_at_all_ranks,
                        0, 2);
    tcase_add_test(tests, job_wide_settings_that_differ_are_named_at_all_ranks);
    tcase_add_test(tests, settings_that_differ_at_a_late_byte_are_refused_too);
    tcase_add_loop_test(tests, no_way_between_nodes_is_an_error_at_all_ranks, 0,
                        3);
    tcase_add_test(
        tests, a_transport_for_device_streams_does_not_serve_the_host_device);
    tcase_add_test(tests,
                   an_unknown_transport_is_refused_with_the_nearest_name);
    tcase_add_test(tests, a_list_of_too_many_transports_is_refused);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// What is opened and closed again leaves no block of memory behind, however
// small. What it is built on may keep some: that is not looked at.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#include "harness/blocks.h"

static const char *folder; // of the members; NULL: no replica group

static const char *setting(void *context, const char *name)
{
    (void)context;
    if (strcmp(name, "TALLY_REPLICA_FOLDER") == 0)
        return folder;
    if (strcmp(name, "TALLY_PLUGIN_PATH") == 0)
        return BUILD_FOLDER "/.libs";
    if (strcmp(name, "TALLY_UCX_TLS") == 0)
        return "tcp,self";
    if (strcmp(name, "TALLY_OFI_PROVIDER") == 0)
        return "tcp;ofi_rxm";
    return NULL;
}

// Check allocates too: nothing of it comes in between.
static tally_status_t go_round(void)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_replica_params_t replica = TALLY_INIT(tally_replica_params_t);
    tally_group_params_t group_params = TALLY_INIT(tally_group_params_t);
    tally_step_params_t step_params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_t *tally;
    tally_group_t *group;
    tally_step_t *step;

    host.get_env = setting;
    replica.replicas = 1;
    if (folder != NULL)
        group_params.replica = &replica;
    channel.vocab = 2;
    step_params.channels = &channel;
    step_params.channel_count = 1;
    tally_status_t status = tally_open(&host, &tally);
    if (status == TALLY_OK)
        status = tally_group_create(tally, &group_params, &group);
    if (status == TALLY_OK)
        status = tally_step_create(group, &step_params, &step);
    if (status == TALLY_OK)
        status = tally_step_free(step);
    if (status == TALLY_OK)
        status = tally_group_free(group);
    return status == TALLY_OK ? tally_close(tally) : status;
}

static void expect_nothing_left(void)
{
    ck_assert_int_eq(go_round(), TALLY_OK); // what is made once for the process
    blocks_watch();
    tally_status_t status = go_round();
    int left = blocks_left();
    ck_assert_int_eq(status, TALLY_OK);
    ck_assert_int_eq(left, 0);
}

START_TEST(a_rank_leaves_no_memory_behind)
{
    expect_nothing_left();
}
END_TEST

START_TEST(a_replica_leaves_no_memory_behind)
{
    char path[] = "/tmp/tally-freed.XXXXXX";
    char command[64];

    ck_assert_ptr_nonnull(mkdtemp(path));
    folder = path;
    expect_nothing_left();
    snprintf(command, sizeof(command), "rm -rf %s", path);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("freed");
    TCase *tests = tcase_create("rounds");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_rank_leaves_no_memory_behind);
    tcase_add_test(tests, a_replica_leaves_no_memory_behind);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

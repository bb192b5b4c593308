// SPDX-License-Identifier: BSD-3-Clause
// A verdict that is not there by the deadline: IN_DOUBT is neither yes nor no.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/replica_step.h"

// Workers are opened and closed in turn (test_step_replica.c says why).
static void take_turns(struct ranks_member *member, int32_t number)
{
    for (int32_t before = 0; before < number; before++)
        ranks_barrier(member);
}

static void open_in_turn(struct replica_step *replica,
                         struct ranks_member *member)
{
    // The others wait for a vote that is late, longer than it is asked for.
    const char *const settings[] = {
        "TALLY_REPLICA_FOLDER",
        member->argument,
        "TALLY_REPLICA_DEADLINE",
        "5",
        "TALLY_REPLICA_PATIENCE",
        "60",
        // However slow this machine is, nobody is thought dead.
        "TALLY_HEARTBEAT_MISSES",
        "100",
        "TALLY_PLUGIN_PATH",
        BUILD_FOLDER "/.libs",
        NULL,
    };

    take_turns(member, member->rank);
    replica_step_open(replica, NULL, settings, member->rank, member->size);
    take_turns(member, member->size - member->rank);
}

static void close_in_turn(struct replica_step *replica,
                          struct ranks_member *member)
{
    take_turns(member, 1 + member->rank);
    replica_step_close(replica);
    take_turns(member, member->size - member->rank);
}

// Replica 1 says nothing of its gradient until replica 0 was in doubt.
static void one_is_late(struct ranks_member *member)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    struct replica_step replica;

    open_in_turn(&replica, member);
    replica_step_count(&replica);
    if (member->rank == 0) {
        ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                         TALLY_OK);
        ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
        ck_assert_int_eq(verdict.status, TALLY_REPLICA_IN_DOUBT);
        // It may be applied yet: the gradient is not to be given up.
        job_assert_fails(
            tally_step_begin(replica.step, 1, NULL), TALLY_ERR_ORDER,
            "tally_step_begin: the epoch before waits for tally_replica_apply "
            "again");
        ranks_barrier(member);
        do
            ck_assert_int_eq(tally_replica_apply(replica.step, &verdict),
                             TALLY_OK);
        while (verdict.status == TALLY_REPLICA_IN_DOUBT);
    } else {
        ranks_barrier(member);
        replica_step_apply(&replica, &verdict);
    }
    ck_assert_int_eq(verdict.status, TALLY_REPLICA_APPLY);
    ck_assert_uint_eq(verdict.members, 3);
    ck_assert_uint_eq(verdict.state.index, 1);
    close_in_turn(&replica, member);
}

START_TEST(who_is_in_doubt_asks_again_and_is_told)
{
    char folder[] = "/tmp/tally-replicas.XXXXXX";
    char command[128];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    ranks_run(2, one_is_late, folder);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("a verdict in doubt");
    TCase *tests = tcase_create("doubt");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, who_is_in_doubt_asks_again_and_is_told);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

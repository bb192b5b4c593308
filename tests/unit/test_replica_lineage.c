// SPDX-License-Identifier: BSD-3-Clause
// Schedules on single state machines in which a lineage ends: who is sealed,
// and of whom the next one is made.
#include <check.h>

#include "harness/replica_node.h"
#include "harness/replica_position.h"

// The operator lists replicas 0 and 1; `acceptor` is the only one.
static const struct replica_action *
forces(struct replica *node, const struct replica_position *at,
       uint16_t acceptor, struct replica_epoch *list, size_t *count)
{
    struct replica_event event = {.kind = REPLICA_EVENT_FORCE, .epoch = list};

    *list = at->epoch;
    list->acceptor_count = 1;
    memset(list->acceptors, 0, sizeof(list->acceptors));
    list->acceptors[0] = at->epoch.acceptors[acceptor];
    return replica_handle(node, &event, node->now + 1, count);
}

START_TEST(whoever_is_sealed_keeps_the_state_it_reported)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(0, 1, &at);
    struct replica_event restored = {.kind = REPLICA_EVENT_RESTORED,
                                     .state = {7, 77}};
    struct replica_message seal = from(1, 2, REPLICA_SEAL, &at);
    size_t count;

    seal.survivors = at.epoch;
    const struct replica_action *actions = hears(node, &seal, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_SEALED));
    replica_handle(node, &restored, node->now + 1, &count);
    ck_assert_uint_eq(node->own.index, 0);
    // And decisions pass it by.
    learns(node, &at, REPLICA_ABORT, 0, &count);
    ck_assert_uint_eq(node->at.next.index, 1);
    free(node);
}
END_TEST

// Seed 2008075: a survivor that was listed crashed, and its next start let
// itself be sealed, while what it answered was of nobody on the list.
START_TEST(a_later_start_of_a_survivor_is_not_sealed)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(1, 9, &at);
    struct replica_message seal = from(0, 1, REPLICA_SEAL, &at);
    size_t count;

    seal.survivors = at.epoch;
    const struct replica_action *actions = hears(node, &seal, &count);
    ck_assert(!reports(actions, count, REPLICA_STATUS_SEALED));
    ck_assert(!sends(actions, count, REPLICA_SEALED, 1));
    ck_assert(sends(actions, count, REPLICA_ASK, 1)); // its name tells enough
    learns(node, &at, REPLICA_ABORT, 0, &count);
    ck_assert_uint_eq(node->at.next.index, 2);
    free(node);
}
END_TEST

START_TEST(a_lineage_is_forced_without_a_survivor_that_started_again)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(0, 1, &at);
    struct replica_message sealed = from(1, 2, REPLICA_SEALED, &at);
    struct replica_message other = from(1, 9, REPLICA_ASK, &at);
    struct replica_epoch list;
    size_t count;

    const struct replica_action *actions =
        forces(node, &at, (uint16_t)_i, &list, &count);
    ck_assert(sends(actions, count, REPLICA_SEAL, _i == 2 ? 6 : 2));
    ck_assert(!acts(actions, count, REPLICA_ACTION_PROVIDER));
    if (_i == 2) { // and the acceptor is silent
        sealed.state = (struct replica_state){5, 55};
        actions = hears(node, &sealed, &count);
        ck_assert(!acts(actions, count, REPLICA_ACTION_PROVIDER));
        ck_assert_uint_eq(node->frontier.index, 5);
    }
    // It knows nothing yet.
    other.lineage = 0;
    other.instance.index = 0;
    actions = hears(node, &other, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_UNLISTED));
    if (_i == 2) { // what it reported is gone with it
        ck_assert_uint_eq(node->frontier.index, 0);
        sealed.from = at.epoch.acceptors[2];
        actions = hears(node, &sealed, &count);
    }
    const struct replica_action *swap =
        action_of(actions, count, REPLICA_ACTION_PROVIDER);
    ck_assert_ptr_nonnull(swap);
    const struct replica_epoch *forced = &swap->position->epoch;
    ck_assert_uint_eq(forced->lineage, 2);
    ck_assert_uint_eq(forced->members, 1);
    ck_assert_uint_eq(forced->acceptor_count, 1);
    ck_assert_uint_eq(forced->acceptors[0].peer, _i == 2 ? 2 : 0);
    ck_assert_uint_eq(swap->position->group.index, 0);
    free(node);
}
END_TEST

START_TEST(nobody_forces_a_lineage_of_which_nobody_is_left)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(2, 3, &at);
    struct replica_message other = from(0, 9, REPLICA_ASK, &at);
    struct replica_epoch list;
    size_t count;

    forces(node, &at, 2, &list, &count);
    ck_assert(node->forcing);
    hears(node, &other, &count);
    ck_assert(node->forcing);
    other.from.peer = 1;
    const struct replica_action *actions = hears(node, &other, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_UNLISTED));
    ck_assert(!acts(actions, count, REPLICA_ACTION_PROVIDER));
    ck_assert(!node->forcing);
    free(node);
}
END_TEST

// Seeds 3529653 and 3103147: who forced a lineage crashed, and whom it had
// sealed stayed so. Another start of others is nothing to it.
START_TEST(who_is_sealed_goes_on_without_the_forcer_once_that_started_again)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(0, 1, &at);
    struct replica_message seal = from(1, 2, REPLICA_SEAL, &at);
    struct replica_message ask = from(1, 2, REPLICA_ASK, &at);
    size_t count;

    seal.survivors = at.epoch;
    const struct replica_action *actions = hears(node, &seal, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_SEALED));
    actions = hears(node, &ask, &count);
    ck_assert(!reports(actions, count, REPLICA_STATUS_UNLISTED));
    ask.from = (struct replica_name){2, 0, 9};
    actions = hears(node, &ask, &count);
    ck_assert(!reports(actions, count, REPLICA_STATUS_UNLISTED));
    ask.from = (struct replica_name){1, 0, 9};
    actions = hears(node, &ask, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_UNLISTED));
    const struct replica_action *swap =
        action_of(actions, count, REPLICA_ACTION_PROVIDER);
    ck_assert_ptr_nonnull(swap);
    ck_assert_uint_eq(swap->position->epoch.lineage, 2);
    ck_assert_uint_eq(swap->position->epoch.members, 1);
    actions = hears(node, &ask, &count); // once
    ck_assert(!acts(actions, count, REPLICA_ACTION_PROVIDER));
    free(node);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica lineage");
    TCase *tcase = tcase_create("schedules");

    tcase_add_test(tcase, whoever_is_sealed_keeps_the_state_it_reported);
    tcase_add_test(tcase, a_later_start_of_a_survivor_is_not_sealed);
    tcase_add_loop_test(
        tcase, a_lineage_is_forced_without_a_survivor_that_started_again, 0, 3);
    tcase_add_test(tcase, nobody_forces_a_lineage_of_which_nobody_is_left);
    tcase_add_test(
        tcase,
        who_is_sealed_goes_on_without_the_forcer_once_that_started_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

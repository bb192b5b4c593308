// SPDX-License-Identifier: BSD-3-Clause
// Schedules in which the protocol of replica groups once had a hole, played on
// single state machines; the decoder; the race for a rank's slot. What happens
// among many is the simulator's (tests/replica); where a lineage ends it is
// test_replica_lineage's.
#include <check.h>

#include "harness/replica_node.h"
#include "harness/replica_position.h"
#include "replica/rank.h"

START_TEST(a_replica_does_not_apply_what_its_predecessor_was_counted_in)
{
    struct replica_position at = two_and_a_witness();
    struct replica *now = opened(0, 1, &at);
    struct replica *later = opened(0, 9, &at);
    struct replica_position again = at;
    const struct replica_action *actions;
    size_t count;

    learns(now, &at, REPLICA_COUNT, 3, &count);
    actions = learns(now, &at, REPLICA_APPLY, 3, &count);
    ck_assert(acts(actions, count, REPLICA_ACTION_APPLY));
    learns(later, &again, REPLICA_COUNT, 3, &count);
    actions = learns(later, &again, REPLICA_APPLY, 3, &count);
    ck_assert(!acts(actions, count, REPLICA_ACTION_APPLY));
    ck_assert(reports(actions, count, REPLICA_STATUS_LAGGING));
    free(now);
    free(later);
}
END_TEST

START_TEST(who_is_in_doubt_asks_and_is_told_what_was_decided)
{
    struct replica_position at = two_and_a_witness();
    struct replica_position before = at;
    struct replica *node = opened(0, 1, &at);
    struct replica *peer = opened(1, 2, &at);
    struct replica *nobody = opened(0, 1, NULL);
    const struct replica_event ask = {.kind = REPLICA_EVENT_ASK};
    size_t count;

    learns(peer, &at, REPLICA_COUNT, 3, &count);
    const struct replica_action *actions =
        replica_handle(node, &ask, node->now + 1, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_IN_DOUBT));
    ck_assert(sends(actions, count, REPLICA_ASK, 6)); // and changes nothing
    ck_assert_uint_eq(node->at.next.attempt, 0);
    struct replica_message question = from(0, 1, REPLICA_ASK, &before);
    actions = hears(peer, &question, &count);
    ck_assert(sends(actions, count, REPLICA_DECISION, 1));
    struct replica_event answer = {.kind = REPLICA_EVENT_MESSAGE};
    const struct replica_action *sent =
        action_of(actions, count, REPLICA_ACTION_SEND);
    answer.bytes = sent->bytes;
    answer.length = sent->length;
    actions = replica_handle(node, &answer, node->now + 1, &count);
    ck_assert(acts(actions, count, REPLICA_ACTION_BROADCAST));
    ck_assert_uint_eq(node->at.next.attempt, 1);
    // Who knows of no job has nobody to ask but says so.
    actions = replica_handle(nobody, &ask, 1, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_IN_DOUBT));
    ck_assert(!acts(actions, count, REPLICA_ACTION_SEND));
    free(node);
    free(peer);
    free(nobody);
}
END_TEST

START_TEST(an_acceptor_retires_once_something_is_decided_without_it)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(2, 3, &at);
    struct replica_message message = from(1, 2, REPLICA_DECISION, &at);
    struct replica_value *value = &message.value;
    size_t count;

    value->kind = REPLICA_ABORT;
    value->has_next = true;
    value->next = at.epoch;
    value->next.acceptor_count = 1;
    memset(&value->next.acceptors[1], 0, 2 * sizeof(value->next.acceptors[1]));
    value->digest = replica_value_digest(value, at.next, at.previous, 1);
    replica_position_advance(&at, value);
    const struct replica_action *actions = hears(node, &message, &count);
    ck_assert_int_eq(replica_acceptor_place(node), -1);
    ck_assert(!reports(actions, count, REPLICA_STATUS_RETIRED));
    actions = learns(node, &at, REPLICA_ABORT, 0, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_RETIRED));
    actions = learns(node, &at, REPLICA_ABORT, 0, &count); // once
    ck_assert(!reports(actions, count, REPLICA_STATUS_RETIRED));
    free(node);
}
END_TEST

START_TEST(a_member_that_learns_of_its_epoch_by_a_position_may_contribute)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(0, 1, NULL);
    struct replica_message position = from(1, 2, REPLICA_POSITION, &at);
    size_t count;

    position.position = at;
    const struct replica_action *actions = hears(node, &position, &count);
    ck_assert(reports(actions, count, REPLICA_STATUS_OPEN));
    free(node);
}
END_TEST

// Seed 2308330: a learner without parameters was further than the one that had
// them, and that one was told to restore what nobody had.
START_TEST(who_holds_the_state_restores_from_who_holds_a_later_one)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(0, 1, &at);
    struct replica_message position = from(1, 2, REPLICA_POSITION, &at);
    size_t count;

    position.position = at;
    position.position.next.index = 7;
    position.position.group = (struct replica_state){6, 66};
    const struct replica_action *actions = hears(node, &position, &count);
    ck_assert_uint_eq(node->at.next.index, 1);
    ck_assert(!reports(actions, count, REPLICA_STATUS_LAGGING));
    position.state = position.position.group;
    actions = hears(node, &position, &count);
    ck_assert_uint_eq(node->at.next.index, 7);
    ck_assert(reports(actions, count, REPLICA_STATUS_LAGGING));
    // Now it has nothing to lose, and goes by any.
    position.position.next.index = 8;
    position.position.group = (struct replica_state){7, 77};
    hears(node, &position, &count);
    ck_assert_uint_eq(node->at.next.index, 8);
    free(node);
}
END_TEST

// What one that is gone has said to this acceptor may have reached no other, so
// the vote for it may be the only one.
START_TEST(an_acceptor_that_has_voted_leads_when_one_it_counted_is_lost)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(2, 3, &at);
    struct replica_message entry = from(0, 1, REPLICA_ENTRY, &at);
    struct replica_event suspects = {.kind = REPLICA_EVENT_SUSPECTS};
    size_t count;

    entry.entry.vote = REPLICA_COUNTS;
    for (uint16_t peer = 0; peer < 2; peer++) {
        entry.from = at.epoch.acceptors[peer];
        entry.entry.replica = peer;
        entry.entry.incarnation = entry.from.incarnation;
        hears(node, &entry, &count);
    }
    ck_assert(node->has_accepted);
    replica_handle(node, &suspects, node->now, &count);
    ck_assert_int_gt(node->lead_at, node->now + 10); // nobody is
    suspects.peers = 1;
    replica_handle(node, &suspects, node->now, &count);
    // Acceptor 1 leads before it, 0 does not.
    ck_assert_int_eq(node->lead_at, node->now + 10);
    free(node);
}
END_TEST

START_TEST(an_index_ends_though_all_that_it_counted_are_gone)
{
    struct replica_position at = two_and_a_witness();
    struct replica *node = opened(2, 3, &at);
    struct replica_event timer = {.kind = REPLICA_EVENT_TIMER};
    size_t count;

    learns(node, &at, REPLICA_COUNT, 2, &count);
    ck_assert_int_lt(node->lead_at, INT64_MAX);
    replica_handle(node, &timer, node->lead_at, &count);
    struct replica_message promise = from(0, 1, REPLICA_PROMISE, &at);
    promise.ballot = node->ballot;
    hears(node, &promise, &count);
    ck_assert(node->proposing);
    ck_assert_int_eq(node->proposed.kind, REPLICA_DISCARD);
    free(node);
}
END_TEST

// The message of that kind to just these peers; count: there is none.
static size_t place_of(const struct replica_action *actions, size_t count,
                       enum replica_message_kind kind, uint64_t peers)
{
    size_t at = 0;

    while (at < count && !sends(&actions[at], 1, kind, peers))
        at++;
    return at;
}

// Plays a message that was sent on another; returns what that does.
static const struct replica_action *
passes(struct replica *node, const struct replica_action *sent, size_t *count)
{
    const struct replica_event event = {.kind = REPLICA_EVENT_MESSAGE,
                                        .bytes = sent->bytes,
                                        .length = sent->length};

    return replica_handle(node, &event, node->now + 1, count);
}

START_TEST(a_vote_that_others_can_do_without_may_wait)
{
    const struct numeric_record record = {0};
    const struct replica_event contribution = {
        .kind = REPLICA_EVENT_CONTRIBUTION, .records = &record};
    struct replica_position at = two_and_a_witness();
    struct replica *first = opened(0, 1, &at);
    struct replica *last = opened(1, 2, &at);
    size_t count, sent;

    const struct replica_action *actions =
        replica_handle(first, &contribution, 1, &count);
    size_t entry = place_of(actions, count, REPLICA_ENTRY, 6);
    ck_assert_uint_lt(entry, count);
    passes(last, &actions[entry], &sent);
    // The last contribution comes behind the vote that it makes.
    actions = replica_handle(last, &contribution, 2, &sent);
    size_t vote = place_of(actions, sent, REPLICA_VOTE, 5);
    entry = place_of(actions, sent, REPLICA_ENTRY, 5);
    ck_assert_uint_lt(vote, entry);
    ck_assert_uint_lt(entry, sent);
    ck_assert(!actions[vote].later && !actions[entry].later);
    // The last one needs it. The witness has heard the other vote, too, and has
    // its own.
    passes(first, &actions[vote], &count);
    actions = passes(first, &actions[entry], &count);
    ck_assert(acts(actions, count, REPLICA_ACTION_BROADCAST));
    vote = place_of(actions, count, REPLICA_VOTE, 2);
    ck_assert_uint_lt(vote, count);
    ck_assert(!actions[vote].later);
    vote = place_of(actions, count, REPLICA_VOTE, 4);
    ck_assert_uint_lt(vote, count);
    ck_assert(actions[vote].later);
    free(first);
    free(last);
}
END_TEST

// What is decided where replica 0 alone has contributed, and proposes an epoch
// of these members, of whom 2 is a joiner.
static void fold_proposal(uint64_t members, struct replica_value *value)
{
    struct replica_position at = two_and_a_witness();
    struct replica_table *table = malloc(sizeof(*table));
    struct replica_fold fold = {&at, 3, 1, 3, 1};
    struct replica_entry entry;

    memset(&entry, 0, sizeof(entry));
    entry.vote = REPLICA_COUNTS;
    entry.incarnation = 1;
    entry.has_proposal = true;
    entry.proposal = at.epoch;
    entry.proposal.members = members;
    entry.proposal.incarnations[2] = 9;
    replica_table_clear(table);
    replica_table_put(table, &entry, 1);
    replica_table_fold(table, &fold, value);
    free(table);
}

START_TEST(a_decision_that_names_a_joiner_counts_nobody)
{
    struct replica_value value;

    fold_proposal(7, &value);
    ck_assert_int_eq(value.kind, REPLICA_ABORT);
    ck_assert(value.has_next);
    ck_assert_uint_eq(value.members, 0);
}
END_TEST

START_TEST(an_epoch_names_somebody_who_is_there)
{
    struct replica_value value;

    fold_proposal(1, &value);
    ck_assert_int_eq(value.kind, REPLICA_COUNT);
    ck_assert(value.has_next);
    fold_proposal(2, &value); // of whom nothing is heard
    ck_assert_int_eq(value.kind, REPLICA_COUNT);
    ck_assert(!value.has_next);
    ck_assert_uint_eq(value.members, 1);
    fold_proposal(6, &value);
    ck_assert_int_eq(value.kind, REPLICA_ABORT);
    ck_assert(value.has_next);
}
END_TEST

START_TEST(a_slot_is_won_once)
{
    struct replica_slot slot;

    replica_slot_begin(&slot, 1, 5);
    ck_assert(replica_slot_expire(&slot, 1, 5));
    ck_assert(!replica_slot_release(&slot, 1, 5));
    ck_assert(!replica_slot_scaled(&slot, 1, 5));
    replica_slot_begin(&slot, 2, 5);
    // What is late from the lineage before, of the same index, does nothing.
    ck_assert(!replica_slot_release(&slot, 1, 5));
    ck_assert(replica_slot_release(&slot, 2, 5));
    ck_assert(!replica_slot_expire(&slot, 2, 5));
    ck_assert(replica_slot_scaled(&slot, 2, 5));
}
END_TEST

START_TEST(a_message_of_another_length_is_refused)
{
    struct replica_position at = two_and_a_witness();
    uint8_t bytes[REPLICA_MESSAGE_MAX + 1] = {0};
    struct replica_message message = from(0, 1, (uint8_t)_i, &at);
    struct replica_message out;

    // What each kind has at the least; others ignore it or overwrite it.
    if (_i == REPLICA_ENTRY)
        message.entry.vote = REPLICA_COUNTS;
    else if (_i == REPLICA_POSITION)
        message.position = at;
    else if (_i == REPLICA_VOTE || _i == REPLICA_ACCEPT ||
             _i == REPLICA_DECISION)
        message.value.kind = REPLICA_ABORT;
    else if (_i == REPLICA_SEAL)
        message.survivors = at.epoch;
    size_t length = replica_message_encode(&message, 1, bytes);
    ck_assert(replica_message_decode(bytes, length, 1, &out));
    ck_assert_uint_eq(out.from.incarnation, 1);
    ck_assert(!replica_message_decode(bytes, length, 2, &out));
    ck_assert(!replica_message_decode(bytes, length + 1, 1, &out));
    for (size_t shorter = 0; shorter < length; shorter++)
        ck_assert(!replica_message_decode(bytes, shorter, 1, &out));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica");
    TCase *tcase = tcase_create("schedules");

    tcase_add_test(
        tcase, a_replica_does_not_apply_what_its_predecessor_was_counted_in);
    tcase_add_test(tcase, who_is_in_doubt_asks_and_is_told_what_was_decided);
    tcase_add_test(tcase,
                   an_acceptor_retires_once_something_is_decided_without_it);
    tcase_add_test(
        tcase, a_member_that_learns_of_its_epoch_by_a_position_may_contribute);
    tcase_add_test(tcase,
                   who_holds_the_state_restores_from_who_holds_a_later_one);
    tcase_add_test(
        tcase, an_acceptor_that_has_voted_leads_when_one_it_counted_is_lost);
    tcase_add_test(tcase, an_index_ends_though_all_that_it_counted_are_gone);
    tcase_add_test(tcase, a_vote_that_others_can_do_without_may_wait);
    tcase_add_test(tcase, a_decision_that_names_a_joiner_counts_nobody);
    tcase_add_test(tcase, an_epoch_names_somebody_who_is_there);
    tcase_add_test(tcase, a_slot_is_won_once);
    tcase_add_loop_test(tcase, a_message_of_another_length_is_refused,
                        REPLICA_ENTRY, REPLICA_MESSAGE_KINDS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

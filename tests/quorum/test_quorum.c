// SPDX-License-Identifier: BSD-3-Clause
// What every provider of membership must keep: one table, run over each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "quorum/scene.h"

#define OPEN(provider)                                                         \
    if (!scene_open(provider)) {                                               \
        scene_close();                                                         \
        return; /* not installed */                                            \
    }

START_TEST(members_see_each_other_and_their_addresses)
{
    static const size_t lengths[SCENE_PEERS] = {0, 1, QUORUM_ADDRESS_MAX};
    struct quorum *members[SCENE_PEERS];
    uint64_t incarnations[SCENE_PEERS];
    uint8_t address[QUORUM_ADDRESS_MAX];

    OPEN(_i);
    for (uint16_t i = 0; i < SCENE_PEERS; i++) {
        memset(address, 'a' + i, sizeof(address));
        members[i] = scene_announced(i, address, lengths[i], &incarnations[i]);
    }
    for (uint16_t i = 0; i < SCENE_PEERS; i++) {
        // A folder's file without bytes is one that is not written yet.
        int left = SCENE_PEERS - 1 - (_i == SCENE_FOLDER && i != 0);
        while (left > 0) {
            struct quorum_event event;
            if (!quorum_next(members[i], &event) || event.kind != QUORUM_SEEN)
                continue;
            uint16_t j = event.member.peer;
            ck_assert_uint_ne(j, i);
            ck_assert_uint_eq(event.member.incarnation, incarnations[j]);
            ck_assert_uint_eq(event.member.address_bytes, lengths[j]);
            memset(address, 'a' + j, sizeof(address));
            ck_assert_int_eq(memcmp(event.member.address, address, lengths[j]),
                             0);
            left--;
        }
    }
    for (int i = 0; i < SCENE_PEERS; i++)
        quorum_close(members[i]);
    scene_close();
}
END_TEST

START_TEST(a_later_start_has_a_greater_incarnation)
{
    uint64_t first, second;

    OPEN(_i);
    quorum_close(scene_announced(1, "x", 1, &first));
    quorum_close(scene_member(1, &second));
    ck_assert_uint_gt(second, first);
    scene_close();
}
END_TEST

START_TEST(who_starts_again_is_seen_under_the_new_incarnation)
{
    uint64_t own, first, second;

    OPEN(_i);
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(1, "old", 3, &first);
    ck_assert_uint_eq(scene_await(self, QUORUM_SEEN, 1).member.incarnation,
                      first);
    quorum_close(other);
    other = scene_announced(1, "newer", 5, &second);
    struct quorum_event event;
    do
        event = scene_await(self, QUORUM_SEEN, 1);
    while (event.member.incarnation == first);
    ck_assert_uint_eq(event.member.incarnation, second);
    ck_assert_uint_eq(event.member.address_bytes, 5);
    quorum_close(other);
    quorum_close(self);
    scene_close();
}
END_TEST

START_TEST(who_leaves_is_gone)
{
    uint64_t own, first;

    OPEN(_i);
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(2, "o", 1, &first);
    scene_await(self, QUORUM_SEEN, 2);
    quorum_close(other);
    if (scene_providers[_i].tells_gone)
        ck_assert_uint_eq(scene_await(self, QUORUM_GONE, 2).member.incarnation,
                          first);
    quorum_close(self);
    scene_close();
}
END_TEST

START_TEST(an_older_start_of_a_peer_is_fenced)
{
    uint64_t first, second;

    OPEN(_i);
    if (scene_providers[_i].tells_fenced) {
        struct quorum *old = scene_announced(1, "old", 3, &first);
        struct quorum *new = scene_announced(1, "new", 3, &second);
        ck_assert_uint_eq(scene_await(old, QUORUM_FENCED, 1).member.incarnation,
                          second);
        quorum_close(new);
        quorum_close(old);
    }
    scene_close();
}
END_TEST

START_TEST(an_address_that_is_too_long_is_refused)
{
    static const uint8_t address[QUORUM_ADDRESS_MAX + 1];
    uint64_t own;

    OPEN(_i);
    struct quorum *self = scene_member(0, &own);
    ck_assert_int_eq(quorum_announce(self, address, sizeof(address)),
                     TALLY_ERR_INVALID);
    ck_assert_str_eq(core_error_text(), "an address has 4097 bytes, at most "
                                        "4096 are possible");
    quorum_close(self);
    scene_close();
}
END_TEST

START_TEST(without_a_register_no_lineage_is_forced_and_how_to_go_on_is_said)
{
    const struct replica_position position = {.epoch = {.lineage = 2}};
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own, request;

    OPEN(_i);
    struct quorum *self = scene_announced(0, "s", 1, &own);
    if (!scene_providers[_i].has_register) {
        ck_assert_int_eq(quorum_lineage_swap(self, &position, &request),
                         TALLY_ERR_UNSUPPORTED);
        snprintf(sentence, sizeof(sentence),
                 "TALLY_QUORUM=%s has no register of lineages: the job stays "
                 "stopped. Continue the processes that stopped, or end all and "
                 "start them from the newest checkpoint, or use "
                 "TALLY_QUORUM=etcd",
                 scene_providers[_i].name);
        ck_assert_str_eq(core_error_text(), sentence);
        ck_assert_int_eq(quorum_checkpoint_publish(
                             self, 1, (struct replica_state){1, 2}, &request),
                         TALLY_ERR_UNSUPPORTED);
    }
    quorum_close(self);
    scene_close();
}
END_TEST

START_TEST(jobs_are_kept_apart)
{
    uint64_t own, theirs;
    struct quorum_event event;
    struct quorum *stranger = NULL;

    OPEN(_i);
    if (scene_providers[_i].keeps_jobs_apart) {
        struct quorum *self = scene_announced(0, "s", 1, &own);
        ck_assert_int_eq(scene_try("another job", 1, &stranger), TALLY_OK);
        ck_assert_int_eq(
            quorum_incarnation(stranger, SCENE_TIMEOUT_US, &theirs), TALLY_OK);
        ck_assert_int_eq(quorum_announce(stranger, "x", 1), TALLY_OK);
        // By the time that this one is seen, that one would be, too.
        struct quorum *other = scene_announced(2, "o", 1, &theirs);
        bool seen = false;
        do
            if (quorum_next(self, &event) && event.kind == QUORUM_SEEN) {
                ck_assert_uint_ne(event.member.peer, 1);
                seen = event.member.peer == 2;
            }
        while (!seen);
        quorum_close(other);
        quorum_close(stranger);
        quorum_close(self);
    }
    scene_close();
}
END_TEST

START_TEST(a_closed_or_unused_membership_leaves_nothing)
{
    struct quorum *quorum = NULL;

    OPEN(_i);
    quorum_close(NULL);
    ck_assert_int_eq(scene_try("job", 0, &quorum), TALLY_OK);
    quorum_close(quorum);
    scene_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quorum");
    TCase *tests = tcase_create("every provider");

    tcase_set_timeout(tests, 180);
    tcase_add_loop_test(tests, members_see_each_other_and_their_addresses, 0,
                        SCENE_PROVIDERS);
    tcase_add_loop_test(tests, a_later_start_has_a_greater_incarnation, 0,
                        SCENE_PROVIDERS);
    tcase_add_loop_test(tests,
                        who_starts_again_is_seen_under_the_new_incarnation, 0,
                        SCENE_PROVIDERS);
    tcase_add_loop_test(tests, who_leaves_is_gone, 0, SCENE_PROVIDERS);
    tcase_add_loop_test(tests, an_older_start_of_a_peer_is_fenced, 0,
                        SCENE_PROVIDERS);
    tcase_add_loop_test(tests, an_address_that_is_too_long_is_refused, 0,
                        SCENE_PROVIDERS);
    tcase_add_loop_test(
        tests, without_a_register_no_lineage_is_forced_and_how_to_go_on_is_said,
        0, SCENE_PROVIDERS);
    tcase_add_loop_test(tests, jobs_are_kept_apart, 0, SCENE_PROVIDERS);
    tcase_add_loop_test(tests, a_closed_or_unused_membership_leaves_nothing, 0,
                        SCENE_PROVIDERS);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

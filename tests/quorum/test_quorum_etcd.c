// SPDX-License-Identifier: BSD-3-Clause
// What is etcd's own: leases, its restart, compare-and-swap between processes,
// and the register of lineages and checkpoints.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/config.h"
#include "core/error.h"
#include "quorum/scene.h"

#define ROUNDS 8

static void set_up(void)
{
    if (!scene_open(SCENE_ETCD)) {
        scene_close();
        puts("skipped: no etcd here");
        exit(77);
    }
}

static struct replica_position lineage_at(uint32_t lineage, uint64_t base)
{
    struct replica_position position = {
        .epoch = {.lineage = lineage,
                  .number = 1,
                  .members = 3,
                  .acceptor_count = 3},
        .next = {.index = base + 1},
        .previous = 77,
        .group = {base, 1234},
    };

    for (uint16_t i = 0; i < 3; i++)
        position.epoch.acceptors[i] = (struct replica_name){i, 0, i + 10u};
    position.epoch.incarnations[0] = 10;
    position.epoch.incarnations[1] = 11;
    return position;
}

static tally_status_t force(struct quorum *quorum, uint32_t lineage,
                            uint64_t base, char *sentence)
{
    const struct replica_position position = lineage_at(lineage, base);
    uint64_t request;

    ck_assert_int_eq(quorum_lineage_swap(quorum, &position, &request),
                     TALLY_OK);
    return scene_answer(quorum, request, sentence);
}

static tally_status_t publish(struct quorum *quorum, uint32_t lineage,
                              uint64_t index, char *sentence)
{
    uint64_t request;

    ck_assert_int_eq(quorum_checkpoint_publish(quorum, lineage,
                                               (struct replica_state){index, 5},
                                               &request),
                     TALLY_OK);
    return scene_answer(quorum, request, sentence);
}

START_TEST(a_lineage_follows_its_parent_only)
{
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own, theirs;
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(1, "o", 1, &theirs);

    ck_assert_int_eq(force(self, 3, 7, sentence), TALLY_ERR_MISMATCH);
    ck_assert_str_eq(sentence, "the register holds lineage 1: lineage 3 does "
                               "not follow it");
    ck_assert_int_eq(force(self, 2, 7, sentence), TALLY_OK);
    // All are told, with all of it.
    struct replica_position want = lineage_at(2, 7);
    struct quorum_record got = scene_await(other, QUORUM_LINEAGE, 0).record;
    ck_assert_int_eq(
        memcmp(&got.position.epoch, &want.epoch, sizeof(want.epoch)), 0);
    ck_assert_uint_eq(got.position.next.index, 8);
    ck_assert_uint_eq(got.position.previous, 77);
    ck_assert_uint_eq(got.position.group.index, 7);
    ck_assert_uint_eq(got.position.group.digest, 1234);
    ck_assert_int_eq(force(other, 2, 9, sentence), TALLY_ERR_MISMATCH);
    ck_assert_str_eq(sentence, "the register holds lineage 2: lineage 2 does "
                               "not follow it");
    ck_assert_int_eq(force(other, 3, 9, sentence), TALLY_OK);
    quorum_close(other);
    quorum_close(self);
}
END_TEST

START_TEST(no_lineage_begins_below_a_published_checkpoint)
{
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own, theirs;
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(1, "o", 1, &theirs);

    ck_assert_int_eq(publish(self, 1, 20, sentence), TALLY_OK);
    // Another replica has stored the same; one has stored what was before.
    ck_assert_int_eq(publish(other, 1, 20, sentence), TALLY_OK);
    ck_assert_int_eq(publish(other, 1, 10, sentence), TALLY_ERR_MISMATCH);
    ck_assert_str_eq(sentence, "the checkpoint of index 20 is published: that "
                               "of 10 is not after it");
    ck_assert_int_eq(force(self, 2, 19, sentence), TALLY_ERR_MISMATCH);
    ck_assert_str_eq(sentence, "the checkpoint of index 20 is published: no "
                               "lineage begins below it, at 19");
    ck_assert_int_eq(force(self, 2, 20, sentence), TALLY_OK);
    ck_assert_int_eq(publish(self, 1, 30, sentence), TALLY_ERR_MISMATCH);
    ck_assert_str_eq(sentence, "the register holds lineage 2: no checkpoint of "
                               "lineage 1 is published");
    ck_assert_int_eq(publish(self, 2, 30, sentence), TALLY_OK);
    struct quorum_event event;
    do
        event = scene_await(other, QUORUM_LINEAGE, 0);
    while (event.record.published.index != 30);
    ck_assert_uint_eq(event.record.position.epoch.lineage, 2);
    quorum_close(other);
    quorum_close(self);
}
END_TEST

START_TEST(what_the_register_holds_is_told_who_asks)
{
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own, request;
    struct quorum *self = scene_announced(0, "s", 1, &own);
    const struct replica_position below = lineage_at(2, 19);
    struct quorum_event event;

    ck_assert_int_eq(quorum_register_read(self, &request), TALLY_OK);
    event = scene_await(self, QUORUM_ANSWER, 0);
    ck_assert_uint_eq(event.request, request);
    ck_assert_int_eq(event.status, TALLY_OK);
    ck_assert_uint_eq(event.record.position.epoch.lineage, 1);
    ck_assert_uint_eq(event.record.published.index, 0);
    ck_assert_int_eq(publish(self, 1, 20, sentence), TALLY_OK);
    // So is who lost to it.
    ck_assert_int_eq(quorum_lineage_swap(self, &below, &request), TALLY_OK);
    event = scene_await(self, QUORUM_ANSWER, 0);
    ck_assert_int_eq(event.status, TALLY_ERR_MISMATCH);
    ck_assert_uint_eq(event.record.published.index, 20);
    ck_assert_int_eq(force(self, 2, 30, sentence), TALLY_OK);
    ck_assert_int_eq(quorum_register_read(self, &request), TALLY_OK);
    event = scene_await(self, QUORUM_ANSWER, 0);
    ck_assert_uint_eq(event.record.position.epoch.lineage, 2);
    ck_assert_uint_eq(event.record.published.index, 20);
    ck_assert_uint_eq(event.record.published.digest, 5);
    quorum_close(self);
}
END_TEST

START_TEST(one_request_at_a_time)
{
    const struct replica_position position = lineage_at(2, 7);
    uint64_t own, request;
    struct quorum *self = scene_announced(0, "s", 1, &own);

    ck_assert_int_eq(quorum_lineage_swap(self, &position, &request), TALLY_OK);
    ck_assert_int_eq(quorum_lineage_swap(self, &position, &request),
                     TALLY_ERR_BUSY);
    quorum_close(self);
}
END_TEST

static void write_force(const char *value)
{
    char command[256];

    snprintf(command, sizeof(command),
             "ETCDCTL_API=3 etcdctl --endpoints %s put -- %s/job/force '%s' "
             ">/dev/null",
             scene_setting("TALLY_ETCD_ENDPOINTS"),
             config_table[CONFIG_ETCD_PREFIX].preset, value);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(the_operator_ends_a_lineage_by_a_key)
{
    struct quorum_event event;
    uint64_t own, theirs;

    if (access("/usr/bin/etcdctl", X_OK) != 0)
        return; // tests/fault/test_forced.sh does it without
    struct quorum *self = scene_announced(0, "s", 1, &own);
    // What is no number of a lineage says nothing, and harms nothing.
    write_force("all of them");
    write_force("3 4");
    write_force("-1");
    struct quorum *other = scene_announced(1, "o", 1, &theirs);
    scene_await(self, QUORUM_SEEN, 1);
    write_force("3");
    ck_assert_uint_eq(scene_await(self, QUORUM_FORCE, 0).ends, 3);
    sleep(1); // some looks: it is told once
    while (quorum_next(self, &event))
        ck_assert_int_ne(event.kind, QUORUM_FORCE);
    write_force("4");
    ck_assert_uint_eq(scene_await(self, QUORUM_FORCE, 0).ends, 4);
    do // it may have looked between the two
        theirs = scene_await(other, QUORUM_FORCE, 0).ends;
    while (theirs == 3);
    ck_assert_uint_eq(theirs, 4);
    quorum_close(other);
    quorum_close(self);
}
END_TEST

// A process of its own that forces lineages 2, 3, ... as soon as each is
// possible; its exit status is how many it won.
static void compete(uint16_t peer)
{
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own;
    struct quorum *self = scene_announced(peer, "c", 1, &own);
    int won = 0;

    for (uint32_t lineage = 2; lineage < 2 + ROUNDS; lineage++) {
        tally_status_t status = force(self, lineage, lineage, sentence);
        if (status != TALLY_OK && status != TALLY_ERR_MISMATCH)
            _exit(100);
        won += status == TALLY_OK;
    }
    quorum_close(self);
    _exit(won);
}

START_TEST(of_two_processes_one_wins_each_lineage)
{
    int statuses[2];
    pid_t children[2];

    for (uint16_t i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0)
            compete(i);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(waitpid(children[i], &statuses[i], 0), children[i]);
        ck_assert(WIFEXITED(statuses[i]));
    }
    ck_assert_int_eq(WEXITSTATUS(statuses[0]) + WEXITSTATUS(statuses[1]),
                     ROUNDS);
}
END_TEST

// A member of its own process, begun before this one has threads.
static pid_t member_start(void)
{
    uint64_t own;
    pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)scene_announced(1, "c", 1, &own);
        pause();
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    return child;
}

START_TEST(who_is_killed_is_gone_when_its_lease_ends)
{
    uint64_t own;
    pid_t child = member_start();
    struct quorum *self = scene_announced(0, "s", 1, &own);

    scene_await(self, QUORUM_SEEN, 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    scene_await(self, QUORUM_GONE, 1);
    quorum_close(self);
}
END_TEST

START_TEST(a_registration_outlives_its_lease_many_times)
{
    uint64_t own, theirs;
    scene_set("TALLY_ETCD_LEASE", "4");
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(1, "o", 1, &theirs);
    struct quorum_event event;

    scene_await(self, QUORUM_SEEN, 1);
    sleep(13);
    while (quorum_next(self, &event))
        ck_assert_int_ne(event.kind, QUORUM_GONE);
    quorum_close(other);
    quorum_close(self);
}
END_TEST

START_TEST(a_stopped_process_comes_back_under_its_incarnation)
{
    uint64_t own;
    pid_t child = member_start();
    struct quorum *self = scene_announced(0, "s", 1, &own);

    uint64_t first = scene_await(self, QUORUM_SEEN, 1).member.incarnation;
    kill(child, SIGSTOP);
    scene_await(self, QUORUM_GONE, 1);
    kill(child, SIGCONT);
    ck_assert_uint_eq(scene_await(self, QUORUM_SEEN, 1).member.incarnation,
                      first);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    quorum_close(self);
}
END_TEST

START_TEST(membership_and_register_survive_etcd)
{
    char sentence[QUORUM_SENTENCE_BYTES];
    uint64_t own, theirs, later;
    struct quorum *self = scene_announced(0, "s", 1, &own);
    struct quorum *other = scene_announced(1, "o", 1, &theirs);

    scene_await(self, QUORUM_SEEN, 1);
    ck_assert_int_eq(force(self, 2, 7, sentence), TALLY_OK);
    scene_etcd_restart(false);
    struct quorum_event event = scene_await(self, QUORUM_PROVIDER, 0);
    ck_assert_int_ne(event.status, TALLY_OK);
    ck_assert_ptr_nonnull(strstr(event.sentence, "etcd at http://127.0.0.1:"));
    // Nobody is gone because etcd is; a request is answered all the same.
    ck_assert_int_eq(force(self, 3, 7, sentence), TALLY_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(
        strstr(sentence, "the register of lineages did not answer: etcd at "));
    scene_etcd_restart(true);
    while (scene_await(self, QUORUM_PROVIDER, 0).status != TALLY_OK)
        ;
    ck_assert_int_eq(force(self, 3, 7, sentence), TALLY_OK);
    quorum_close(other);
    other = scene_announced(1, "again", 5, &later);
    ck_assert_uint_gt(later, theirs);
    do
        event = scene_await(self, QUORUM_SEEN, 1);
    while (event.member.incarnation != later);
    quorum_close(other);
    quorum_close(self);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quorum over etcd");
    TCase *tests = tcase_create("etcd");

    if (access("/usr/bin/etcd", X_OK) != 0 ||
        access(BUILD_FOLDER "/.libs/libtally-etcd.so", F_OK) != 0) {
        puts("skipped: etcd-server or libtally-etcd.so is not here");
        return 77;
    }
    tcase_set_timeout(tests, 180);
    tcase_add_checked_fixture(tests, set_up, scene_close);
    tcase_add_test(tests, a_lineage_follows_its_parent_only);
    tcase_add_test(tests, no_lineage_begins_below_a_published_checkpoint);
    tcase_add_test(tests, what_the_register_holds_is_told_who_asks);
    tcase_add_test(tests, one_request_at_a_time);
    tcase_add_test(tests, the_operator_ends_a_lineage_by_a_key);
    tcase_add_test(tests, of_two_processes_one_wins_each_lineage);
    tcase_add_test(tests, who_is_killed_is_gone_when_its_lease_ends);
    tcase_add_test(tests, a_registration_outlives_its_lease_many_times);
    tcase_add_test(tests, a_stopped_process_comes_back_under_its_incarnation);
    tcase_add_test(tests, membership_and_register_survive_etcd);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

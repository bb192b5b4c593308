// SPDX-License-Identifier: BSD-3-Clause
// Tests of tally_doctor's checks, on jobs that are made up. What can be
// provoked for real is in test_tally_doctor.sh.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/checks/checks.h"
#include "doctor/facts/note.h"

#define RANKS 6

// A healthy job of two hosts with three ranks each, over ucx.
static struct scene {
    struct self self;
    struct job job;
    struct facts facts[RANKS];
    struct clocks_bound clocks[RANKS];
    struct job_row rows[RANKS];
    int32_t ranks[RANKS], node_of[RANKS], absent[RANKS], members[RANKS];
    struct findings findings;
} scene;

static void facts_make(struct facts *facts, int32_t rank)
{
    *facts = (struct facts){.rank = rank,
                            .world_size = RANKS,
                            .processors = 8,
                            .node_shm = 1,
                            .boot = (uint64_t)(rank / 3),
                            .shm_device = 20,
                            .version = "0.1.0",
                            .kernel = "Linux 6.1"};
    snprintf(facts->host, sizeof(facts->host), "host%d", (int)rank / 3);
    strcpy(facts->settings, "TALLY_TRANSPORT=auto\nTALLY_RADIX=0\n");
    strcpy(facts->transports[0].name, "ucx");
    strcpy(facts->transports[0].version, "UCX 1.13.1");
    facts->transports[0].wanted = facts->transports[0].usable = 1;
}

static void scene_open(void)
{
    memset(&scene, 0, sizeof(scene));
    for (int32_t i = 0; i < RANKS; i++) {
        scene.ranks[i] = scene.members[i] = i;
        scene.node_of[i] = i / 3;
        facts_make(&scene.facts[i], i);
        for (int32_t k = 0; k < PAIRS_SLOTS; k++)
            scene.rows[i].us[k] = k >= RANKS || k == i ? PAIRS_UNTRIED
                                  : k / 3 == i / 3     ? 0.3f
                                                       : 12;
    }
    scene.job = (struct job){
        .self = &scene.self,
        .joined = true,
        .count = RANKS,
        .ranks = scene.ranks,
        .facts = scene.facts,
        .absent = scene.absent,
        .node_of = scene.node_of,
        .node_count = 2,
        .clocks = scene.clocks,
        .transport = "ucx",
        .members = scene.members,
        .member_count = RANKS,
        .rows = scene.rows,
    };
}

static void scene_close(void)
{
    findings_free(&scene.findings);
}

// Runs one check; returns how many findings it has.
static size_t run(const char *id)
{
    findings_free(&scene.findings);
    for (size_t i = 0; i < checks_count; i++)
        if (strcmp(checks_table[i].id, id) == 0) {
            checks_table[i].run(&checks_table[i], &scene.job, &scene.findings);
            return scene.findings.count;
        }
    ck_abort_msg("there is no check %s", id);
    return 0;
}

// Finding `index` in one line: "FAIL ranks 1, 2: sentence".
static const char *line(size_t index)
{
    static const char *const words[] = {"ok", "WARN", "FAIL"};
    static char text[1024];
    const struct finding *finding = &scene.findings.all[index];
    char ranks[128] = "";

    ck_assert_uint_lt(index, scene.findings.count);
    if (finding->count > 0)
        findings_ranks_text(finding->ranks, finding->count, ranks,
                            sizeof(ranks));
    snprintf(text, sizeof(text), "%s %s%s%s", words[finding->severity], ranks,
             finding->count > 0 ? ": " : "", finding->text);
    return text;
}

static void check_finds(const char *id, const char *wanted)
{
    ck_assert_uint_eq(run(id), 1);
    ck_assert_str_eq(line(0), wanted);
}

START_TEST(a_healthy_job_has_no_findings)
{
    checks_run(&scene.job, &scene.findings);
    for (size_t i = 0; i < scene.findings.count; i++)
        ck_assert_msg(scene.findings.all[i].severity == SEVERITY_OK, "%s",
                      line(i));
    ck_assert_uint_ge(scene.findings.count, 8);
    ck_assert_int_eq(findings_worst(&scene.findings), SEVERITY_OK);
}
END_TEST

START_TEST(every_check_has_a_name_of_its_own_and_says_why_and_what_to_do)
{
    for (size_t i = 0; i < checks_count; i++) {
        const struct check *check = &checks_table[i];

        ck_assert_ptr_nonnull(strchr(check->id, '.'));
        ck_assert_int_gt(check->severity, SEVERITY_OK);
        ck_assert(check->why[strlen(check->why) - 1] == '.');
        ck_assert(check->fix[strlen(check->fix) - 1] == '.');
        for (size_t k = 0; k < i; k++)
            ck_assert_str_ne(checks_table[k].id, check->id);
    }
}
END_TEST

START_TEST(what_ranks_found_by_themselves_is_told_once_with_all_ranks)
{
    for (int32_t i = 0; i < RANKS; i++)
        if (i != 2)
            FACTS_FOUND(&scene.facts[i], FACTS_UNKNOWN, "TALLY_A is not one");
    FACTS_FOUND(&scene.facts[4], FACTS_UNKNOWN, "TALLY_B is not one");
    ck_assert_uint_eq(run("env.unknown"), 2);
    ck_assert_str_eq(line(0), "WARN ranks 0, 1, 3-5: TALLY_A is not one");
    ck_assert_str_eq(line(1), "WARN rank 4: TALLY_B is not one");
}
END_TEST

START_TEST(what_is_well_is_of_the_first_rank_where_ranks_differ)
{
    for (int32_t i = 0; i < RANKS; i++)
        strcpy(scene.facts[i].fine[FACTS_SHM], "much");
    check_finds("limit.shm", "ok much");
    strcpy(scene.facts[3].fine[FACTS_SHM], "more");
    check_finds("limit.shm", "ok rank 0: much");
}
END_TEST

START_TEST(settings_that_differ_are_told_with_both_values)
{
    for (int32_t i = 3; i < RANKS; i++)
        strcpy(scene.facts[i].settings,
               "TALLY_TRANSPORT=auto\nTALLY_RADIX=4\n");
    check_finds("env.settings",
                "FAIL ranks 3-5: TALLY_RADIX is \"4\", but \"0\" at rank 0");
}
END_TEST

START_TEST(versions_that_differ_are_told_where_there_are_both)
{
    strcpy(scene.facts[1].transports[0].version, "UCX 1.9.0");
    scene.facts[2].transports[0].version[0] = '\0'; // it has none
    strcpy(scene.facts[5].kernel, "Linux 5.4");
    ck_assert_uint_eq(run("version.equal"), 2);
    ck_assert_str_eq(line(0),
                     "WARN rank 1: ucx is UCX 1.9.0, but UCX 1.13.1 at rank 0");
    ck_assert_str_eq(
        line(1),
        "WARN rank 5: the kernel is Linux 5.4, but Linux 6.1 at rank 0");
    // A backend that is at another place of the list is found.
    scene.facts[1] = scene.facts[0];
    memset(&scene.facts[1].transports[0], 0,
           sizeof(scene.facts[1].transports[0]));
    scene.facts[1].transports[3] = scene.facts[0].transports[0];
    scene.facts[5] = scene.facts[0];
    check_finds("version.equal",
                "ok Tally, its backends' libraries and kernels are the same");
}
END_TEST

// One for each case below.
static const char *const splits[] = {
    "TALLY_NODE_SHM=0",
    "TALLY_NODE differs",
    "/dev/shm cannot be used, see there",
    "each has a /dev/shm of its own, as in containers",
    ("what one writes to /dev/shm the other cannot read: they run as different "
     "users, or a security module forbids it"),
};

START_TEST(ranks_of_one_host_on_two_nodes_are_told_why)
{
    struct facts *facts = &scene.facts[2];
    char wanted[256];

    scene.node_of[2] = 2;
    scene.job.node_count = 3;
    if (_i == 0)
        facts->node_shm = 0;
    if (_i == 1)
        strcpy(facts->node_name, "b");
    if (_i == 2)
        FACTS_FOUND(facts, FACTS_SHM, "read-only");
    if (_i == 3)
        facts->shm_device = 21;
    snprintf(wanted, sizeof(wanted),
             "WARN rank 2: on the host of rank 0, but does not share memory "
             "with it: %s",
             splits[_i]);
    check_finds("node.shared", wanted);
}
END_TEST

START_TEST(a_clock_that_is_surely_off_is_told_with_its_bounds)
{
    scene.clocks[1] = (struct clocks_bound){-900000, 900000}; // not surely
    check_finds("clock.skew", "ok at most 900.0 ms apart from rank 0's");
    scene.clocks[3] = (struct clocks_bound){1500000, 1700000};
    scene.clocks[4] = (struct clocks_bound){-3700000, -3500000};
    ck_assert_uint_eq(run("clock.skew"), 2);
    ck_assert_str_eq(
        line(0), "WARN rank 3: the clock is 1.5 to 1.7 s ahead of rank 0's");
    ck_assert_str_eq(line(1),
                     "WARN rank 4: the clock is 3.5 to 3.7 s behind rank 0's");
}
END_TEST

START_TEST(a_backend_that_some_lack_is_told_with_their_reason)
{
    struct facts_transport *ucx = &scene.facts[4].transports[0];

    ucx->usable = 0;
    strcpy(ucx->reason, "libtally-ucx.so was not found");
    check_finds("transport.backends",
                "WARN rank 4: cannot use ucx, which 5 of 6 ranks can: "
                "libtally-ucx.so was not found");
    check_finds("transport.common",
                "FAIL rank 4: ucx: libtally-ucx.so was not found");
    ucx->wanted = 0;
    check_finds("transport.backends",
                "WARN rank 4: cannot use ucx, which 5 of 6 ranks can: its "
                "TALLY_TRANSPORT leaves it out");
}
END_TEST

START_TEST(shm_alone_does_not_join_nodes)
{
    for (int32_t i = 0; i < RANKS; i++)
        scene.facts[i].transports[0].wanted = 0;
    scene.job.transport = NULL;
    check_finds("transport.common", "FAIL TALLY_TRANSPORT=shm, and the ranks "
                                    "are on 2 nodes");
    scene.job.node_count = 1;
    check_finds("transport.common",
                "ok none is needed: one node holds all ranks");
}
END_TEST

START_TEST(pairs_that_do_not_reach_each_other_are_named_one_way_is_enough)
{
    scene.rows[4].us[1] = PAIRS_UNREACHED;
    strcpy(scene.rows[4].reason, "UCX has no way");
    check_finds("way.reach", "FAIL ranks 1 (host0) and 4 (host1) do not reach "
                             "each other over ucx: UCX has no way");
}
END_TEST

START_TEST(a_rank_that_reaches_nobody_is_named_by_itself)
{
    for (int32_t i = 0; i < RANKS; i++)
        if (i != 5)
            scene.rows[i].us[5] = scene.rows[5].us[i] = PAIRS_UNREACHED;
    ck_assert_uint_eq(run("way.reach"), 1);
    ck_assert_str_eq(line(0),
                     "FAIL rank 5: reaches nobody and is reached by nobody "
                     "over ucx: no answer came");
}
END_TEST

START_TEST(of_many_pairs_some_are_named_and_the_rest_counted)
{
    for (int32_t a = 0; a < 3; a++)
        for (int32_t b = 3; b < RANKS; b++)
            scene.rows[a].us[b] = scene.rows[b].us[a] = PAIRS_UNREACHED;
    ck_assert_uint_eq(run("way.reach"), 9);
    ck_assert_str_eq(line(8), "FAIL and so 1 more pairs, see the matrix");
}
END_TEST

START_TEST(a_transport_that_takes_the_wrong_devices_is_told)
{
    ck_assert_uint_eq(run("way.interface"), 0);
    scene.job.by_interface = true;
    scene.job.interface = (struct interface){"eth1", "10.0.0.1"};
    check_finds("way.interface",
                "WARN the devices that ucx chooses itself do not join all "
                "nodes; the interfaces of the rendezvous do, at rank 0 eth1 "
                "(10.0.0.1)");
}
END_TEST

START_TEST(a_slow_pair_is_named_with_the_median_of_its_kind)
{
    scene.rows[2].us[3] = 100;
    check_finds("way.slow", "ok no pair is much slower than the others");
    scene.rows[3].us[2] = 100; // both ways
    check_finds("way.slow", "WARN ranks 2 and 3 take 100.0 us one way over "
                            "ucx, the median is 12.0 us");
    scene.rows[2].us[3] = scene.rows[3].us[2] = 12;
    // Four times the median, but not worth a word.
    scene.rows[0].us[1] = scene.rows[1].us[0] = 5;
    check_finds("way.slow", "ok no pair is much slower than the others");
    scene.facts[0].processors = 2;
    scene.rows[2].us[3] = scene.rows[3].us[2] = 100;
    check_finds("way.slow", "ok not judged: ranks outnumber processors");
}
END_TEST

START_TEST(who_did_not_come_and_who_went_is_told)
{
    scene.absent[0] = 7;
    scene.job.absent_count = 1;
    check_finds("meet.absent",
                "FAIL rank 7: came, and then did not answer any more");
    strcpy(scene.job.failure, "rank 3 did not come within 2 s");
    check_finds("meet.ranks", "FAIL rank 3 did not come within 2 s");
}
END_TEST

START_TEST(a_rank_alone_is_not_judged_by_others)
{
    scene.job.joined = false;
    scene.job.count = 1;
    scene.job.node_of = NULL;
    scene.job.clocks = NULL;
    scene.job.rows = NULL;
    scene.job.transport = NULL;
    scene.job.member_count = 0;
    checks_run(&scene.job, &scene.findings);
    ck_assert_uint_eq(scene.findings.count, 1);
    ck_assert_str_eq(line(0), "ok ucx: UCX 1.13.1");
}
END_TEST

START_TEST(ranks_are_written_as_ranges_and_cut_off)
{
    const int32_t ranks[] = {0, 1, 2, 3, 7, 9, 10, 12, 13, 14};
    char text[64];

    findings_ranks_text(ranks, 10, text, sizeof(text));
    ck_assert_str_eq(text, "ranks 0-3, 7, 9, 10, 12-14");
    findings_ranks_text(ranks + 4, 1, text, sizeof(text));
    ck_assert_str_eq(text, "rank 7");
    findings_ranks_text(ranks, 10, text, 24);
    ck_assert_str_eq(text, "ranks 0-3, 7, 9, ...");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("doctor checks");
    TCase *tests = tcase_create("checks");

    tcase_add_checked_fixture(tests, scene_open, scene_close);
    tcase_add_test(tests, a_healthy_job_has_no_findings);
    tcase_add_test(
        tests, every_check_has_a_name_of_its_own_and_says_why_and_what_to_do);
    tcase_add_test(tests,
                   what_ranks_found_by_themselves_is_told_once_with_all_ranks);
    tcase_add_test(tests, what_is_well_is_of_the_first_rank_where_ranks_differ);
    tcase_add_test(tests, settings_that_differ_are_told_with_both_values);
    tcase_add_test(tests, versions_that_differ_are_told_where_there_are_both);
    tcase_add_loop_test(tests, ranks_of_one_host_on_two_nodes_are_told_why, 0,
                        (int)(sizeof(splits) / sizeof(splits[0])));
    tcase_add_test(tests, a_clock_that_is_surely_off_is_told_with_its_bounds);
    tcase_add_test(tests, a_backend_that_some_lack_is_told_with_their_reason);
    tcase_add_test(tests, shm_alone_does_not_join_nodes);
    tcase_add_test(
        tests, pairs_that_do_not_reach_each_other_are_named_one_way_is_enough);
    tcase_add_test(tests, a_rank_that_reaches_nobody_is_named_by_itself);
    tcase_add_test(tests, of_many_pairs_some_are_named_and_the_rest_counted);
    tcase_add_test(tests, a_transport_that_takes_the_wrong_devices_is_told);
    tcase_add_test(tests, a_slow_pair_is_named_with_the_median_of_its_kind);
    tcase_add_test(tests, who_did_not_come_and_who_went_is_told);
    tcase_add_test(tests, a_rank_alone_is_not_judged_by_others);
    tcase_add_test(tests, ranks_are_written_as_ranges_and_cut_off);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

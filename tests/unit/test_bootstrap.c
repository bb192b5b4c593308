// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous among threads over the loopback: who comes up, who is turned
// away, and what all are told.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/scene.h"

START_TEST(any_number_of_ranks_comes_up_and_exchanges)
{
    static const int32_t sizes[] = {2, 3, 32, 33, 34, 70};

    scene_run(sizes[_i], (struct scene){.body = scene_gather_over_all});
}
END_TEST

static void branch_in_two(struct rendezvous *rendezvous, int32_t index)
{
    (void)index;
    rendezvous->params.radix = 2;
}

static void branch_in_five(struct rendezvous *rendezvous, int32_t index)
{
    (void)index;
    rendezvous->params.radix = 5;
}

// Trees of five and of three levels, as a radix of 32 has them with millions
// and thousands of ranks.
START_TEST(deep_trees_come_up)
{
    scene_run(62, (struct scene){.change = branch_in_two,
                                 .body = scene_gather_over_all});
    scene_run(40, (struct scene){.change = branch_in_five,
                                 .body = scene_gather_over_all});
}
END_TEST

static void gather_in_subsets(struct rendezvous *rendezvous,
                              struct ranks_member *member)
{
    int32_t ranks[64];
    struct exchange_group group = {.ranks = ranks, .key = "subset"};

    // Ranks of equal remainder; each group has its own pace.
    int32_t step = 3;
    for (int32_t i = member->rank % step; i < member->size; i += step) {
        if (i == member->rank)
            group.index = group.count;
        ranks[group.count++] = i;
    }
    for (int32_t i = 0; i < 20; i++)
        ck_assert_int_eq(rendezvous_gather(rendezvous, &group, i), TALLY_OK);
    ranks_barrier(member);
}

START_TEST(subsets_exchange_side_by_side)
{
    scene_run(40, (struct scene){.body = gather_in_subsets});
}
END_TEST

static void gather_much(struct rendezvous *rendezvous,
                        struct ranks_member *member)
{
    int32_t ranks[40];
    size_t bytes = 100000;
    uint8_t *mine = malloc(bytes);
    uint8_t *all = malloc(bytes * 40);
    struct exchange_group group = {ranks, member->size, member->rank, "", 0};

    for (int32_t i = 0; i < member->size; i++)
        ranks[i] = i;
    memset(mine, member->rank + 1, bytes);
    ck_assert_int_eq(
        exchange_allgather(rendezvous->exchange, &group, mine, all, bytes),
        TALLY_OK);
    for (size_t i = 0; i < bytes * (size_t)member->size; i++)
        if (all[i] != i / bytes + 1)
            ck_abort_msg("byte %zu is %u", i, all[i]);
    ranks_barrier(member);
    free(mine);
    free(all);
}

START_TEST(large_parts_pass)
{
    scene_run(36, (struct scene){.body = gather_much});
}
END_TEST

// ------------------------------------------------------------- disagreements

static void change_world_size(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 2)
        rendezvous->identity.world_size = 5;
}

static void change_abi(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.abi = 2;
}

static void change_setting(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.settings = "TALLY_RADIX=0\nTALLY_TIMEOUT=5\n";
}

static void change_settings(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.settings = "TALLY_RADIX=0\n";
}

static void change_patience(struct rendezvous *rendezvous, int32_t index)
{
    // The least patient rank is not the root.
    rendezvous->params.timeout_us = index == 1 ? 2000000 : 4000000;
}

START_TEST(ranks_that_disagree_are_named_to_all)
{
    static const struct scene scenes[] = {
        {.change = change_world_size,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "the world size is 5 at rank 2 and 3 at rank 0"},
        {.change = change_abi,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "tally is 0.1.0 (ABI 2) at rank 1 and 0.1.0 (ABI 1) at "
                     "rank 0"},
        {.change = change_setting,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "TALLY_TIMEOUT is 5 at rank 1 and 60 at rank 0"},
        {.change = change_settings,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "ranks 1 and 0 know different settings"},
    };

    scene_run(3, scenes[_i]);
}
END_TEST

static void twice_rank(struct ranks_member *member)
{
    struct rendezvous rendezvous;
    const struct scene *scene = member->argument;

    rendezvous_prepare(&rendezvous, member->rank == 3 ? 2 : member->rank,
                       member->size, scene->port);
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_MISMATCH);
    // The ports of the two are any.
    ck_assert_ptr_eq(
        strstr(rendezvous.sentence, "rank 2 came twice, from 127.0.0.1:"),
        rendezvous.sentence);
    rendezvous_close(&rendezvous);
}

START_TEST(a_rank_that_comes_twice_is_named_to_all)
{
    struct scene scene = {0};
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(4, twice_rank, &scene);
    close(fd);
}
END_TEST

static void second_root(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;

    // Whoever is first has the port; the other cannot listen.
    rendezvous_prepare(&rendezvous, member->rank == 2 ? 0 : member->rank, 3,
                       scene->port);
    rendezvous.params.timeout_us = 500000;
    rendezvous_open(&rendezvous);
    ck_assert(rendezvous.status == TALLY_ERR_BOOTSTRAP ||
              rendezvous.status == TALLY_ERR_TIMEOUT);
    if (rendezvous.status == TALLY_ERR_BOOTSTRAP)
        ck_assert_str_eq(rendezvous.sentence,
                         "rank 0 cannot listen at the port of 127.0.0.1: "
                         "Address already in use");
    else
        ck_assert_str_eq(rendezvous.sentence,
                         "rank 2 did not come within 0.5 s");
    rendezvous_close(&rendezvous);
}

START_TEST(two_roots_do_not_both_come_up)
{
    struct scene scene = {0};
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(3, second_root, &scene);
    close(fd);
}
END_TEST

START_TEST(the_least_patient_rank_learns_who_did_not_come)
{
    scene_run(2,
              (struct scene){.size = 4,
                             .change = change_patience,
                             .status = TALLY_ERR_TIMEOUT,
                             .sentence = "ranks 2, 3 did not come within 2 s"});
}
END_TEST

// Milliseconds that 32 bits would take for 200.
static void change_to_seven_weeks(struct rendezvous *rendezvous, int32_t index)
{
    rendezvous->params.timeout_us = ((int64_t)UINT32_MAX + 201) * 1000;
    if (index == 2)
        usleep(600000);
}

START_TEST(a_timeout_of_weeks_is_not_taken_for_a_short_one)
{
    scene_run(3, (struct scene){.change = change_to_seven_weeks,
                                .body = scene_gather_over_all});
}
END_TEST

START_TEST(a_root_that_is_not_there_is_named_with_its_place)
{
    struct rendezvous rendezvous;
    char sentence[128];
    int fd;
    uint16_t port = rendezvous_port(&fd);

    rendezvous_prepare(&rendezvous, 1, 2, port);
    rendezvous.params.timeout_us = 200000;
    rendezvous_open(&rendezvous);
    snprintf(sentence, sizeof(sentence),
             "rank 0 was not found at 127.0.0.1:%u within 0.2 s: Connection "
             "refused",
             port);
    ck_assert_str_eq(rendezvous.sentence, sentence);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_TIMEOUT);
    rendezvous_close(&rendezvous);
    close(fd);
}
END_TEST

START_TEST(the_numbers_of_random_stay_the_host_programs)
{
    struct rendezvous rendezvous;
    int fd;
    uint16_t port = rendezvous_port(&fd);

    srandom(1);
    long expected = random();
    srandom(1);
    rendezvous_prepare(&rendezvous, 1, 2, port);
    rendezvous.params.timeout_us = 100000; // some attempts, and pauses
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(random(), expected);
    rendezvous_close(&rendezvous);
    close(fd);
}
END_TEST

START_TEST(a_host_without_an_address_is_named)
{
    struct rendezvous rendezvous;

    rendezvous_prepare(&rendezvous, 1, 2, 9);
    strcpy(rendezvous.identity.host, "no such host");
    rendezvous.params.timeout_us = 100000;
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(
        rendezvous.sentence, "rank 0 was not found at no such host:9 within "));
    rendezvous_close(&rendezvous);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap");
    TCase *tcase = tcase_create("coming up");

    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(tcase, any_number_of_ranks_comes_up_and_exchanges, 0,
                        6);
    tcase_add_test(tcase, deep_trees_come_up);
    tcase_add_test(tcase, subsets_exchange_side_by_side);
    tcase_add_test(tcase, large_parts_pass);
    tcase_add_loop_test(tcase, ranks_that_disagree_are_named_to_all, 0, 4);
    tcase_add_test(tcase, a_rank_that_comes_twice_is_named_to_all);
    tcase_add_test(tcase, two_roots_do_not_both_come_up);
    tcase_add_test(tcase, the_least_patient_rank_learns_who_did_not_come);
    tcase_add_test(tcase, a_timeout_of_weeks_is_not_taken_for_a_short_one);
    tcase_add_test(tcase, a_root_that_is_not_there_is_named_with_its_place);
    tcase_add_test(tcase, the_numbers_of_random_stay_the_host_programs);
    tcase_add_test(tcase, a_host_without_an_address_is_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

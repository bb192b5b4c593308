// SPDX-License-Identifier: BSD-3-Clause
// Tests of collective/agreement.h.
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/agreement.h"
#include "core/error.h"
#include "harness/callback_exchange.h"
#include "harness/ranks.h"

#define RANKS 5
#define FIRST_WORLD_RANK 40
#define BYTES_MAX 16
#define UNTOUCHED 0x77

// How the ranks fare, and what each must see.
struct agreement_case {
    size_t bytes;
    uint32_t failing;   // bit i: rank i
    int32_t breaks;     // whose exchange fails; -1
    bool long_sentence; // of those that fail
};

static const char *sentence_of(const struct agreement_case *each, int32_t rank)
{
    static const char *const sentences[RANKS] = {"a", "b", "c", "d", "e"};
    static const char longer[] =
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "012345678901234567890123456789012345678901234567890123456789012345678"
        "9";

    return each->long_sentence ? longer : sentences[rank];
}

// One status a rank, so that none is taken for another.
static tally_status_t status_of(const struct agreement_case *each, int32_t rank)
{
    if ((each->failing & 1u << rank) == 0)
        return TALLY_OK;
    return rank % 2 == 0 ? TALLY_ERR_MEMORY : TALLY_ERR_SYSTEM;
}

static int32_t lowest_failing(const struct agreement_case *each)
{
    for (int32_t rank = 0; rank < RANKS; rank++)
        if ((each->failing & 1u << rank) != 0)
            return rank;
    return -1;
}

static void assert_gathered(const struct agreement_case *each,
                            const unsigned char *recv, bool agreed)
{
    for (size_t i = 0; i < RANKS * BYTES_MAX; i++) {
        bool written = agreed && i < RANKS * each->bytes;

        ck_assert_uint_eq(recv[i], written ? i / each->bytes + 1 : UNTOUCHED);
    }
}

static void assert_told(const struct agreement_case *each, int32_t rank,
                        tally_status_t status)
{
    char sentence[256] = "the exchange was broken";
    tally_status_t expected = TALLY_OK;
    int32_t lowest = lowest_failing(each);

    if (status_of(each, rank) != TALLY_OK) {
        expected = status_of(each, rank);
        snprintf(sentence, sizeof(sentence), "%.187s", sentence_of(each, rank));
    } else if (rank == each->breaks) {
        expected = TALLY_ERR_BOOTSTRAP;
    } else if (lowest >= 0) {
        expected = status_of(each, lowest);
        snprintf(sentence, sizeof(sentence), "rank %d: %.187s",
                 FIRST_WORLD_RANK + (int)lowest, sentence_of(each, lowest));
    }
    ck_assert_int_eq(status, expected);
    if (expected != TALLY_OK)
        ck_assert_str_eq(core_error_text(), sentence);
}

static void agree(struct ranks_member *member)
{
    const struct agreement_case *each = member->argument;
    struct callback_exchange exchange;
    unsigned char send[BYTES_MAX];
    unsigned char recv[RANKS * BYTES_MAX];
    tally_status_t own = status_of(each, member->rank);

    callback_exchange_open(&exchange, ranks_allgather, member, member->rank,
                           member->size, FIRST_WORLD_RANK);
    if (member->rank == each->breaks)
        exchange.fails_from = 0;
    memset(send, member->rank + 1, sizeof(send));
    memset(recv, UNTOUCHED, sizeof(recv));
    if (own != TALLY_OK)
        core_fail(own, "%s", sentence_of(each, member->rank));
    tally_status_t status = agreement_gather(
        &exchange.base, &exchange.group, own, each->bytes > 0 ? send : NULL,
        each->bytes > 0 ? recv : NULL, each->bytes);
    assert_told(each, member->rank, status);
    assert_gathered(each, recv, status == TALLY_OK && each->bytes > 0);
    callback_exchange_close(&exchange);
}

START_TEST(all_get_what_each_gave_if_all_are_well)
{
    for (size_t bytes = 0; bytes <= BYTES_MAX; bytes++) {
        struct agreement_case each = {bytes, 0, -1, false};

        ranks_run(RANKS, agree, &each);
    }
}
END_TEST

START_TEST(whoever_fails_all_are_told_the_lowest_and_those_their_own)
{
    for (uint32_t failing = 1; failing < 1u << RANKS; failing++) {
        struct agreement_case each = {3, failing, -1, false};

        ranks_run(RANKS, agree, &each);
    }
}
END_TEST

START_TEST(a_failure_that_nothing_is_gathered_with_is_told_too)
{
    struct agreement_case each = {0, 1u << 3, -1, false};

    ranks_run(RANKS, agree, &each);
}
END_TEST

START_TEST(a_long_sentence_is_cut_off)
{
    struct agreement_case each = {7, 1u << 1, -1, true};

    ranks_run(RANKS, agree, &each);
}
END_TEST

START_TEST(a_broken_exchange_does_not_hide_the_own_failure)
{
    struct agreement_case alone = {8, 0, 2, false};
    struct agreement_case both = {8, 1u << 2, 2, false};
    struct agreement_case other = {8, 1u << 1, 2, false};

    ranks_run(RANKS, agree, &alone);
    ranks_run(RANKS, agree, &both);
    ranks_run(RANKS, agree, &other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective agreement");
    TCase *tests = tcase_create("agreement");

    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, all_get_what_each_gave_if_all_are_well);
    tcase_add_test(tests,
                   whoever_fails_all_are_told_the_lowest_and_those_their_own);
    tcase_add_test(tests, a_failure_that_nothing_is_gathered_with_is_told_too);
    tcase_add_test(tests, a_long_sentence_is_cut_off);
    tcase_add_test(tests, a_broken_exchange_does_not_hide_the_own_failure);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

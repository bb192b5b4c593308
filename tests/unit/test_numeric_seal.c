// SPDX-License-Identifier: BSD-3-Clause
// Tests of numeric/seal.h: the sum of one record of each rank is sealed, and
// nothing else that a collective may hand on.
#include <check.h>
#include <stdlib.h>

#include "harness/random.h"
#include "numeric/seal.h"

#define RANKS 9
#define ROUNDS 200

static struct numeric_record draw(struct random *random)
{
    struct numeric_record record;

    record.loss_hi = (int64_t)(random_next(random) >> 8);
    record.loss_lo = (int64_t)(random_next(random) >> 32);
    record.weight_hi = (int64_t)(random_next(random) >> 8);
    record.weight_lo = (int64_t)(random_next(random) >> 32);
    record.count = (int64_t)(random_next(random) >> 40);
    record.nonfinite = (int64_t)(random_next(random) >> 60);
    record.bad_labels = (int64_t)(random_next(random) >> 60);
    record.reserved = 0;
    return record;
}

// As a collective does: lane by lane, the reserved one too.
static void add(struct numeric_record *into, const struct numeric_record *from)
{
    numeric_record_add(into, from);
    into->reserved = numeric_add(into->reserved, from->reserved);
}

static struct numeric_record records[RANKS];

// Of all ranks but `without`, and of `twice` once more; -1: none.
static struct numeric_record total_of(int ranks, int without, int twice)
{
    struct numeric_record total = {.count = 0};

    for (int i = 0; i < ranks; i++)
        for (int times = (i != without) + (i == twice); times > 0; times--)
            add(&total, &records[i]);
    return total;
}

static void draw_all(struct random *random, int ranks, uint64_t key)
{
    for (int i = 0; i < ranks; i++) {
        records[i] = draw(random);
        numeric_record_seal(&records[i], key, i);
    }
}

START_TEST(the_sum_of_all_ranks_is_sealed)
{
    struct random random = {1};

    for (int round = 0; round < ROUNDS; round++)
        for (int ranks = 1; ranks <= RANKS; ranks++) {
            uint64_t key = numeric_seal_key(3, (uint64_t)round, 1);
            draw_all(&random, ranks, key);
            struct numeric_record total = total_of(ranks, -1, -1);
            ck_assert(numeric_record_sealed(&total, key, ranks));
        }
}
END_TEST

START_TEST(a_rank_too_few_or_twice_is_not)
{
    struct random random = {2};
    uint64_t key = numeric_seal_key(0, 1, 0);

    for (int ranks = 2; ranks <= RANKS; ranks++) {
        draw_all(&random, ranks, key);
        for (int i = 0; i < ranks; i++) {
            struct numeric_record less = total_of(ranks, i, -1);
            ck_assert(!numeric_record_sealed(&less, key, ranks));
            for (int k = 0; k < ranks; k++) {
                struct numeric_record other = total_of(ranks, i, k);
                ck_assert_int_eq(numeric_record_sealed(&other, key, ranks),
                                 i == k);
            }
        }
    }
}
END_TEST

START_TEST(ranks_without_tokens_are_missed_too)
{
    uint64_t key = numeric_seal_key(0, 1, 0);
    const struct numeric_record none = {.count = 0};

    for (int i = 0; i < RANKS; i++) {
        records[i] = none;
        numeric_record_seal(&records[i], key, i);
    }
    struct numeric_record less = total_of(RANKS, 4, -1);
    ck_assert(!numeric_record_sealed(&less, key, RANKS));
    ck_assert(!numeric_record_sealed(&none, key, RANKS));
}
END_TEST

START_TEST(a_record_of_another_reduction_is_seen)
{
    struct random random = {3};
    const uint64_t key = numeric_seal_key(1, 7, 0);
    const uint64_t others[] = {numeric_seal_key(1, 8, 0),
                               numeric_seal_key(2, 7, 0),
                               numeric_seal_key(1, 7, 1)};

    for (int i = 0; i < 3; i++) {
        ck_assert_uint_ne(others[i], key);
        draw_all(&random, RANKS, key);
        records[i] = draw(&random);
        numeric_record_seal(&records[i], others[i], i);
        struct numeric_record total = total_of(RANKS, -1, -1);
        ck_assert(!numeric_record_sealed(&total, key, RANKS));
    }
}
END_TEST

START_TEST(any_bit_of_any_lane_is_seen)
{
    struct random random = {4};
    const uint64_t key = numeric_seal_key(1, 7, 0);

    draw_all(&random, RANKS, key);
    struct numeric_record total = total_of(RANKS, -1, -1);
    int64_t *lanes = (int64_t *)&total;
    for (int lane = 0; lane < NUMERIC_LANES; lane++)
        for (int bit = 0; bit < 64; bit++) {
            lanes[lane] ^= (int64_t)((uint64_t)1 << bit);
            ck_assert(!numeric_record_sealed(&total, key, RANKS));
            lanes[lane] ^= (int64_t)((uint64_t)1 << bit);
        }
    ck_assert(numeric_record_sealed(&total, key, RANKS));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric_seal");
    TCase *tests = tcase_create("seal");

    tcase_add_test(tests, the_sum_of_all_ranks_is_sealed);
    tcase_add_test(tests, a_rank_too_few_or_twice_is_not);
    tcase_add_test(tests, ranks_without_tokens_are_missed_too);
    tcase_add_test(tests, a_record_of_another_reduction_is_seen);
    tcase_add_test(tests, any_bit_of_any_lane_is_seen);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

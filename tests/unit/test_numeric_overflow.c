// SPDX-License-Identifier: BSD-3-Clause
// Tests of overflow in numeric/record.h: sums that fit never wrap, and one that
// does not is seen in any total.
#include <check.h>
#include <stdlib.h>

#include "harness/exact.h"

#define ROUNDS 24
#define MANY_RANKS 100000
#define RANKS_MAX 64
#define MIBI ((int64_t)1 << 20)

static const int64_t rank_counts[] = {1,  2,    3,          7,
                                      64, 1000, MANY_RANKS, INT32_MAX};
#define RANK_COUNTS (sizeof(rank_counts) / sizeof(rank_counts[0]))

static struct numeric_record with_loss(int64_t hi, int64_t lo)
{
    return (struct numeric_record){.loss_hi = hi, .loss_lo = lo};
}

static struct numeric_record with_weight(int64_t hi, int64_t lo)
{
    return (struct numeric_record){.weight_hi = hi, .weight_lo = lo};
}

START_TEST(records_fit_up_to_their_share_and_no_further)
{
    struct numeric_record (*const make[])(int64_t, int64_t) = {with_loss,
                                                               with_weight};

    for (size_t i = 0; i < 2 * RANK_COUNTS; i++) {
        int64_t ranks = rank_counts[i / 2];
        int64_t bound = INT64_MAX / ranks;
        struct numeric_record record = make[i % 2](bound - 1, 0xffffffff);
        ck_assert(numeric_record_fits(&record, ranks));
        record = make[i % 2](-bound, 0);
        ck_assert(numeric_record_fits(&record, ranks));
        record = make[i % 2](bound, 0);
        ck_assert(!numeric_record_fits(&record, ranks));
        record = make[i % 2](-bound - 1, 0xffffffff);
        ck_assert(!numeric_record_fits(&record, ranks));
        record = make[i % 2](INT64_MAX, 0xffffffff);
        ck_assert(!numeric_record_fits(&record, ranks));
        record = make[i % 2](INT64_MIN, 0);
        ck_assert(!numeric_record_fits(&record, ranks));
    }
}
END_TEST

START_TEST(totals_of_records_that_fit_stay_below_two_to_the_55)
{
    for (size_t i = 0; i < RANK_COUNTS; i++) {
        int64_t ranks = rank_counts[i];
        int64_t bound = INT64_MAX / ranks;
        struct numeric_record most = with_loss(bound - 1, 0xffffffff);
        struct numeric_record least = with_loss(-bound, 0);
        exact_t most_sum = exact_lanes(most.loss_hi, most.loss_lo) * ranks;
        exact_t least_sum = exact_lanes(least.loss_hi, 0) * ranks;
        struct numeric_record total = {0};

        ck_assert(most_sum < EXACT_BOUND && least_sum > -EXACT_BOUND);
        exact_add_times(&total, &most, ranks, false);
        numeric_record_fold(&total);
        exact_assert_lanes(total.loss_hi, total.loss_lo, most_sum);
        total = (struct numeric_record){0};
        exact_add_times(&total, &least, ranks, false);
        numeric_record_fold(&total);
        exact_assert_lanes(total.loss_hi, total.loss_lo, least_sum);
        // A share larger by one would be too large for all.
        ck_assert(((exact_t)bound + 1) * EXACT_LANE * ranks >= EXACT_BOUND);
    }
}
END_TEST

START_TEST(more_tokens_than_can_be_vouched_for_do_not_fit)
{
    struct numeric_record record = {.count = NUMERIC_TOKENS_MAX};

    ck_assert(numeric_record_fits(&record, 1));
    record.count++;
    ck_assert(!numeric_record_fits(&record, 1));
}
END_TEST

START_TEST(one_marked_record_is_seen_in_any_total)
{
    struct random random = random_seeded((uint64_t)_i);
    struct numeric_record records[RANKS_MAX];
    uint32_t marked = random_below(&random, RANKS_MAX);

    for (uint32_t i = 0; i < RANKS_MAX; i++) {
        records[i] = exact_draw_record(&random, RANKS_MAX);
        ck_assert(!numeric_record_overflowed(&records[i]));
    }
    numeric_record_mark(&records[marked]);
    struct numeric_record total = exact_combine(records, RANKS_MAX, &random);
    ck_assert_msg(numeric_record_overflowed(&total), "seed %d", _i);
}
END_TEST

START_TEST(a_marked_record_adds_nothing_else)
{
    struct numeric_record record = {1, 2, 3, 4, 5, 6, 7, 0};
    struct numeric_record want = {.nonfinite = NUMERIC_OVERFLOW_MARK};

    numeric_record_mark(&record);
    exact_assert_record(&record, &want, 0);
}
END_TEST

START_TEST(marks_of_four_million_ranks_are_seen)
{
    struct random random = random_seeded((uint64_t)_i);
    struct numeric_record mark;

    numeric_record_mark(&mark);
    for (int i = 0; i < 1000; i++) {
        int64_t marks = 1 + random_below(&random, 4 * MIBI);
        if (i < 23)
            marks = (int64_t)1 << i; // a wrong mark wraps to 0 at one of them
        struct numeric_record total = {.nonfinite = 12345};
        exact_add_times(&total, &mark, marks, false);
        ck_assert_msg(numeric_record_overflowed(&total),
                      "seed %d: %lld marks are not seen", _i, (long long)marks);
    }
}
END_TEST

START_TEST(no_number_of_tokens_is_taken_for_a_mark)
{
    // A billion tokens of each of a thousand ranks, none of them finite.
    struct numeric_record rank = {.count = 1000000000, .nonfinite = 1000000000};
    struct numeric_record total = {0};

    exact_add_times(&total, &rank, 1000, true);
    ck_assert(!numeric_record_overflowed(&total));
    total.nonfinite = NUMERIC_OVERFLOW_MARK - 1;
    ck_assert(!numeric_record_overflowed(&total));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric overflow");
    TCase *overflow = tcase_create("overflow");

    tcase_add_test(overflow, records_fit_up_to_their_share_and_no_further);
    tcase_add_test(overflow,
                   totals_of_records_that_fit_stay_below_two_to_the_55);
    tcase_add_test(overflow, more_tokens_than_can_be_vouched_for_do_not_fit);
    tcase_add_loop_test(overflow, one_marked_record_is_seen_in_any_total, 0,
                        ROUNDS);
    tcase_add_test(overflow, a_marked_record_adds_nothing_else);
    tcase_add_test(overflow, marks_of_four_million_ranks_are_seen);
    tcase_add_test(overflow, no_number_of_tokens_is_taken_for_a_mark);
    suite_add_tcase(suite, overflow);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of adding in numeric/record.h: the lanes of a sum depend on nothing but
// what was added, up to the stated number of tokens and ranks. Sums beyond that
// are in test_numeric_overflow.c.
#include <check.h>
#include <stddef.h>
#include <stdlib.h>

#include "harness/exact.h"

#define ROUNDS 24
#define TOKENS_MAX 3000
#define RANKS_MAX 64
#define MANY_RANKS 100000

#define MIBI ((int64_t)1 << 20)
// The largest value and its units: 2^22 less half a unit in the last place.
#define LARGEST nextafter(EXACT_VALUE_BOUND, 0)
#define LARGEST_UNITS (((int64_t)1 << 62) - ((int64_t)1 << 9))

struct token {
    double loss;
    double weight;
    bool bad_label;
};

struct totals {
    exact_t loss, weight;
    int64_t count, nonfinite, bad_labels;
};

// A few are what a step must not be spoilt by.
static struct token token_draw(struct random *random)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY, EXACT_VALUE_BOUND};
    struct token token = {exact_draw_value(random), 1, false};

    if (random_below(random, 2) == 0)
        token.weight = exact_draw_value(random);
    if (random_below(random, 50) == 0)
        token.loss = odd[random_below(random, 4)];
    token.bad_label = random_below(random, 50) == 0;
    return token;
}

// As a device does.
static void token_add(struct numeric_record *record, const struct token *token)
{
    int64_t q;

    if (token->bad_label || !numeric_encode(token->weight, &q)) {
        record->bad_labels++;
        return;
    }
    record->count++;
    numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    if (numeric_encode(token->loss, &q))
        numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    else
        record->nonfinite++;
}

static void token_total(struct totals *totals, const struct token *token)
{
    int64_t q;

    if (token->bad_label || !exact_encode(token->weight, &q)) {
        totals->bad_labels++;
        return;
    }
    totals->count++;
    totals->weight += q;
    if (exact_encode(token->loss, &q))
        totals->loss += q;
    else
        totals->nonfinite++;
}

static struct numeric_record canonical(const struct totals *totals)
{
    struct numeric_record record = {.count = totals->count,
                                    .nonfinite = totals->nonfinite,
                                    .bad_labels = totals->bad_labels};

    exact_split(totals->loss, &record.loss_hi, &record.loss_lo);
    exact_split(totals->weight, &record.weight_hi, &record.weight_lo);
    return record;
}

static void record_units_add(struct numeric_record *record, int64_t q)
{
    numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    numeric_lanes_add(&record->weight_hi, &record->weight_lo, -q);
    record->count++;
}

START_TEST(a_record_is_eight_lanes_of_a_cache_line)
{
    ck_assert_uint_eq(sizeof(struct numeric_record), 64);
    ck_assert_uint_eq(sizeof(struct numeric_record),
                      NUMERIC_LANES * sizeof(int64_t));
    ck_assert_uint_eq(offsetof(struct numeric_record, loss_hi), 0);
    ck_assert_uint_eq(offsetof(struct numeric_record, weight_hi), 16);
    ck_assert_uint_eq(offsetof(struct numeric_record, count), 32);
    ck_assert_uint_eq(offsetof(struct numeric_record, nonfinite), 40);
    ck_assert_uint_eq(offsetof(struct numeric_record, bad_labels), 48);
    ck_assert_uint_eq(offsetof(struct numeric_record, reserved), 56);
}
END_TEST

// ---------------------------------------------------- any order, any grouping

static void shuffle(struct token *tokens, uint32_t count, struct random *random)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = random_below(random, i);
        struct token swapped = tokens[i - 1];
        tokens[i - 1] = tokens[j];
        tokens[j] = swapped;
    }
}

START_TEST(any_order_grouping_sharding_and_fold_gives_the_same_lanes)
{
    static struct token tokens[TOKENS_MAX];
    struct random random = random_seeded((uint64_t)_i);
    uint32_t count = random_below(&random, TOKENS_MAX);
    struct totals totals = {0};

    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = token_draw(&random);
        token_total(&totals, &tokens[i]);
    }
    struct numeric_record want = canonical(&totals);
    for (int schedule = 0; schedule < 20; schedule++) {
        struct numeric_record records[RANKS_MAX] = {0};
        uint32_t ranks = 1 + random_below(&random, RANKS_MAX);
        uint32_t fold_every = 1 + random_below(&random, 100);

        shuffle(tokens, count, &random);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t rank = random_below(&random, ranks);
            token_add(&records[rank], &tokens[i]);
            if (random_below(&random, fold_every) == 0)
                numeric_record_fold(&records[rank]);
        }
        struct numeric_record got = exact_combine(records, ranks, &random);
        exact_assert_record(&got, &want, _i);
    }
}
END_TEST

START_TEST(folding_twice_is_folding_once)
{
    struct random random = random_seeded((uint64_t)_i);

    for (int i = 0; i < 1000; i++) {
        struct numeric_record record = {
            .loss_hi = exact_draw_bits(&random, 60) - ((int64_t)1 << 59),
            .loss_lo = (int64_t)random_next(&random),
            .weight_hi = exact_draw_bits(&random, 60) - ((int64_t)1 << 59),
            .weight_lo = (int64_t)random_next(&random)};
        exact_t loss = exact_lanes(record.loss_hi, record.loss_lo);
        exact_t weight = exact_lanes(record.weight_hi, record.weight_lo);

        numeric_record_fold(&record);
        struct numeric_record once = record;
        numeric_record_fold(&record);
        exact_assert_record(&record, &once, _i);
        exact_assert_lanes(once.loss_hi, once.loss_lo, loss);
        exact_assert_lanes(once.weight_hi, once.weight_lo, weight);
    }
}
END_TEST

START_TEST(opposite_values_leave_nothing)
{
    struct random random = random_seeded((uint64_t)_i);
    struct numeric_record record = {0};
    struct numeric_record zero = {.count = 2000};

    for (int i = 0; i < 1000; i++) {
        struct token token = {exact_draw_value(&random),
                              exact_draw_value(&random), false};
        token_add(&record, &token);
        token.loss = -token.loss;
        token.weight = -token.weight;
        token_add(&record, &token);
    }
    numeric_record_fold(&record);
    exact_assert_record(&record, &zero, _i);
}
END_TEST

START_TEST(a_count_is_the_sum_of_weights_of_one)
{
    struct token token = {0, 1, false};
    struct numeric_record record = {0};

    token_add(&record, &token);
    ck_assert_int_eq(record.weight_hi, NUMERIC_ONE_HI);
    ck_assert_int_eq(record.weight_lo, 0);
    struct numeric_record total = {0};
    exact_add_times(&total, &record, 1000000007, true);
    numeric_record_fold(&total);
    ck_assert_int_eq(total.count, 1000000007);
    ck_assert_int_eq(total.weight_hi, total.count * NUMERIC_ONE_HI);
    ck_assert_int_eq(total.weight_lo, 0);
}
END_TEST

START_TEST(the_eighth_lane_stays_empty)
{
    struct numeric_record record = {.reserved = 0};
    struct numeric_record other = {.reserved = 7};

    numeric_record_add(&record, &other);
    ck_assert_int_eq(record.reserved, 0);
}
END_TEST

// ------------------------------------------------------ many tokens and ranks

START_TEST(lo_holds_two_to_the_31_tokens_between_folds)
{
    // -1 unit: lo gets all ones.
    struct numeric_record worst = {.loss_hi = -1, .loss_lo = 0xffffffff};
    struct numeric_record record = {0};
    const int64_t terms = (int64_t)1 << 31;

    exact_add_times(&record, &worst, terms, false);
    ck_assert_int_eq(record.loss_lo, terms * 0xffffffff);
    numeric_record_fold(&record);
    exact_assert_lanes(record.loss_hi, record.loss_lo, -(exact_t)terms);
    // What a fold leaves counts as one.
    record = worst;
    exact_add_times(&record, &worst, terms - 1, false);
    numeric_record_fold(&record);
    exact_assert_lanes(record.loss_hi, record.loss_lo, -(exact_t)terms);
}
END_TEST

START_TEST(a_billion_tokens_and_more_are_exact_by_repeated_folding)
{
    const int64_t billion = 1000000000;
    const double values[] = {LARGEST, -LARGEST, -0x1p-40, 11.7, 0x1.8p-40};

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct numeric_record token = {0};
        struct numeric_record total = {0};
        int64_t q = 0;
        ck_assert(numeric_encode(values[i], &q));
        record_units_add(&token, q);
        exact_add_times(&total, &token, billion, true);
        numeric_record_fold(&total);
        exact_assert_lanes(total.loss_hi, total.loss_lo, (exact_t)q * billion);
        exact_assert_lanes(total.weight_hi, total.weight_lo,
                           (exact_t)-q * billion);
        ck_assert_int_eq(total.count, billion);
    }
}
END_TEST

START_TEST(the_most_tokens_of_a_rank_do_not_wrap)
{
    const int64_t q = LARGEST_UNITS;
    struct numeric_record token = {0};
    struct numeric_record total = {0};

    record_units_add(&token, q);
    exact_add_times(&total, &token, NUMERIC_TOKENS_MAX, true);
    numeric_record_fold(&total);
    exact_assert_lanes(total.loss_hi, total.loss_lo,
                       (exact_t)q * NUMERIC_TOKENS_MAX);
    exact_assert_lanes(total.weight_hi, total.weight_lo,
                       (exact_t)-q * NUMERIC_TOKENS_MAX);
    // Two more of the largest would: so the bound is the power of two.
    ck_assert(((exact_t)q * (NUMERIC_TOKENS_MAX + MIBI)) > EXACT_BOUND);
}
END_TEST

START_TEST(a_hundred_thousand_ranks_add_up_in_any_order)
{
    struct random random = random_seeded((uint64_t)_i);
    struct numeric_record *records = calloc(MANY_RANKS, sizeof(*records));
    struct numeric_record forward = {0};
    struct numeric_record backward = {0};
    struct totals totals = {0};

    ck_assert_ptr_nonnull(records);
    for (int i = 0; i < MANY_RANKS; i++) {
        const struct numeric_record *record = &records[i];
        records[i] = exact_draw_record(&random, MANY_RANKS);
        ck_assert(numeric_record_fits(record, MANY_RANKS));
        totals.loss += exact_lanes(record->loss_hi, record->loss_lo);
        totals.weight += exact_lanes(record->weight_hi, record->weight_lo);
        totals.count += record->count;
        totals.nonfinite += record->nonfinite;
        totals.bad_labels += record->bad_labels;
        numeric_record_add(&forward, record);
    }
    for (int i = MANY_RANKS; i > 0; i--) {
        numeric_record_add(&backward, &records[i - 1]);
        numeric_record_fold(&backward);
    }
    numeric_record_fold(&forward);
    struct numeric_record any = exact_combine(records, MANY_RANKS, &random);
    struct numeric_record want = canonical(&totals);
    exact_assert_record(&forward, &want, _i);
    exact_assert_record(&backward, &want, _i);
    exact_assert_record(&any, &want, _i);
    free(records);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric record");
    TCase *sums = tcase_create("sums");
    TCase *many = tcase_create("many tokens and ranks");

    tcase_add_test(sums, a_record_is_eight_lanes_of_a_cache_line);
    tcase_add_loop_test(
        sums, any_order_grouping_sharding_and_fold_gives_the_same_lanes, 0,
        ROUNDS);
    tcase_add_loop_test(sums, folding_twice_is_folding_once, 0, ROUNDS);
    tcase_add_loop_test(sums, opposite_values_leave_nothing, 0, ROUNDS);
    tcase_add_test(sums, a_count_is_the_sum_of_weights_of_one);
    tcase_add_test(sums, the_eighth_lane_stays_empty);
    suite_add_tcase(suite, sums);
    tcase_add_test(many, lo_holds_two_to_the_31_tokens_between_folds);
    tcase_add_test(many,
                   a_billion_tokens_and_more_are_exact_by_repeated_folding);
    tcase_add_test(many, the_most_tokens_of_a_rank_do_not_wrap);
    tcase_add_loop_test(many, a_hundred_thousand_ranks_add_up_in_any_order, 0,
                        3);
    suite_add_tcase(suite, many);
    tcase_set_timeout(sums, 60);
    tcase_set_timeout(many, 60);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

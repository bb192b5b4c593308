// SPDX-License-Identifier: BSD-3-Clause
// Tests of the example trainer's curves, of their comparison, and of its
// options.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>
#include <unistd.h>

#include "trainer/curve/comparison.h"
#include "trainer/curve/curve.h"
#include "trainer/options.h"
#include "trainer/train.h"

// ------------------------------------------------------------------ curve file

static char path[64];

static void path_choose(void)
{
    snprintf(path, sizeof(path), "test-curve.%d.tsv", (int)getpid());
}

static void path_remove(void)
{
    unlink(path);
}

START_TEST(a_curve_is_read_back_to_the_bit)
{
    const struct curve_row written[2] = {
        {1, 2608, 0x390082, 0x70c00000, 5.0 / 3, 0, 0, NAN},
        {2, 0, -1, 0xffffffff, 0x1p-1050, TALLY_STEP_EMPTY, 4, 0.1},
    };
    struct curve_row *rows;
    int64_t count;
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert(curve_begin(file));
    for (int i = 0; i < 2; i++)
        ck_assert(curve_write(file, &written[i]));
    ck_assert(curve_read(path, &rows, &count)); // not closed: rows are flushed
    fclose(file);
    ck_assert_int_eq(count, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(rows[i].step, written[i].step);
        ck_assert_int_eq(rows[i].n_total, written[i].n_total);
        ck_assert_int_eq(rows[i].loss_hi, written[i].loss_hi);
        ck_assert_int_eq(rows[i].loss_lo, written[i].loss_lo);
        ck_assert_double_eq(rows[i].mean, written[i].mean);
        ck_assert_uint_eq(rows[i].flags, written[i].flags);
        ck_assert_int_eq(rows[i].silent, written[i].silent);
    }
    ck_assert_double_nan(rows[0].heldout);
    ck_assert_double_eq(rows[1].heldout, written[1].heldout);
    free(rows);
}
END_TEST

START_TEST(a_file_that_is_no_curve_is_refused)
{
    struct curve_row *rows;
    int64_t count;
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert(!curve_read("no such file", &rows, &count));
    fputs("1\t2\t3\n", file);
    fclose(file);
    ck_assert(!curve_read(path, &rows, &count));
}
END_TEST

// ------------------------------------------------------------------ comparison

#define RANKS 4
#define STEPS 6
#define PARTLY_SILENT 2 // rows
#define ALL_SILENT 4

static struct curve_row balanced[STEPS], reference[STEPS], naive[STEPS];

// Curves that keep all promises.
static void curves_make(void)
{
    for (int i = 0; i < STEPS; i++) {
        struct curve_row *row = &reference[i];
        memset(row, 0, sizeof(*row));
        row->step = i + 1;
        row->heldout = i % 2 == 0 ? 2.5 : NAN;
        if (i == ALL_SILENT) {
            row->silent = RANKS;
            row->flags = TALLY_STEP_EMPTY;
        } else {
            row->silent = i == PARTLY_SILENT ? 2 : 0;
            row->n_total = 1000 + i;
            row->loss_hi = 5000 + i;
            row->loss_lo = 77;
            row->mean = 3.0 - 0.1 * i;
        }
        balanced[i] = naive[i] = *row;
        naive[i].mean *= 1.02;
    }
}

static bool curves_hold(void)
{
    struct comparison comparison = {.balanced = balanced,
                                    .reference = reference,
                                    .naive = naive,
                                    .steps = STEPS,
                                    .ranks = RANKS};

    comparison_make(&comparison);
    comparison_print(&comparison, stdout);
    return comparison_holds(&comparison);
}

START_TEST(curves_that_keep_all_promises_hold)
{
    ck_assert(curves_hold());
    balanced[1].mean *= 1 + 9e-6;
    balanced[2].loss_lo++; // the first step's sum is promised to the bit
    balanced[2].heldout *= 1 - 9e-6;
    ck_assert(curves_hold());
}
END_TEST

static void break_total(void)
{
    balanced[5].n_total++;
}

static void break_naive_total(void)
{
    naive[3].n_total++;
}

static void break_first_sum(void)
{
    balanced[0].loss_lo++;
}

static void break_mean(void)
{
    balanced[5].mean *= 1 + 2e-5;
}

static void break_mean_by_nan(void)
{
    balanced[1].mean = NAN; // and nothing after it may hide that
}

static void break_heldout(void)
{
    balanced[4].heldout *= 1 + 2e-5;
}

static void break_heldout_by_nan(void)
{
    balanced[4].heldout = NAN;
}

static void break_empty_flag(void)
{
    balanced[ALL_SILENT].flags = 0;
}

static void break_empty_mean(void)
{
    reference[ALL_SILENT].mean = balanced[ALL_SILENT].mean = NAN;
}

static void break_partly_silent(void)
{
    reference[PARTLY_SILENT].silent = 0;
}

static void break_all_silent(void)
{
    reference[ALL_SILENT].silent = 3;
}

static void break_naive(void)
{
    for (int i = 0; i < STEPS; i++)
        if (i != PARTLY_SILENT)
            naive[i].mean = reference[i].mean;
}

static void (*const breaks[])(void) = {
    break_total,          break_naive_total, break_first_sum,
    break_mean,           break_mean_by_nan, break_heldout,
    break_heldout_by_nan, break_empty_flag,  break_empty_mean,
    break_partly_silent,  break_all_silent,  break_naive,
};

START_TEST(each_broken_promise_is_noticed)
{
    breaks[_i]();
    ck_assert(!curves_hold());
}
END_TEST

START_TEST(no_steps_do_not_hold)
{
    struct comparison comparison = {.ranks = RANKS};

    comparison_make(&comparison);
    comparison_print(&comparison, stdout);
    ck_assert(!comparison_holds(&comparison));
}
END_TEST

// --------------------------------------------------------------------- options

static enum options_outcome read_words(struct options *options,
                                       const char *first, const char *second)
{
    char name[] = "trainer";
    char words[2][64] = {"", ""};
    char *argv[4] = {name, words[0], words[1], NULL};

    snprintf(words[0], sizeof(words[0]), "%s", first);
    if (second != NULL)
        snprintf(words[1], sizeof(words[1]), "%s", second);
    optind = 0; // GNU: starts over
    return options_read(second != NULL ? 3 : 2, argv, options);
}

static uint64_t digest_with(const char *first, const char *second)
{
    const uint8_t text[] = "text";
    struct options options;

    ck_assert_int_eq(read_words(&options, first, second), OPTIONS_RUN);
    return options_digest(&options, text, sizeof(text));
}

START_TEST(options_are_read)
{
    struct options options;

    ck_assert_int_eq(read_words(&options, "--steps", "17"), OPTIONS_RUN);
    ck_assert_int_eq(options.steps, 17);
    ck_assert_str_eq(options.mode->name, "balanced");
    ck_assert_str_eq(options.order->name, "first");
    ck_assert_double_eq(options.learning_rate, 0.003);
    ck_assert_int_eq(options.file_count, 0);
    ck_assert_int_eq(read_words(&options, "--die-at", "5:2"), OPTIONS_RUN);
    ck_assert_int_eq(options.die.step, 5);
    ck_assert_int_eq(options.die.rank, 2);
    ck_assert_int_eq(read_words(&options, "--pause-at", "6:1:250"),
                     OPTIONS_RUN);
    ck_assert_int_eq(options.pause.step, 6);
    ck_assert_int_eq(options.pause.rank, 1);
    ck_assert_int_eq(options.pause.pause_ms, 250);
    ck_assert_int_eq(read_words(&options, "--optimizer", "sgd"), OPTIONS_RUN);
    ck_assert_double_eq(options.learning_rate, 0.3);
    ck_assert_int_eq(read_words(&options, "a", "b"), OPTIONS_RUN);
    ck_assert_int_eq(options.file_count, 2);
    ck_assert_int_eq(read_words(&options, "--help", NULL), OPTIONS_HELP);
}
END_TEST

static const char *const wrong_words[][2] = {
    {"--steps", "0"},          {"--steps", "1x"},
    {"--steps", "9999999"},    {"--mode", "unfair"},
    {"--order", "second"},     {"--optimizer", "lion"},
    {"--learning-rate", "-1"}, {"--learning-rate", "nan"},
    {"--micro-batches", "0"},  {"--seed", "-1"},
    {"--die-at", "3"},         {"--die-at", "3:1:4"},
    {"--pause-at", "3:1"},     {"--documents", ""},
    {"--device", "tpu"},       {"--no-such-option", NULL},
    {"--steps", NULL},
};

START_TEST(wrong_options_are_refused)
{
    struct options options;

    ck_assert_int_eq(
        read_words(&options, wrong_words[_i][0], wrong_words[_i][1]),
        OPTIONS_WRONG);
}
END_TEST

static const char *const digest_words[][2] = {
    {"--steps", "119"},  {"--documents", "15"},  {"--micro-batches", "3"},
    {"--seed", "2"},     {"--optimizer", "sgd"}, {"--learning-rate", "0.004"},
    {"--mode", "naive"}, {"--order", "late"},
};

START_TEST(ranks_with_other_options_have_other_digests)
{
    uint64_t plain = digest_with("--steps", "120");

    ck_assert_uint_ne(digest_with(digest_words[_i][0], digest_words[_i][1]),
                      plain);
    // What may differ between ranks.
    ck_assert_uint_eq(digest_with("--curve", "x"), plain);
    ck_assert_uint_eq(digest_with("--die-at", "1:1"), plain);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("trainer: curves and options");
    TCase *files = tcase_create("curve file");
    TCase *comparisons = tcase_create("comparison");
    TCase *options = tcase_create("options");

    tcase_add_checked_fixture(files, path_choose, path_remove);
    tcase_add_test(files, a_curve_is_read_back_to_the_bit);
    tcase_add_test(files, a_file_that_is_no_curve_is_refused);
    suite_add_tcase(suite, files);

    tcase_add_checked_fixture(comparisons, curves_make, NULL);
    tcase_add_test(comparisons, curves_that_keep_all_promises_hold);
    tcase_add_loop_test(comparisons, each_broken_promise_is_noticed, 0,
                        ROWS(breaks));
    tcase_add_test(comparisons, no_steps_do_not_hold);
    suite_add_tcase(suite, comparisons);

    tcase_add_test(options, options_are_read);
    tcase_add_loop_test(options, wrong_options_are_refused, 0,
                        ROWS(wrong_words));
    tcase_add_loop_test(options, ranks_with_other_options_have_other_digests, 0,
                        ROWS(digest_words));
    suite_add_tcase(suite, options);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

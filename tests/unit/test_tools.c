// SPDX-License-Identifier: BSD-3-Clause
// Tests of what the tools share: the JSON writer, percentiles, the work that
// ranks contribute, and reading what the MPI program prints.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "perf/peer.h"
#include "perf/samples.h"
#include "perf/work.h"

// ----------------------------------------------------------------------- JSON

struct text {
    struct json json;
    char *bytes;
    size_t length;
};

static void text_open(struct text *text)
{
    text->json = (struct json){0};
    text->json.out = open_memstream(&text->bytes, &text->length);
    ck_assert_ptr_nonnull(text->json.out);
}

static void text_is(struct text *text, const char *wanted)
{
    json_end(&text->json);
    fclose(text->json.out);
    ck_assert_str_eq(text->bytes, wanted);
    free(text->bytes);
}

static void string_is(const char *value, const char *wanted)
{
    struct text text;

    text_open(&text);
    json_string(&text.json, NULL, value);
    text_is(&text, wanted);
}

START_TEST(json_separates_members_and_elements)
{
    struct text text;

    text_open(&text);
    json_object_open(&text.json, NULL);
    json_integer(&text.json, "a", INT64_MIN);
    json_array_open(&text.json, "b");
    json_array_close(&text.json);
    json_array_open(&text.json, "c");
    json_bool(&text.json, NULL, true);
    json_bool(&text.json, NULL, false);
    json_array_close(&text.json);
    json_object_open(&text.json, "d");
    json_null(&text.json, "e");
    json_object_close(&text.json);
    json_object_close(&text.json);
    text_is(&text, "{\"a\": -9223372036854775808, \"b\": [], "
                   "\"c\": [true,\n false], \"d\": {\"e\": null}}\n");
}
END_TEST

START_TEST(json_escapes_what_must_be_escaped)
{
    string_is("plain", "\"plain\"\n");
    string_is("a\"b\\c", "\"a\\\"b\\\\c\"\n");
    string_is("\n\t\x01\x1f\x7f", "\"\\u000a\\u0009\\u0001\\u001f\\u007f\"\n");
    string_is(NULL, "null\n");
    string_is("", "\"\"\n");
}
END_TEST

START_TEST(json_keeps_utf_8_and_replaces_what_is_none)
{
    string_is("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
              "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"\n");
    string_is("\xff", "\"\\ufffd\"\n");
    string_is("\xc3", "\"\\ufffd\"\n");                       // cut off
    string_is("\xc0\x80", "\"\\ufffd\\ufffd\"\n");            // overlong
    string_is("\xe2\x82z", "\"\\ufffd\\ufffdz\"\n");          // third byte
    string_is("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"\n"); // surrogate
    string_is("\xf4\x90\x80\x80",
              "\"\\ufffd\\ufffd\\ufffd\\ufffd\"\n"); // beyond U+10FFFF
}
END_TEST

static void number_is(double value, int decimals, const char *wanted)
{
    struct text text;

    text_open(&text);
    json_number(&text.json, NULL, value, decimals);
    text_is(&text, wanted);
}

START_TEST(json_has_no_number_that_is_not_finite)
{
    number_is(0.28, 3, "0.280\n");
    number_is(-1e15, 0, "-1000000000000000\n");
    number_is(NAN, 3, "null\n");
    number_is(INFINITY, 3, "null\n");
}
END_TEST

// ---------------------------------------------------------------- percentiles

static void fill(struct samples *samples, int64_t count)
{
    ck_assert(samples_create(samples, (size_t)count));
    for (int64_t i = 0; i < count; i++)
        samples_add(samples, i * 7919 % count + 1); // 1 .. count, shuffled
    samples_sort(samples);
}

START_TEST(percentiles_are_of_the_nearest_rank)
{
    struct samples samples;

    fill(&samples, 100);
    ck_assert_int_eq(samples_percentile(&samples, 0), 1);
    ck_assert_int_eq(samples_percentile(&samples, 500), 50);
    ck_assert_int_eq(samples_percentile(&samples, 900), 90);
    ck_assert_int_eq(samples_percentile(&samples, 990), 99);
    ck_assert_int_eq(samples_percentile(&samples, 1000), 100);
    samples_free(&samples);
    fill(&samples, 5);
    ck_assert_int_eq(samples_percentile(&samples, 500), 3);
    ck_assert_int_eq(samples_percentile(&samples, 900), 5);
    ck_assert_int_eq(samples_percentile(&samples, 200), 1);
    ck_assert_int_eq(samples_percentile(&samples, 201), 2);
    samples_free(&samples);
    fill(&samples, 1);
    ck_assert_int_eq(samples_percentile(&samples, 0), 1);
    ck_assert_int_eq(samples_percentile(&samples, 990), 1);
    samples_free(&samples);
}
END_TEST

START_TEST(samples_beyond_the_room_are_dropped)
{
    struct samples samples;

    ck_assert(samples_create(&samples, 2));
    for (int i = 0; i < 5; i++)
        samples_add(&samples, i);
    ck_assert_uint_eq(samples.count, 2);
    samples_free(&samples);
}
END_TEST

// ----------------------------------------------------------------------- work

START_TEST(the_totals_are_the_sum_of_what_the_ranks_contribute)
{
    enum { RANKS = 5, RECORDS = 3 };
    struct work works[RANKS];

    for (int32_t r = 0; r < RANKS; r++)
        ck_assert(work_create(&works[r], r, RANKS, RECORDS));
    for (uint32_t i = 0; i < 3 * WORK_VARIANTS; i++)
        for (uint32_t k = 0; k < RECORDS; k++) {
            struct numeric_record sum = {0};
            for (int r = 0; r < RANKS; r++) {
                struct numeric_record mine = {0};
                work_count(work_tokens(&works[r], i, k), &mine);
                numeric_record_add(&sum, &mine);
            }
            numeric_record_fold(&sum);
            for (int r = 0; r < RANKS; r++)
                ck_assert_mem_eq(&sum, work_total(&works[r], i, k),
                                 sizeof(sum));
        }
    for (int r = 0; r < RANKS; r++)
        work_free(&works[r]);
}
END_TEST

// So a result that is late, or of another channel, is seen to be wrong.
START_TEST(totals_differ_between_iterations_and_between_records)
{
    struct work work;

    ck_assert(work_create(&work, 0, 2, 2));
    for (uint32_t i = 0; i < 2 * WORK_VARIANTS; i++) {
        ck_assert_mem_ne(work_total(&work, i, 0), work_total(&work, i, 1),
                         sizeof(struct numeric_record));
        ck_assert_mem_ne(work_total(&work, i, 0), work_total(&work, i + 1, 0),
                         sizeof(struct numeric_record));
        ck_assert_int_gt(work_total(&work, i, 0)->weight_lo, 0);
        ck_assert_int_gt(work_total(&work, i, 0)->count, 0);
    }
    work_free(&work);
}
END_TEST

// ----------------------------------------------------------------------- peer

static bool parses(const char *output, int64_t iterations)
{
    struct peer peer = {0};

    ck_assert(samples_create(&peer.samples, 8));
    bool parsed = peer_parse(&peer, output, iterations);
    samples_free(&peer.samples);
    return parsed;
}

START_TEST(figures_of_the_peer_are_read)
{
    struct peer peer = {.wrong = 1};

    ck_assert(samples_create(&peer.samples, 8));
    ck_assert(peer_parse(
        &peer, "library Open MPI v4.1.4\nwrong 2\nsamples_ns 280 300\n", 2));
    ck_assert(peer_parse(
        &peer, "library Open MPI v4.1.4\nwrong 0\nsamples_ns 290\n", 1));
    ck_assert_str_eq(peer.library, "Open MPI v4.1.4");
    ck_assert_int_eq(peer.wrong, 3);
    ck_assert_uint_eq(peer.samples.count, 3);
    ck_assert_int_eq(peer.samples.ns[1], 300);
    ck_assert_int_eq(peer.samples.ns[2], 290);
    samples_free(&peer.samples);
}
END_TEST

START_TEST(what_is_not_the_peers_figures_is_refused)
{
    ck_assert(parses("library x\nwrong 0\nsamples_ns 1 2\n", 2));
    ck_assert(!parses("", 2));
    ck_assert(!parses("library x\nwrong 0\n", 2));
    ck_assert(!parses("library x\nwrong ?\nsamples_ns 1 2\n", 2));
    ck_assert(!parses("library x\nwrong 0\nsamples_ns 1\n", 2));
    ck_assert(!parses("library x\nwrong 0\nsamples_ns 1 2 3\n", 2));
    ck_assert(!parses("library x\nwrong 0\nsamples_ns 1 2\nmore", 2));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools");
    TCase *tcase = tcase_create("json");

    tcase_add_test(tcase, json_separates_members_and_elements);
    tcase_add_test(tcase, json_escapes_what_must_be_escaped);
    tcase_add_test(tcase, json_keeps_utf_8_and_replaces_what_is_none);
    tcase_add_test(tcase, json_has_no_number_that_is_not_finite);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("perf");
    tcase_add_test(tcase, percentiles_are_of_the_nearest_rank);
    tcase_add_test(tcase, samples_beyond_the_room_are_dropped);
    tcase_add_test(tcase, the_totals_are_the_sum_of_what_the_ranks_contribute);
    tcase_add_test(tcase, totals_differ_between_iterations_and_between_records);
    tcase_add_test(tcase, figures_of_the_peer_are_read);
    tcase_add_test(tcase, what_is_not_the_peers_figures_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

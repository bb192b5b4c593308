// SPDX-License-Identifier: BSD-3-Clause
// Tests of the ABI: callers built against smaller structs work, newer ones are
// refused with both versions, and the table is whole.
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <tally/plugin.h>

#include "core/struct_check.h"
#include "harness/job.h"

// A struct as an imagined older and newer release had it.
struct small {
    size_t size;
    uint32_t abi;
    int32_t first;
};

struct grown {
    size_t size;
    uint32_t abi;
    int32_t first;
    int64_t second;
};

START_TEST(a_smaller_struct_is_taken_and_its_tail_keeps_the_default)
{
    const struct small given = {sizeof(given), 1, 42};
    struct grown taken = {.second = 7};

    ck_assert_int_eq(
        struct_take("grown", &given, &taken, sizeof(taken), sizeof(given)),
        TALLY_OK);
    ck_assert_int_eq(taken.first, 42);
    ck_assert_int_eq(taken.second, 7);
    ck_assert_uint_eq(taken.size, sizeof(taken));
}
END_TEST

START_TEST(a_larger_struct_of_a_caller_is_not_written_beyond_what_is_known)
{
    struct grown given = {sizeof(given), 1, 0, 99};
    const struct small filled = {sizeof(filled), 1, 5};

    struct_give(&given, &filled, sizeof(filled));
    ck_assert_int_eq(given.first, 5);
    ck_assert_int_eq(given.second, 99);
    ck_assert_uint_eq(given.size, sizeof(given));
}
END_TEST

START_TEST(a_newer_abi_is_refused_naming_both)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_t *tally;

    host.abi = TALLY_ABI + 1;
    job_assert_fails(tally_open(&host, &tally), TALLY_ERR_ABI,
                     "tally_open: tally_host is of ABI 2, this library (0.1.0) "
                     "has ABI 1");
    host.abi = 0;
    job_assert_fails(tally_open(&host, &tally), TALLY_ERR_ABI,
                     "tally_open: tally_host is of ABI 0, this library (0.1.0) "
                     "has ABI 1");
}
END_TEST

START_TEST(a_struct_that_was_not_initialised_is_refused)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_t *tally;

    host.size = 8;
    job_assert_fails(tally_open(&host, &tally), TALLY_ERR_INVALID,
                     "tally_open: tally_host has 8 bytes, ABI 1 needs 24: was "
                     "it made with TALLY_INIT?");
}
END_TEST

START_TEST(a_result_smaller_than_todays_is_filled_as_far_as_it_goes)
{
    const int64_t label = 1;
    tally_labels_t labels = job_labels(&label, 1);
    struct {
        tally_result_t result;
    } memory;
    tally_channel_result_t channels[2];
    struct job job;

    memset(&memory, 0x5a, sizeof(memory));
    memset(channels, 0x5a, sizeof(channels));
    memory.result.size = offsetof(tally_result_t, max);
    memory.result.abi = 1;
    memory.result.channels = channels;
    memory.result.channel_capacity = 2;
    channels[0].size = offsetof(tally_channel_result_t, loss_sum);
    channels[0].abi = 1;
    job_open(&job, NULL, NULL);
    tally_step_t *step = job_step(&job, TALLY_COUNT_FIRST, 1, 3);
    ck_assert_int_eq(tally_step_begin(step, 1, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_count(step, 0, &labels, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(step, NULL), TALLY_OK);
    ck_assert_int_eq(tally_step_end(step, NULL), TALLY_OK);
    ck_assert_int_eq(
        tally_step_result(step, 0, TALLY_RESULT_WAIT, &memory.result),
        TALLY_OK);
    ck_assert_int_eq(channels[0].count, 1);
    ck_assert_int_eq(memory.result.members, 1);
    // An array of none may be anywhere.
    memory.result.channels = (tally_channel_result_t *)8;
    memory.result.channel_capacity = 0;
    ck_assert_int_eq(tally_step_result(step, 0, 0, &memory.result), TALLY_OK);
    const unsigned char *tail = (const unsigned char *)memory.result.max;
    for (size_t i = 0; i < sizeof(memory.result.max); i++)
        ck_assert_uint_eq(tail[i], 0x5a);
    tail = (const unsigned char *)&channels[0].loss_sum;
    for (size_t i = 0; i < sizeof(double); i++)
        ck_assert_uint_eq(tail[i], 0x5a);
    ck_assert_int_eq(tally_step_free(step), TALLY_OK);
    job_close(&job);
}
END_TEST

START_TEST(every_member_of_the_plugin_table_is_set)
{
    const void *const *pointers = (const void *const *)&tallyPlugin_v1.name;
    size_t count = (sizeof(tallyPlugin_v1) - offsetof(tally_plugin_t, name)) /
                   sizeof(void *);

    ck_assert_uint_eq(tallyPlugin_v1.size, sizeof(tally_plugin_t));
    ck_assert_uint_eq(tallyPlugin_v1.abi, TALLY_ABI);
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(pointers[i] != NULL, "member %zu is NULL", i);
}
END_TEST

START_TEST(every_status_has_a_text_of_its_own)
{
    for (int a = TALLY_ERR_UNSUPPORTED; a <= TALLY_NOT_YET; a++) {
        const char *text = tally_status_string((tally_status_t)a);
        ck_assert_str_ne(text, "unknown status");
        for (int b = a + 1; b <= TALLY_NOT_YET; b++)
            ck_assert_str_ne(text, tally_status_string((tally_status_t)b));
    }
    ck_assert_str_eq(tally_status_string((tally_status_t)-999),
                     "unknown status");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("abi");
    TCase *tests = tcase_create("structs");

    tcase_add_test(tests,
                   a_smaller_struct_is_taken_and_its_tail_keeps_the_default);
    tcase_add_test(
        tests, a_larger_struct_of_a_caller_is_not_written_beyond_what_is_known);
    tcase_add_test(tests, a_newer_abi_is_refused_naming_both);
    tcase_add_test(tests, a_struct_that_was_not_initialised_is_refused);
    tcase_add_test(tests,
                   a_result_smaller_than_todays_is_filled_as_far_as_it_goes);
    tcase_add_test(tests, every_member_of_the_plugin_table_is_set);
    tcase_add_test(tests, every_status_has_a_text_of_its_own);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

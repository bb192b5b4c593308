// SPDX-License-Identifier: BSD-3-Clause
// Tests of core/config.h: every variable is checked, and misspelt names are
// found.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/error.h"

static const char *const *settings;

static const char *look_up(void *context, const char *name)
{
    (void)context;
    for (const char *const *at = settings; *at != NULL; at += 2)
        if (strcmp(at[0], name) == 0)
            return at[1];
    return NULL;
}

static tally_status_t load(const char *const *from, struct config **out)
{
    const struct identity_env env = {.get = look_up};

    settings = from;
    return config_load(&env, out);
}

static char logged[1024];

static void capture(void *context, tally_log_level_t level, const char *line)
{
    (void)context;
    (void)level;
    strncat(logged, line, sizeof(logged) - strlen(logged) - 1);
}

START_TEST(every_row_has_name_doc_and_a_preset_of_its_own_type)
{
    struct config *config;

    for (int key = 0; key < CONFIG_COUNT; key++) {
        const struct config_row *row = &config_table[key];
        ck_assert_ptr_nonnull(row->name);
        ck_assert_int_eq(strncmp(row->name, "TALLY_", 6), 0);
        ck_assert_uint_gt(strlen(row->doc), 20);
        ck_assert_ptr_nonnull(row->preset);
        ck_assert_int_eq(config_find(row->name), key);
    }
    ck_assert_int_eq(load((const char *const[]){NULL}, &config), TALLY_OK);
    config_free(config);
}
END_TEST

START_TEST(values_are_read_and_an_empty_one_is_as_good_as_none)
{
    const char *const some[] = {
        "TALLY_TIMEOUT", "0.25", "TALLY_NODE_SHM", "0", "TALLY_RADIX", "4",
        "TALLY_LOG",     "info", "TALLY_SPIN_US",  "",  NULL};
    struct config *config;

    ck_assert_int_eq(load(some, &config), TALLY_OK);
    ck_assert_int_eq(config_microseconds(config, CONFIG_TIMEOUT), 250000);
    ck_assert(!config_flag(config, CONFIG_NODE_SHM));
    ck_assert_int_eq(config_integer(config, CONFIG_RADIX), 4);
    ck_assert_int_eq(config_log_level(config), TALLY_LOG_INFO);
    ck_assert_int_eq(config_integer(config, CONFIG_SPIN_US), 100);
    ck_assert(!config->from_environment[CONFIG_SPIN_US]);
    ck_assert(config->from_environment[CONFIG_RADIX]);
    config_free(config);
}
END_TEST

static const struct {
    const char *name, *value, *sentence;
} wrong[] = {
    {"TALLY_NODE_SHM", "yes", "TALLY_NODE_SHM=yes: expected 0|1"},
    {"TALLY_TIMEOUT", "0",
     "TALLY_TIMEOUT=0: expected a number of seconds above 0"},
    {"TALLY_TIMEOUT", "5s",
     "TALLY_TIMEOUT=5s: expected a number of seconds above 0"},
    {"TALLY_TIMEOUT", "nan",
     "TALLY_TIMEOUT=nan: expected a number of seconds above 0"},
    {"TALLY_RADIX", "65",
     "TALLY_RADIX=65: expected 0 or an integer from 2 to 64"},
    {"TALLY_RADIX", "1",
     "TALLY_RADIX=1: expected 0 or an integer from 2 to 64"},
    {"TALLY_RADIX", "two",
     "TALLY_RADIX=two: expected 0 or an integer from 2 to 64"},
    {"TALLY_RADIX", "99999999999999999999",
     "TALLY_RADIX=99999999999999999999: expected 0 or an integer from 2 to "
     "64"},
    {"TALLY_SPIN_US", "-1",
     "TALLY_SPIN_US=-1: expected an integer from 0 to 1000000"},
    {"TALLY_LOG", "loud", "TALLY_LOG=loud: expected error|warn|info|debug"},
    {"TALLY_LOG", "inf", "TALLY_LOG=inf: expected error|warn|info|debug"},
};

START_TEST(a_wrong_value_is_refused_with_what_was_expected)
{
    const char *const one[] = {wrong[_i].name, wrong[_i].value, NULL};
    struct config *config;

    ck_assert_int_eq(load(one, &config), TALLY_ERR_CONFIG);
    ck_assert_str_eq(core_error_text(), wrong[_i].sentence);
    core_fail(TALLY_OK, "something before");
    ck_assert_int_eq(config_check(config_find(wrong[_i].name), wrong[_i].value),
                     TALLY_ERR_CONFIG);
    ck_assert_str_eq(core_error_text(), wrong[_i].sentence);
}
END_TEST

START_TEST(a_misspelt_variable_is_reported_with_the_nearest_name)
{
    const struct core_log log = {.level = TALLY_LOG_WARN, .write = capture};
    char first[] = "TALLY_TRANSPROT=ucx";
    char other[] = "PATH=/bin";
    char *environment[] = {other, first, NULL};
    struct config *config;

    ck_assert_int_eq(load((const char *const[]){NULL}, &config), TALLY_OK);
    ck_assert_int_eq(config_check_names(config, environment, &log), TALLY_OK);
    ck_assert_str_eq(logged, "TALLY_TRANSPROT is not a variable of Tally: did "
                             "you mean TALLY_TRANSPORT?");
    config_free(config);
}
END_TEST

START_TEST(a_name_unlike_any_gets_no_suggestion)
{
    const struct core_log log = {.level = TALLY_LOG_WARN, .write = capture};
    char strange[] = "TALLY_FROBNICATION_DEPTH=1";
    char *environment[] = {strange, NULL};
    struct config *config;

    ck_assert_int_eq(load((const char *const[]){NULL}, &config), TALLY_OK);
    ck_assert_int_eq(config_check_names(config, environment, &log), TALLY_OK);
    ck_assert_str_eq(logged,
                     "TALLY_FROBNICATION_DEPTH is not a variable of Tally");
    config_free(config);
}
END_TEST

START_TEST(a_misspelt_variable_is_an_error_where_the_environment_is_strict)
{
    const char *const strict[] = {"TALLY_STRICT_ENV", "1", NULL};
    char first[] = "TALLY_RADX=4";
    char *environment[] = {first, NULL};
    struct config *config;

    ck_assert_int_eq(load(strict, &config), TALLY_OK);
    ck_assert_int_eq(config_check_names(config, environment, NULL),
                     TALLY_ERR_CONFIG);
    ck_assert_str_eq(core_error_text(),
                     "TALLY_RADX is not a variable of Tally: "
                     "did you mean TALLY_RADIX?");
    config_free(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("table");

    tcase_add_test(tests, every_row_has_name_doc_and_a_preset_of_its_own_type);
    tcase_add_test(tests, values_are_read_and_an_empty_one_is_as_good_as_none);
    tcase_add_loop_test(tests, a_wrong_value_is_refused_with_what_was_expected,
                        0, sizeof(wrong) / sizeof(wrong[0]));
    tcase_add_test(tests,
                   a_misspelt_variable_is_reported_with_the_nearest_name);
    tcase_add_test(tests, a_name_unlike_any_gets_no_suggestion);
    tcase_add_test(
        tests, a_misspelt_variable_is_an_error_where_the_environment_is_strict);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

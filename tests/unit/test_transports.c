// SPDX-License-Identifier: BSD-3-Clause
// Tests of core/transports.h and core/settings.h: what an operator writes into
// TALLY_TRANSPORT is kept, and compared, whole.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/settings.h"
#include "core/transports.h"

static const char *list;

static const char *look_up(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "TALLY_TRANSPORT") == 0 ? list : NULL;
}

static struct config *config_with(const char *transports)
{
    const struct identity_env env = {.get = look_up};
    struct config *config;

    list = transports;
    ck_assert_int_eq(config_load(&env, &config), TALLY_OK);
    return config;
}

static void expect_order(const char *transports, const char *const *names)
{
    struct config *config = config_with(transports);
    struct transports *created;
    int count = 0;

    ck_assert_int_eq(transports_create(config, NULL, NULL, 0, 1, &created),
                     TALLY_OK);
    for (; names[count] != NULL; count++) {
        ck_assert_int_lt(count, created->count);
        ck_assert_str_eq(created->entries[count].name, names[count]);
    }
    ck_assert_int_eq(created->count, count);
    transports_free(created);
    config_free(config);
}

START_TEST(the_list_is_an_order_of_preference)
{
    expect_order("auto", (const char *const[]){"ucx", "ofi", "nccl", NULL});
    expect_order("ofi,auto", (const char *const[]){"ofi", "ucx", "nccl", NULL});
    expect_order("shm,ofi,ofi,", (const char *const[]){"ofi", NULL});
    expect_order("shm", (const char *const[]){NULL});
}
END_TEST

START_TEST(auto_adds_all_known_ones_to_as_many_as_can_be_named)
{
    expect_order("a,b,c,d,e,f,g,h,auto",
                 (const char *const[]){"a", "b", "c", "d", "e", "f", "g", "h",
                                       "ucx", "ofi", "nccl", NULL});
    expect_order("auto,a,b,c,d,e,f,g,h",
                 (const char *const[]){"ucx", "ofi", "nccl", "a", "b", "c", "d",
                                       "e", "f", "g", "h", NULL});
}
END_TEST

static void write_settings(const char *transports, char *text)
{
    struct config *config = config_with(transports);

    settings_write(config, text);
    config_free(config);
}

START_TEST(a_value_of_kilobytes_is_compared_to_its_last_byte)
{
    static char value[8192];
    char one[SETTINGS_BYTES];
    char other[SETTINGS_BYTES];

    memset(value, 'a', sizeof(value) - 1);
    write_settings(value, one);
    write_settings(value, other);
    ck_assert_str_eq(one, other);
    value[sizeof(value) - 2] = 'b';
    write_settings(value, other);
    ck_assert_str_ne(one, other);
    ck_assert_ptr_nonnull(strstr(other, "TALLY_TRANSPORT=aaa"));
    // What is said of it fits into a message, and nothing else is lost.
    ck_assert_ptr_nonnull(strstr(other, "... (8191 bytes, "));
    ck_assert_ptr_nonnull(strstr(other, "\nTALLY_RADIX=0\n"));
    write_settings("ucx,ofi", one);
    ck_assert_ptr_nonnull(strstr(one, "TALLY_TRANSPORT=ucx,ofi\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transports");
    TCase *tests = tcase_create("TALLY_TRANSPORT");

    tcase_add_test(tests, the_list_is_an_order_of_preference);
    tcase_add_test(tests, auto_adds_all_known_ones_to_as_many_as_can_be_named);
    tcase_add_test(tests, a_value_of_kilobytes_is_compared_to_its_last_byte);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

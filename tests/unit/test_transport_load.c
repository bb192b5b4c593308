// SPDX-License-Identifier: BSD-3-Clause
// Tests of transport/load.h and transport/check.h, with backends that are wrong
// in one way each (tests/harness/backends).
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "transport/load.h"

#define BACKENDS BUILD_FOLDER "/tests/harness/backends/.libs"
#define PROGRAM_FOLDER BUILD_FOLDER "/tests/unit"
#define SENTENCE_BYTES 1024

static tally_status_t record(void *context, tally_status_t status,
                             const char *sentence)
{
    (void)context;
    return core_fail(status, "%s", sentence);
}

static const tally_transport_host_t host = {
    .size = sizeof(host),
    .abi = TALLY_TRANSPORT_ABI,
    .fail = record,
};

static const struct refusal {
    const char *name;
    tally_status_t status;
    const char *sentence; // %s: the backend's path
} refusals[] = {
    {"newer", TALLY_ERR_ABI, "%s speaks transport ABI 2, this Tally speaks 1"},
    {"older", TALLY_ERR_ABI,
     "%s speaks transport ABI 0, this Tally speaks 1 and none before 1"},
    {"demanding", TALLY_ERR_ABI,
     "%s refused: it needs transport ABI 2, this Tally speaks 1"},
    {"refusing", TALLY_ERR_TRANSPORT,
     "%s refused: built against Foo 3.1, the library loaded is 2.9"},
    {"silent", TALLY_ERR_TRANSPORT,
     "%s refused: it gave no reason (transport failed)"},
    {"strange", TALLY_ERR_TRANSPORT,
     "%s is no transport: it has no symbol tallyTransport_query"},
    {"empty", TALLY_ERR_TRANSPORT, "%s gave no table of operations"},
    {"short", TALLY_ERR_TRANSPORT,
     "%s has a table of 104 bytes, too short for message_max"},
    {"hole", TALLY_ERR_TRANSPORT, "%s leaves out the operation tsend"},
    {"misnamed", TALLY_ERR_TRANSPORT,
     "%s calls itself \"good\", not \"misnamed\""},
    {"unkind", TALLY_ERR_TRANSPORT,
     "%s is of kind 7, which this Tally does not know"},
    {"unresolved", TALLY_ERR_TRANSPORT,
     "transport unresolved cannot be loaded: %s: undefined symbol: "
     "no_library_has_this"},
};

#define REFUSALS ((int)(sizeof(refusals) / sizeof(refusals[0])))

START_TEST(a_backend_that_does_not_fit_is_refused_with_the_reason)
{
    const struct refusal *refusal = &refusals[_i];
    struct transport_backend *backend = NULL;
    char path[SENTENCE_BYTES];
    char expected[2 * SENTENCE_BYTES];

    snprintf(path, sizeof(path), "%s/libtally-%s.so", BACKENDS, refusal->name);
    const char *at = strstr(refusal->sentence, "%s");
    snprintf(expected, sizeof(expected), "%.*s%s%s",
             (int)(at - refusal->sentence), refusal->sentence, path, at + 2);
    // An old sentence is not taken for the reason.
    core_fail(TALLY_ERR_INVALID, "something before");
    ck_assert_int_eq(transport_load(refusal->name, BACKENDS, &host, &backend),
                     refusal->status);
    ck_assert_str_eq(core_error_text(), expected);
    ck_assert_ptr_null(backend);
}
END_TEST

START_TEST(a_backend_that_fits_is_loaded_and_says_what_it_is)
{
    static const char *const names[] = {"good", "minimal"};
    struct transport_backend *backend;
    char path[SENTENCE_BYTES];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/libtally-%s.so", BACKENDS, names[i]);
        ck_assert_int_eq(transport_load(names[i], BACKENDS, &host, &backend),
                         TALLY_OK);
        ck_assert_str_eq(backend->ops->name, names[i]);
        ck_assert_str_eq(backend->version, "of the tests");
        ck_assert_str_eq(backend->path, path);
        transport_unload(backend);
    }
    transport_unload(NULL);
}
END_TEST

START_TEST(a_backend_that_is_missing_is_refused_with_the_folders_looked_in)
{
    struct transport_backend *backend = NULL;

    ck_assert_int_eq(transport_load("foo", "/a::/b:", &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_str_eq(core_error_text(), "libtally-foo.so was not found in /a, "
                                        "/b, " PROGRAM_FOLDER);
    ck_assert_int_eq(transport_load("foo", NULL, &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_str_eq(core_error_text(),
                     "libtally-foo.so was not found in " PROGRAM_FOLDER);
    ck_assert_int_eq(transport_load("/a/foo.so", BACKENDS, &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_str_eq(core_error_text(),
                     "transport /a/foo.so cannot be loaded: /a/foo.so: cannot "
                     "open shared object file: No such file or directory");
    ck_assert_ptr_null(backend);
}
END_TEST

START_TEST(a_path_is_taken_as_it_is_whatever_its_name)
{
    struct transport_backend *backend;

    ck_assert_int_eq(
        transport_load(BACKENDS "/libtally-misnamed.so", "", &host, &backend),
        TALLY_OK);
    ck_assert_str_eq(backend->ops->name, "good");
    transport_unload(backend);
}
END_TEST

// A folder with a link to one of the backends under another's name.
static void make_folder(char *folder, const char *link_name)
{
    char link_path[SENTENCE_BYTES];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(link_path, sizeof(link_path), "%s/%s", folder, link_name);
    ck_assert_int_eq(symlink(BACKENDS "/libtally-newer.so", link_path), 0);
}

static void remove_folder(const char *folder, const char *link_name)
{
    char link_path[SENTENCE_BYTES];

    snprintf(link_path, sizeof(link_path), "%s/%s", folder, link_name);
    unlink(link_path);
    rmdir(folder);
}

START_TEST(the_first_folder_that_has_the_file_decides)
{
    char folder[] = "/tmp/tally_load_XXXXXX";
    char order[SENTENCE_BYTES];
    struct transport_backend *backend;

    make_folder(folder, "libtally-good.so");
    snprintf(order, sizeof(order), "%s:" BACKENDS, folder);
    ck_assert_int_eq(transport_load("good", order, &host, &backend),
                     TALLY_ERR_ABI);
    snprintf(order, sizeof(order), BACKENDS ":%s", folder);
    ck_assert_int_eq(transport_load("good", order, &host, &backend), TALLY_OK);
    transport_unload(backend);
    remove_folder(folder, "libtally-good.so");
}
END_TEST

START_TEST(names_beyond_the_room_are_refused)
{
    struct transport_backend *backend;
    char name[8000];

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(transport_load(name, "", &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_str_eq(core_error_text(),
                     "the name of a transport is longer than a file's");
    name[0] = '/';
    ck_assert_int_eq(transport_load(name, "", &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_str_eq(core_error_text(),
                     "the path of a transport is longer than 4095 bytes");
    // A folder too long to be searched is passed over, and named as far as
    // there is room.
    ck_assert_int_eq(transport_load("foo", name, &host, &backend),
                     TALLY_ERR_TRANSPORT);
    ck_assert_ptr_nonnull(strstr(core_error_text(), "was not found in /xxx"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport load");
    TCase *tests = tcase_create("backends");

    tcase_add_loop_test(tests,
                        a_backend_that_does_not_fit_is_refused_with_the_reason,
                        0, REFUSALS);
    tcase_add_test(tests, a_backend_that_fits_is_loaded_and_says_what_it_is);
    tcase_add_test(
        tests, a_backend_that_is_missing_is_refused_with_the_folders_looked_in);
    tcase_add_test(tests, a_path_is_taken_as_it_is_whatever_its_name);
    tcase_add_test(tests, the_first_folder_that_has_the_file_decides);
    tcase_add_test(tests, names_beyond_the_room_are_refused);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

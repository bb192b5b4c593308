// SPDX-License-Identifier: BSD-3-Clause
// Membership that is set up wrongly, or answered wrongly: each with its
// sentence, within the time that was given.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "quorum/double.h"
#include "quorum/provider.h"
#include "quorum/scene.h"

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define LENGTH(text) (sizeof(text) - 1)

static void expect(tally_status_t status, const char *sentence)
{
    struct quorum *quorum = NULL;

    ck_assert_int_eq(scene_try("job", 1, &quorum), status);
    ck_assert_ptr_null(quorum);
    ck_assert_str_eq(core_error_text(), sentence);
}

static const struct {
    const char *list;
    const char *sentence;
} lists[] = {
    {"", "TALLY_QUORUM_LIST is not set: TALLY_QUORUM=static needs host:port of "
         "each replica group and witness, separated by commas"},
    {"a:1,b:2", "TALLY_QUORUM_LIST names 2 processes, and there are 3 replica "
                "groups and witnesses"},
    {"a:1,b:2,c:3,d:4", "TALLY_QUORUM_LIST names 4 processes, and there are 3 "
                        "replica groups and witnesses"},
    {"a:1,b:2,a:1", "TALLY_QUORUM_LIST: entries 0 and 2 are both a:1"},
    {"a:1,,c:3", "TALLY_QUORUM_LIST: entry 1, \"\": host:port is expected, an "
                 "IPv6 address in brackets"},
    {"a:1,b:2,", "TALLY_QUORUM_LIST: entry 2, \"\": host:port is expected, an "
                 "IPv6 address in brackets"},
    {"a", "TALLY_QUORUM_LIST: entry 0, \"a\": host:port is expected, an IPv6 "
          "address in brackets"},
    {"a:0,b:2,c:3", "TALLY_QUORUM_LIST: entry 0, \"a:0\": host:port is "
                    "expected, an IPv6 address in brackets"},
    {"a:65536,b:2,c:3", "TALLY_QUORUM_LIST: entry 0, \"a:65536\": host:port is "
                        "expected, an IPv6 address in brackets"},
    {"a:1,b: 2,c:3", "TALLY_QUORUM_LIST: entry 1, \"b: 2\": host:port is "
                     "expected, an IPv6 address in brackets"},
    {"a:1,:2,c:3", "TALLY_QUORUM_LIST: entry 1, \":2\": host:port is expected, "
                   "an IPv6 address in brackets"},
    {"::1:1,b:2,c:3", "TALLY_QUORUM_LIST: entry 0, \"::1:1\": host:port is "
                      "expected, an IPv6 address in brackets"},
    {"[]:1,b:2,c:3", "TALLY_QUORUM_LIST: entry 0, \"[]:1\": host:port is "
                     "expected, an IPv6 address in brackets"},
};

START_TEST(a_list_that_is_wrong_is_refused)
{
    ck_assert(scene_open(SCENE_STATIC));
    scene_set("TALLY_QUORUM_LIST", lists[_i].list);
    expect(TALLY_ERR_CONFIG, lists[_i].sentence);
    scene_close();
}
END_TEST

START_TEST(a_port_that_is_taken_is_named)
{
    struct quorum *first = NULL;
    struct quorum *second = NULL;

    ck_assert(scene_open(SCENE_STATIC));
    ck_assert_int_eq(scene_try("job", 1, &first), TALLY_OK);
    ck_assert_int_eq(scene_try("job", 1, &second), TALLY_ERR_SYSTEM);
    ck_assert_ptr_nonnull(
        strstr(core_error_text(), "TALLY_QUORUM_LIST: entry 1 is localhost:"));
    ck_assert_ptr_nonnull(
        strstr(core_error_text(), "where this process cannot listen: "));
    quorum_close(first);
    scene_close();
}
END_TEST

START_TEST(a_folder_is_needed)
{
    ck_assert(scene_open(SCENE_FOLDER));
    scene_set("TALLY_REPLICA_FOLDER", "");
    expect(TALLY_ERR_CONFIG,
           "TALLY_REPLICA_FOLDER is not set: replica groups do not find each "
           "other");
    scene_close();
}
END_TEST

// ----------------------------------------------------------------------- etcd

static const struct {
    const char *endpoints;
    const char *sentence;
} endpoints[] = {
    {",", "TALLY_ETCD_ENDPOINTS: \"\": up to 16 URLs are expected, "
          "http://host:port or https://host:port"},
    {"host:2379", "TALLY_ETCD_ENDPOINTS: \"host:2379\": up to 16 URLs are "
                  "expected, http://host:port or https://host:port"},
    {"http://", "TALLY_ETCD_ENDPOINTS: \"http://\": up to 16 URLs are "
                "expected, http://host:port or https://host:port"},
    {"http://a:1,ftp://b", "TALLY_ETCD_ENDPOINTS: \"ftp://b\": up to 16 URLs "
                           "are expected, http://host:port or "
                           "https://host:port"},
};

static bool etcd_is_built(void)
{
    return access(BUILD_FOLDER "/.libs/libtally-etcd.so", F_OK) == 0;
}

// With settings of etcd, and no server.
static void open_for_etcd(void)
{
    ck_assert(scene_open(SCENE_ETCD) || !etcd_is_built() ||
              access("/usr/bin/etcd", X_OK) != 0);
    etcd_server_kill();
    scene_set("TALLY_PLUGIN_PATH", BUILD_FOLDER "/.libs");
}

START_TEST(endpoints_that_are_wrong_are_refused)
{
    open_for_etcd();
    if (etcd_is_built()) {
        scene_set("TALLY_ETCD_ENDPOINTS", endpoints[_i].endpoints);
        expect(TALLY_ERR_CONFIG, endpoints[_i].sentence);
    }
    scene_close();
}
END_TEST

START_TEST(etcd_needs_the_name_of_the_job)
{
    struct quorum *quorum = NULL;

    open_for_etcd();
    if (etcd_is_built()) {
        ck_assert_int_eq(scene_try("", 1, &quorum), TALLY_ERR_CONFIG);
        ck_assert_str_eq(core_error_text(),
                         "TALLY_JOB is not set: TALLY_QUORUM=etcd needs a name "
                         "by which all replica groups are of one job");
    }
    scene_close();
}
END_TEST

static const char rubbish[] = "\x16\x03\x01 rubbish \xff\xfe\r\n\r\n";
static const char page[] = HEAD "Content-Length: 14\r\n\r\n<html></html>\n";
static const char empty[] = HEAD "Content-Length: 2\r\n\r\n{}";
static const char half[] = HEAD "Content-Length: 500\r\n\r\n{\"header\":{";
static const char list[] = HEAD "Content-Length: 2\r\n\r\n[]";
static const char negative[] =
    HEAD "Content-Length: 28\r\n\r\n{\"header\":{\"revision\":\"-5\"}}";
static const char word[] =
    HEAD "Content-Length: 31\r\n\r\n{\"header\":{\"revision\":\"seven\"}}";
static const char error[] =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\n\r\n"
    "{\"message\":\"no leader\"}  ";
static const char not_found[] =
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

static const struct {
    struct double_answer answer;
    const char *why; // behind the address
} answers[] = {
    {{rubbish, LENGTH(rubbish), 0}, NULL},
    {{page, LENGTH(page), 0},
     "what it answers is not a JSON object: is it etcd?"},
    {{list, LENGTH(list), 0},
     "what it answers is not a JSON object: is it etcd?"},
    {{empty, LENGTH(empty), 0}, ""},
    {{negative, LENGTH(negative), 0}, ""},
    {{word, LENGTH(word), 0}, ""},
    {{half, LENGTH(half), 0}, NULL},
    {{error, LENGTH(error), 0}, "HTTP 503: no leader"},
    {{not_found, LENGTH(not_found), 0}, "HTTP 404"},
    {{"", 0, 0}, NULL},
    {{NULL, 0, 0}, "Timeout was reached"},
    {{empty, LENGTH(empty), 200}, "Timeout was reached"},
};

// What a server that is not etcd answers leads to no incarnation, and to a
// sentence within the time.
START_TEST(a_wrong_answer_is_told_in_time)
{
    struct quorum *quorum = NULL;
    char url[64], want[512];
    uint64_t incarnation = 0;

    open_for_etcd();
    if (etcd_is_built()) {
        snprintf(url, sizeof(url), "http://127.0.0.1:%u",
                 (unsigned)double_start(&answers[_i].answer));
        scene_set("TALLY_ETCD_ENDPOINTS", url);
        ck_assert_int_eq(scene_try("job", 1, &quorum), TALLY_OK);
        int64_t before_us = clock_now_us();
        ck_assert_int_eq(quorum_incarnation(quorum, 1500000, &incarnation),
                         TALLY_ERR_TIMEOUT);
        ck_assert_int_lt(clock_now_us() - before_us, 30000000);
        ck_assert_uint_eq(incarnation, 0);
        const char *why = answers[_i].why;
        snprintf(want, sizeof(want),
                 "TALLY_QUORUM=etcd gave no incarnation within 1.5 s: %s%s%s%s",
                 why != NULL && why[0] == '\0' ? "etcd answers what is not "
                                                 "understood: is it etcd v3?"
                                               : "etcd at ",
                 why != NULL && why[0] == '\0' ? "" : url,
                 why != NULL && why[0] == '\0' ? "" : ": ",
                 why != NULL ? why : "");
        if (why != NULL)
            ck_assert_str_eq(core_error_text(), want);
        else // libcurl's word for it
            ck_assert_int_eq(strncmp(core_error_text(), want, strlen(want)), 0);
        quorum_close(quorum);
        double_stop();
    }
    scene_close();
}
END_TEST

START_TEST(the_next_endpoint_is_asked_where_one_does_not_answer)
{
    static const char put[] =
        HEAD "Content-Length: 28\r\n\r\n{\"header\":{\"revision\":\"42\"}}";
    const struct double_answer answer = {put, LENGTH(put), 0};
    struct quorum *quorum = NULL;
    char urls[160];
    uint64_t incarnation;

    open_for_etcd();
    if (etcd_is_built()) {
        snprintf(urls, sizeof(urls), "http://127.0.0.1:%u,http://127.0.0.1:%u/",
                 (unsigned)scene_free_port(), (unsigned)double_start(&answer));
        scene_set("TALLY_ETCD_ENDPOINTS", urls);
        ck_assert_int_eq(scene_try("job", 1, &quorum), TALLY_OK);
        ck_assert_msg(quorum_incarnation(quorum, 20000000, &incarnation) ==
                          TALLY_OK,
                      "%s", core_error_text());
        ck_assert_uint_eq(incarnation, 42);
        quorum_close(quorum);
        double_stop();
    }
    scene_close();
}
END_TEST

// ---------------------------------------------------------------- its library

START_TEST(a_missing_library_of_the_provider_is_named)
{
    char command[600], folder[] = "/tmp/tally-quorum.XXXXXX";

    open_for_etcd();
    ck_assert_ptr_nonnull(mkdtemp(folder));
    scene_set("TALLY_PLUGIN_PATH", folder);
    struct quorum *quorum = NULL;
    if (etcd_is_built()) {
        // One that needs a libcurl that is nowhere.
        snprintf(command, sizeof(command),
                 "sed s/libcurl[.]so[.]4/libcurl.so.0/g %s/.libs/"
                 "libtally-etcd.so >%s/libtally-etcd.so",
                 BUILD_FOLDER, folder);
        ck_assert_int_eq(system(command), 0);
        ck_assert_int_eq(scene_try("job", 1, &quorum), TALLY_ERR_UNSUPPORTED);
        ck_assert_str_eq(core_error_text(),
                         "TALLY_QUORUM=etcd: it cannot be loaded: "
                         "libcurl.so.0: cannot open shared object file: No "
                         "such file or directory");
        snprintf(command, sizeof(command), "rm %s/libtally-etcd.so", folder);
        ck_assert_int_eq(system(command), 0);
    }
    ck_assert_int_eq(scene_try("job", 1, &quorum), TALLY_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(core_error_text(),
                                 "TALLY_QUORUM=etcd: libtally-etcd.so was not "
                                 "found in "));
    ck_assert_int_eq(rmdir(folder), 0);
    scene_close();
}
END_TEST

START_TEST(a_name_that_is_wrong_is_told_with_the_nearest)
{
    const struct quorum_provider_ops *ops;
    void *library;

    ck_assert_int_eq(quorum_load("ectd", "", &ops, &library), TALLY_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(core_error_text(),
                                 "TALLY_QUORUM=ectd: libtally-ectd.so was not "
                                 "found in "));
    ck_assert_ptr_nonnull(strstr(core_error_text(), "; did you mean etcd?"));
    ck_assert_int_eq(quorum_load("/dev/null", "", &ops, &library),
                     TALLY_ERR_UNSUPPORTED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quorum, wrong");
    TCase *tests = tcase_create("wrong");

    tcase_set_timeout(tests, 180);
    tcase_add_loop_test(tests, a_list_that_is_wrong_is_refused, 0,
                        sizeof(lists) / sizeof(lists[0]));
    tcase_add_test(tests, a_port_that_is_taken_is_named);
    tcase_add_test(tests, a_folder_is_needed);
    tcase_add_loop_test(tests, endpoints_that_are_wrong_are_refused, 0,
                        sizeof(endpoints) / sizeof(endpoints[0]));
    tcase_add_test(tests, etcd_needs_the_name_of_the_job);
    tcase_add_loop_test(tests, a_wrong_answer_is_told_in_time, 0,
                        sizeof(answers) / sizeof(answers[0]));
    tcase_add_test(tests, the_next_endpoint_is_asked_where_one_does_not_answer);
    tcase_add_test(tests, a_missing_library_of_the_provider_is_named);
    tcase_add_test(tests, a_name_that_is_wrong_is_told_with_the_nearest);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

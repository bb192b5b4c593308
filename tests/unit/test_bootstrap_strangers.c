// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous and those who do not belong to it: nonsense, silence, other
// jobs, other secrets.
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bootstrap/link/socket.h"
#include "harness/scene.h"

// Opens three connections to the root that say nothing, nonsense, and another
// protocol.
static void annoy(struct rendezvous *rendezvous, int32_t index)
{
    static const char *const words[] = {"", "GET / HTTP/1.0\r\n\r\n",
                                        "Ty\x01\x63\x04\x00\x00\x00____"};
    static const size_t lengths[] = {0, 18, 12};

    if (index != 1)
        return;
    for (int i = 0; i < 3; i++) {
        struct socket_place place[1];
        const char *why;

        socket_resolve("127.0.0.1", rendezvous->identity.ports[0], place, 1,
                       &why);
        int fd = socket_connect(&place[0]);
        usleep(20000); // the root may not be there at all: as well
        if (fd >= 0 && lengths[i] > 0)
            (void)!send(fd, words[i], lengths[i], MSG_NOSIGNAL);
        if (i == 1)
            close(fd);
        // The others stay, until the test process ends.
    }
}

START_TEST(strangers_do_not_disturb)
{
    scene_run(3,
              (struct scene){.change = annoy, .body = scene_gather_over_all});
}
END_TEST

#define CROWD 100

// Rank 1, when so many connections that say nothing are open.
static int crowd_then_rank(uint16_t port)
{
    struct rendezvous rendezvous;
    struct socket_place place[1];
    struct socket_place peer;
    const char *why;

    socket_resolve("127.0.0.1", port, place, 1, &why);
    for (int open = 0; open < CROWD;) {
        int fd = socket_connect(&place[0]);

        usleep(1000); // the root may not be there yet
        if (fd >= 0 && socket_peer(fd, &peer))
            open++;
        else if (fd >= 0)
            close(fd);
    }
    rendezvous_prepare(&rendezvous, 1, 2, port);
    rendezvous_open(&rendezvous);
    rendezvous_close(&rendezvous);
    return rendezvous.status == TALLY_OK ? 0 : 1;
}

START_TEST(silent_guests_do_not_take_all_descriptors)
{
    struct rendezvous rendezvous;
    struct rlimit few = {CROWD / 2, CROWD / 2};
    int status;
    int fd;
    uint16_t port = rendezvous_port(&fd);
    pid_t child = fork();

    if (child == 0)
        _exit(crowd_then_rank(port));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    rendezvous_prepare(&rendezvous, 0, 2, port);
    rendezvous_open(&rendezvous);
    ck_assert_str_eq(rendezvous.sentence, "");
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    rendezvous_close(&rendezvous);
    close(fd);
}
END_TEST

static void change_job(struct rendezvous *rendezvous, int32_t index)
{
    rendezvous->params.timeout_us = 500000;
    if (index == 2)
        strcpy(rendezvous->identity.job, "other");
}

static void stranger_rank(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;

    rendezvous_prepare(&rendezvous, member->rank, member->size, scene->port);
    scene->change(&rendezvous, member->rank);
    rendezvous_open(&rendezvous);
    if (member->rank == 2) {
        ck_assert_int_eq(rendezvous.status, TALLY_ERR_MISMATCH);
        ck_assert_ptr_nonnull(strstr(rendezvous.sentence, scene->sentence));
    } else {
        ck_assert_int_eq(rendezvous.status, TALLY_ERR_TIMEOUT);
        ck_assert_str_eq(rendezvous.sentence,
                         "rank 2 did not come within 0.5 s");
    }
    rendezvous_close(&rendezvous);
}

static void run_stranger(struct scene scene)
{
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(3, stranger_rank, &scene);
    close(fd);
}

START_TEST(a_rank_of_another_job_is_turned_away_alone)
{
    run_stranger((struct scene){
        .change = change_job,
        .sentence = "is of job \"other\", here is job \"test\""});
}
END_TEST

#ifdef HAVE_CRYPTO
static void same_secret(struct rendezvous *rendezvous, int32_t index)
{
    (void)index;
    rendezvous->params.secret = "sesame";
    rendezvous->params.secret_bytes = 6;
}

static void change_secret(struct rendezvous *rendezvous, int32_t index)
{
    same_secret(rendezvous, index);
    rendezvous->params.timeout_us = 500000;
    if (index == 2)
        rendezvous->params.secret = "sesamE";
}

static void without_secret(struct rendezvous *rendezvous, int32_t index)
{
    change_secret(rendezvous, index);
    if (index == 2)
        rendezvous->params.secret = NULL;
}

START_TEST(ranks_that_know_the_secret_come_up)
{
    scene_run(35, (struct scene){.change = same_secret,
                                 .body = scene_gather_over_all});
}
END_TEST

START_TEST(a_rank_with_another_secret_is_turned_away_alone)
{
    run_stranger((struct scene){.change = change_secret,
                                .sentence = "is not that of rank 0"});
}
END_TEST

START_TEST(a_rank_without_the_secret_is_turned_away_alone)
{
    run_stranger(
        (struct scene){.change = without_secret,
                       .sentence = "TALLY_SECRET is not set at rank 2"});
}
END_TEST
#endif

// Two jobs whose candidates begin with the same port.
static void two_jobs(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;
    int32_t job = member->rank / 2;

    rendezvous_prepare(&rendezvous, member->rank % 2, 2, scene->port);
    rendezvous.identity.ports[1] = scene[1].port;
    rendezvous.identity.port_count = 2;
    snprintf(rendezvous.identity.job, sizeof(rendezvous.identity.job), "%d",
             (int)job);
    rendezvous_open(&rendezvous);
    ck_assert_str_eq(rendezvous.sentence, "");
    ranks_barrier(member);
    rendezvous_close(&rendezvous);
}

START_TEST(jobs_with_the_same_candidate_ports_come_up_side_by_side)
{
    struct scene scenes[2] = {0};
    int fd[2];

    scenes[0].port = rendezvous_port(&fd[0]);
    scenes[1].port = rendezvous_port(&fd[1]);
    ranks_run(4, two_jobs, scenes);
    close(fd[0]);
    close(fd[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap strangers");
    TCase *tcase = tcase_create("strangers");

    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, strangers_do_not_disturb);
    tcase_add_test(tcase, silent_guests_do_not_take_all_descriptors);
    tcase_add_test(tcase, a_rank_of_another_job_is_turned_away_alone);
#ifdef HAVE_CRYPTO
    tcase_add_test(tcase, ranks_that_know_the_secret_come_up);
    tcase_add_test(tcase, a_rank_with_another_secret_is_turned_away_alone);
    tcase_add_test(tcase, a_rank_without_the_secret_is_turned_away_alone);
#endif
    tcase_add_test(tcase,
                   jobs_with_the_same_candidate_ports_come_up_side_by_side);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

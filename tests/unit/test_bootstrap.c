// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous among threads over the loopback: who comes up, who is turned
// away, and what all are told.
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
#include "harness/ranks.h"
#include "harness/rendezvous.h"

// What the ranks of one test share.
struct scene {
    uint16_t port;
    int32_t size; // 0: as many as run
    // Changes what a rank says; NULL: nothing.
    void (*change)(struct rendezvous *rendezvous, int32_t index);
    // Of every rank alike, or NULL: it comes up.
    const char *sentence;
    tally_status_t status;
    // What it does once it is up.
    void (*body)(struct rendezvous *rendezvous, struct ranks_member *member);
};

static void run_rank(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;

    rendezvous_prepare(&rendezvous, member->rank,
                       scene->size > 0 ? scene->size : member->size,
                       scene->port);
    if (scene->change != NULL)
        scene->change(&rendezvous, member->rank);
    rendezvous_open(&rendezvous);
    if (scene->sentence != NULL) {
        ck_assert_str_eq(rendezvous.sentence, scene->sentence);
        ck_assert_int_eq(rendezvous.status, scene->status);
    } else {
        ck_assert_str_eq(rendezvous.sentence, "");
    }
    if (rendezvous.exchange != NULL && scene->body != NULL)
        scene->body(&rendezvous, member);
    rendezvous_close(&rendezvous);
}

static void run(int32_t size, struct scene scene)
{
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(size, run_rank, &scene);
    close(fd);
}

static void gather_over_all(struct rendezvous *rendezvous,
                            struct ranks_member *member)
{
    int32_t *ranks = calloc((size_t)member->size, sizeof(*ranks));
    struct exchange_group group = {ranks, member->size, member->rank, "all", 0};

    for (int32_t i = 0; i < member->size; i++)
        ranks[i] = i;
    for (int32_t i = 0; i < 5; i++)
        ck_assert_int_eq(rendezvous_gather(rendezvous, &group, i), TALLY_OK);
    ck_assert_uint_eq(group.sequence, 5);
    ranks_barrier(member); // or a part may leave while others read
    free(ranks);
}

START_TEST(any_number_of_ranks_comes_up_and_exchanges)
{
    static const int32_t sizes[] = {2, 3, 32, 33, 34, 70};

    run(sizes[_i], (struct scene){.body = gather_over_all});
}
END_TEST

// So many threads take their time under a sanitizer.
static void be_patient(struct rendezvous *rendezvous, int32_t index)
{
    (void)index;
    rendezvous->params.timeout_us = 200000000;
}

START_TEST(a_tree_of_three_levels_comes_up)
{
    run(1100, (struct scene){.change = be_patient, .body = gather_over_all});
}
END_TEST

static void gather_in_subsets(struct rendezvous *rendezvous,
                              struct ranks_member *member)
{
    int32_t ranks[64];
    struct exchange_group group = {.ranks = ranks, .key = "subset"};

    // Ranks of equal remainder; each group has its own pace.
    int32_t step = 3;
    for (int32_t i = member->rank % step; i < member->size; i += step) {
        if (i == member->rank)
            group.index = group.count;
        ranks[group.count++] = i;
    }
    for (int32_t i = 0; i < 20; i++)
        ck_assert_int_eq(rendezvous_gather(rendezvous, &group, i), TALLY_OK);
    ranks_barrier(member);
}

START_TEST(subsets_exchange_side_by_side)
{
    run(40, (struct scene){.body = gather_in_subsets});
}
END_TEST

static void gather_much(struct rendezvous *rendezvous,
                        struct ranks_member *member)
{
    int32_t ranks[40];
    size_t bytes = 100000;
    uint8_t *mine = malloc(bytes);
    uint8_t *all = malloc(bytes * 40);
    struct exchange_group group = {ranks, member->size, member->rank, "", 0};

    for (int32_t i = 0; i < member->size; i++)
        ranks[i] = i;
    memset(mine, member->rank + 1, bytes);
    ck_assert_int_eq(
        exchange_allgather(rendezvous->exchange, &group, mine, all, bytes),
        TALLY_OK);
    for (size_t i = 0; i < bytes * (size_t)member->size; i++)
        if (all[i] != i / bytes + 1)
            ck_abort_msg("byte %zu is %u", i, all[i]);
    ranks_barrier(member);
    free(mine);
    free(all);
}

START_TEST(large_parts_pass)
{
    run(36, (struct scene){.body = gather_much});
}
END_TEST

// ------------------------------------------------------------- disagreements

static void change_world_size(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 2)
        rendezvous->identity.world_size = 5;
}

static void change_abi(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.abi = 2;
}

static void change_setting(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.settings = "TALLY_RADIX=0\nTALLY_TIMEOUT=5\n";
}

static void change_settings(struct rendezvous *rendezvous, int32_t index)
{
    if (index == 1)
        rendezvous->params.settings = "TALLY_RADIX=0\n";
}

static void change_patience(struct rendezvous *rendezvous, int32_t index)
{
    // The least patient rank is not the root.
    rendezvous->params.timeout_us = index == 1 ? 300000 : 600000;
}

START_TEST(ranks_that_disagree_are_named_to_all)
{
    static const struct scene scenes[] = {
        {.change = change_world_size,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "the world size is 5 at rank 2 and 3 at rank 0"},
        {.change = change_abi,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "tally is 0.1.0 (ABI 2) at rank 1 and 0.1.0 (ABI 1) at "
                     "rank 0"},
        {.change = change_setting,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "TALLY_TIMEOUT is 5 at rank 1 and 60 at rank 0"},
        {.change = change_settings,
         .status = TALLY_ERR_MISMATCH,
         .sentence = "ranks 1 and 0 know different settings"},
    };

    run(3, scenes[_i]);
}
END_TEST

static void twice_rank(struct ranks_member *member)
{
    struct rendezvous rendezvous;
    const struct scene *scene = member->argument;

    rendezvous_prepare(&rendezvous, member->rank == 3 ? 2 : member->rank,
                       member->size, scene->port);
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_MISMATCH);
    // The ports of the two are any.
    ck_assert_ptr_eq(
        strstr(rendezvous.sentence, "rank 2 came twice, from 127.0.0.1:"),
        rendezvous.sentence);
    rendezvous_close(&rendezvous);
}

START_TEST(a_rank_that_comes_twice_is_named_to_all)
{
    struct scene scene = {0};
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(4, twice_rank, &scene);
    close(fd);
}
END_TEST

static void second_root(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;

    // Whoever is first has the port; the other cannot listen.
    rendezvous_prepare(&rendezvous, member->rank == 2 ? 0 : member->rank, 3,
                       scene->port);
    rendezvous.params.timeout_us = 500000;
    rendezvous_open(&rendezvous);
    ck_assert(rendezvous.status == TALLY_ERR_BOOTSTRAP ||
              rendezvous.status == TALLY_ERR_TIMEOUT);
    if (rendezvous.status == TALLY_ERR_BOOTSTRAP)
        ck_assert_str_eq(rendezvous.sentence,
                         "rank 0 cannot listen at the port of 127.0.0.1: "
                         "Address already in use");
    else
        ck_assert_str_eq(rendezvous.sentence,
                         "rank 2 did not come within 0.5 s");
    rendezvous_close(&rendezvous);
}

START_TEST(two_roots_do_not_both_come_up)
{
    struct scene scene = {0};
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(3, second_root, &scene);
    close(fd);
}
END_TEST

START_TEST(the_least_patient_rank_learns_who_did_not_come)
{
    run(2, (struct scene){.size = 4,
                          .change = change_patience,
                          .status = TALLY_ERR_TIMEOUT,
                          .sentence = "ranks 2, 3 did not come within 0.3 s"});
}
END_TEST

// Milliseconds that 32 bits would take for 200.
static void change_to_seven_weeks(struct rendezvous *rendezvous, int32_t index)
{
    rendezvous->params.timeout_us = ((int64_t)UINT32_MAX + 201) * 1000;
    if (index == 2)
        usleep(600000);
}

START_TEST(a_timeout_of_weeks_is_not_taken_for_a_short_one)
{
    run(3, (struct scene){.change = change_to_seven_weeks,
                          .body = gather_over_all});
}
END_TEST

START_TEST(a_root_that_is_not_there_is_named_with_its_place)
{
    struct rendezvous rendezvous;
    char sentence[128];
    int fd;
    uint16_t port = rendezvous_port(&fd);

    rendezvous_prepare(&rendezvous, 1, 2, port);
    rendezvous.params.timeout_us = 200000;
    rendezvous_open(&rendezvous);
    snprintf(sentence, sizeof(sentence),
             "rank 0 was not found at 127.0.0.1:%u within 0.2 s: Connection "
             "refused",
             port);
    ck_assert_str_eq(rendezvous.sentence, sentence);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_TIMEOUT);
    rendezvous_close(&rendezvous);
    close(fd);
}
END_TEST

START_TEST(the_numbers_of_random_stay_the_host_programs)
{
    struct rendezvous rendezvous;
    int fd;
    uint16_t port = rendezvous_port(&fd);

    srandom(1);
    long expected = random();
    srandom(1);
    rendezvous_prepare(&rendezvous, 1, 2, port);
    rendezvous.params.timeout_us = 100000; // some attempts, and pauses
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(random(), expected);
    rendezvous_close(&rendezvous);
    close(fd);
}
END_TEST

START_TEST(a_host_without_an_address_is_named)
{
    struct rendezvous rendezvous;

    rendezvous_prepare(&rendezvous, 1, 2, 9);
    strcpy(rendezvous.identity.host, "no such host");
    rendezvous.params.timeout_us = 100000;
    rendezvous_open(&rendezvous);
    ck_assert_int_eq(rendezvous.status, TALLY_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(
        rendezvous.sentence, "rank 0 was not found at no such host:9 within "));
    rendezvous_close(&rendezvous);
}
END_TEST

// ------------------------------------------------------------------ strangers

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
    run(3, (struct scene){.change = annoy, .body = gather_over_all});
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
    run(35, (struct scene){.change = same_secret, .body = gather_over_all});
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
    Suite *suite = suite_create("bootstrap");
    TCase *tcase = tcase_create("coming up");

    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(tcase, any_number_of_ranks_comes_up_and_exchanges, 0,
                        6);
    tcase_add_test(tcase, a_tree_of_three_levels_comes_up);
    tcase_add_test(tcase, subsets_exchange_side_by_side);
    tcase_add_test(tcase, large_parts_pass);
    tcase_add_loop_test(tcase, ranks_that_disagree_are_named_to_all, 0, 4);
    tcase_add_test(tcase, a_rank_that_comes_twice_is_named_to_all);
    tcase_add_test(tcase, two_roots_do_not_both_come_up);
    tcase_add_test(tcase, the_least_patient_rank_learns_who_did_not_come);
    tcase_add_test(tcase, a_timeout_of_weeks_is_not_taken_for_a_short_one);
    tcase_add_test(tcase, a_root_that_is_not_there_is_named_with_its_place);
    tcase_add_test(tcase, the_numbers_of_random_stay_the_host_programs);
    tcase_add_test(tcase, a_host_without_an_address_is_named);
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

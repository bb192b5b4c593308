// SPDX-License-Identifier: BSD-3-Clause
// Who am I: every launcher's variables, and what is wrong with them.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/identity.h"
#include "bootstrap/rank_list.h"
#include "bootstrap/slurm.h"
#include "core/error.h"

static const char *list_get(void *context, const char *name)
{
    const char *const *list = context;

    for (; *list != NULL; list += 2)
        if (strcmp(list[0], name) == 0)
            return list[1];
    return NULL;
}

#define FIND(out, ...)                                                         \
    identity_find(                                                             \
        &(struct identity_env){list_get,                                       \
                               (void *)(const char *[]){__VA_ARGS__, NULL}},   \
        out)

static void assert_identity(const struct identity *identity, int32_t rank,
                            int32_t size, int32_t local_size,
                            const char *source, const char *host)
{
    ck_assert_int_eq(identity->rank, rank);
    ck_assert_int_eq(identity->world_size, size);
    ck_assert_int_eq(identity->local_size, local_size);
    ck_assert_str_eq(identity->source, source);
    ck_assert_str_eq(identity->host, host);
}

START_TEST(without_a_launcher_there_is_one_process)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "HOME", "/"), TALLY_OK);
    assert_identity(&identity, 0, 1, 1, "single process", "");
}
END_TEST

START_TEST(own_variables_come_first)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "TALLY_RANK", "3", "TALLY_WORLD_SIZE", "8",
                          "TALLY_ROOT", "node7:29400", "TALLY_LOCAL_SIZE", "4",
                          "RANK", "1", "WORLD_SIZE", "2", "MASTER_ADDR", "x"),
                     TALLY_OK);
    assert_identity(&identity, 3, 8, 4, "TALLY_RANK", "node7");
    ck_assert_int_eq(identity.port_count, 1);
    ck_assert_int_eq(identity.ports[0], 29400);
}
END_TEST

START_TEST(an_ipv6_root_stands_in_brackets)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2",
                          "TALLY_ROOT", "[fe80::1]:80"),
                     TALLY_OK);
    ck_assert_str_eq(identity.host, "fe80::1");
    ck_assert_int_eq(identity.ports[0], 80);
}
END_TEST

START_TEST(torchrun_gives_ports_of_the_run_but_never_its_own)
{
    struct identity identity;
    struct identity again;
    struct identity restarted;

    ck_assert_int_eq(FIND(&identity, "RANK", "5", "WORLD_SIZE", "16",
                          "LOCAL_WORLD_SIZE", "8", "MASTER_ADDR", "head",
                          "MASTER_PORT", "29500", "TORCHELASTIC_RUN_ID", "r1"),
                     TALLY_OK);
    assert_identity(&identity, 5, 16, 8, "torchrun", "head");
    ck_assert_int_eq(identity.port_count, IDENTITY_PORTS_MAX);
    for (int i = 0; i < IDENTITY_PORTS_MAX; i++) {
        ck_assert_int_ne(identity.ports[i], 29500);
        ck_assert_int_ge(identity.ports[i], 1024);
        ck_assert_int_lt(identity.ports[i], 32768);
        for (int j = 0; j < i; j++)
            ck_assert_int_ne(identity.ports[i], identity.ports[j]);
    }
    FIND(&again, "RANK", "0", "WORLD_SIZE", "16", "LOCAL_WORLD_SIZE", "8",
         "MASTER_ADDR", "head", "MASTER_PORT", "29500", "TORCHELASTIC_RUN_ID",
         "r1");
    ck_assert_mem_eq(identity.ports, again.ports, sizeof(again.ports));
    FIND(&restarted, "RANK", "0", "WORLD_SIZE", "16", "MASTER_ADDR", "head",
         "MASTER_PORT", "29500", "TORCHELASTIC_RUN_ID", "r1",
         "TORCHELASTIC_RESTART_COUNT", "1");
    ck_assert_mem_ne(identity.ports, restarted.ports, sizeof(again.ports));
    ck_assert_str_ne(identity.job, restarted.job);
}
END_TEST

START_TEST(a_port_of_the_master_is_left_out_of_the_candidates)
{
    // One in a thousand would be among its candidates.
    for (int master = 16384; master < 32384; master++) {
        struct identity identity;
        char port[8];

        snprintf(port, sizeof(port), "%d", master);
        FIND(&identity, "RANK", "0", "WORLD_SIZE", "2", "MASTER_ADDR", "h",
             "MASTER_PORT", port);
        for (int i = 0; i < IDENTITY_PORTS_MAX; i++)
            ck_assert_int_ne(identity.ports[i], master);
    }
}
END_TEST

START_TEST(slurm_has_its_root_at_the_first_host_of_the_step)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "SLURM_PROCID", "9",
                          "SLURM_STEP_NUM_TASKS", "11", "SLURM_STEP_NODELIST",
                          "gpu[007-009],gpu012", "SLURM_STEP_TASKS_PER_NODE",
                          "4(x2),3", "SLURM_NODEID", "2", "SLURM_JOB_ID", "77",
                          "SLURM_STEP_ID", "0"),
                     TALLY_OK);
    assert_identity(&identity, 9, 11, 3, "Slurm", "gpu007");
    ck_assert_str_eq(identity.job, "slurm 77.0");
}
END_TEST

START_TEST(mpirun_within_slurm_is_open_mpi)
{
    struct identity identity;

    ck_assert_int_eq(
        FIND(&identity, "SLURM_PROCID", "0", "SLURM_STEP_NUM_TASKS", "2",
             "SLURM_STEP_NODELIST", "a,b", "OMPI_COMM_WORLD_RANK", "1",
             "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_SIZE", "2",
             "PMIX_NAMESPACE", "ns", "TALLY_ROOT", "a:99"),
        TALLY_OK);
    assert_identity(&identity, 1, 4, 2, "Open MPI", "a");
    ck_assert_str_eq(identity.job, "Open MPI ns");
}
END_TEST

START_TEST(a_batch_script_of_slurm_is_one_process)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "SLURM_PROCID", "0", "SLURM_NTASKS", "16",
                          "SLURM_JOB_NODELIST", "a,b"),
                     TALLY_OK);
    ck_assert_int_eq(identity.world_size, 1);
}
END_TEST

START_TEST(open_mpi_on_one_host_needs_no_root)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "OMPI_COMM_WORLD_RANK", "1",
                          "OMPI_COMM_WORLD_SIZE", "4",
                          "OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
                     TALLY_OK);
    assert_identity(&identity, 1, 4, 4, "Open MPI", "127.0.0.1");
    ck_assert_int_eq(identity.port_count, IDENTITY_PORTS_MAX);
}
END_TEST

START_TEST(open_mpi_on_two_hosts_asks_for_the_root)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "OMPI_COMM_WORLD_RANK", "1",
                          "OMPI_COMM_WORLD_SIZE", "4",
                          "OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
                     TALLY_ERR_CONFIG);
    ck_assert_str_eq(core_error_text(),
                     "Open MPI says that there are 4 ranks, and nothing says "
                     "where rank 0 is: set TALLY_ROOT=host:port");
}
END_TEST

START_TEST(pmix_takes_its_size_from_our_variable)
{
    struct identity identity;

    ck_assert_int_eq(FIND(&identity, "PMIX_RANK", "2", "TALLY_WORLD_SIZE", "3",
                          "PMIX_NAMESPACE", "job7", "TALLY_ROOT", "h:5"),
                     TALLY_OK);
    assert_identity(&identity, 2, 3, 0, "PMIx", "h");
}
END_TEST

START_TEST(a_job_can_be_named)
{
    struct identity identity;

    FIND(&identity, "TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT",
         "h:5", "TALLY_JOB", "mine");
    ck_assert_str_eq(identity.job, "mine");
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    static const struct {
        const char *list[9];
        const char *sentence;
    } cases[] = {
        {{"TALLY_RANK", "0"}, "TALLY_WORLD_SIZE is not set"},
        {{"TALLY_RANK", "x", "TALLY_WORLD_SIZE", "2"},
         "TALLY_RANK=x: an integer of at least 0 is expected"},
        {{"TALLY_RANK", "-1", "TALLY_WORLD_SIZE", "2"},
         "TALLY_RANK=-1: an integer of at least 0 is expected"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "0"},
         "TALLY_WORLD_SIZE=0: an integer of at least 1 is expected"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "4294967297"},
         "TALLY_WORLD_SIZE=4294967297: an integer of at least 1 is expected"},
        {{"TALLY_RANK", "2", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", "h:1"},
         "TALLY_RANK=2 is not below TALLY_WORLD_SIZE=2"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2"},
         "TALLY_RANK says that there are 2 ranks, and nothing says where rank "
         "0 is: set TALLY_ROOT=host:port"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", "h"},
         "TALLY_ROOT=h: host:port is expected, an IPv6 address in brackets"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", "h:0"},
         "TALLY_ROOT=h:0: host:port is expected, an IPv6 address in brackets"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", "h:65536"},
         "TALLY_ROOT=h:65536: host:port is expected, an IPv6 address in "
         "brackets"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", "fe80::1"},
         "TALLY_ROOT=fe80::1: host:port is expected, an IPv6 address in "
         "brackets"},
        {{"TALLY_RANK", "0", "TALLY_WORLD_SIZE", "2", "TALLY_ROOT", ":1"},
         "TALLY_ROOT=:1: host:port is expected, an IPv6 address in brackets"},
        {{"SLURM_PROCID", "0", "SLURM_STEP_NUM_TASKS", "2",
          "SLURM_STEP_NODELIST", "gpu[a-b]"},
         "SLURM_STEP_NODELIST=gpu[a-b] is not a list of hosts"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct identity_env env = {list_get, (void *)cases[i].list};
        struct identity identity;

        ck_assert_int_eq(identity_find(&env, &identity), TALLY_ERR_CONFIG);
        ck_assert_str_eq(core_error_text(), cases[i].sentence);
    }
}
END_TEST

START_TEST(every_launcher_that_left_variables_is_told_the_first_counts)
{
    const char *list[] = {"OMPI_COMM_WORLD_RANK",
                          "1",
                          "OMPI_COMM_WORLD_SIZE",
                          "4",
                          "SLURM_PROCID",
                          "0",
                          "SLURM_STEP_NUM_TASKS",
                          "2",
                          "RANK",
                          "nonsense",
                          "WORLD_SIZE",
                          "8",
                          NULL};
    const struct identity_env env = {list_get, list};
    struct identity_claim claim;

    ck_assert(identity_claim(&env, 0, &claim));
    ck_assert_str_eq(claim.source, "Open MPI");
    ck_assert_str_eq(claim.rank_name, "OMPI_COMM_WORLD_RANK");
    ck_assert_str_eq(claim.size_name, "OMPI_COMM_WORLD_SIZE");
    ck_assert_int_eq(claim.rank, 1);
    ck_assert_int_eq(claim.world_size, 4);
    ck_assert(identity_claim(&env, 1, &claim));
    ck_assert_str_eq(claim.source, "Slurm");
    ck_assert_int_eq(claim.world_size, 2);
    ck_assert(!identity_claim(&env, 2, &claim));
}
END_TEST

START_TEST(the_first_host_of_a_list_is_found)
{
    char host[32];

    ck_assert(slurm_first_host("one", host, sizeof(host)));
    ck_assert_str_eq(host, "one");
    ck_assert(slurm_first_host("n[3,5]-ib[0-1],x", host, sizeof(host)));
    ck_assert_str_eq(host, "n3-ib0");
    ck_assert(!slurm_first_host("", host, sizeof(host)));
    ck_assert(!slurm_first_host("n[12", host, sizeof(host)));
    ck_assert(!slurm_first_host("abc", host, 3));
    ck_assert(!slurm_first_host("a[123]", host, 4));
    ck_assert(slurm_first_host("a[123]", host, 5));
}
END_TEST

START_TEST(the_tasks_of_a_node_are_found)
{
    ck_assert_int_eq(slurm_tasks_of_node("4(x2),3", 0), 4);
    ck_assert_int_eq(slurm_tasks_of_node("4(x2),3", 1), 4);
    ck_assert_int_eq(slurm_tasks_of_node("4(x2),3", 2), 3);
    ck_assert_int_eq(slurm_tasks_of_node("4(x2),3", 3), 0);
    ck_assert_int_eq(slurm_tasks_of_node("", 0), 0);
    ck_assert_int_eq(slurm_tasks_of_node("4(x2", 2), 0);
    ck_assert_int_eq(slurm_tasks_of_node("four", 0), 0);
}
END_TEST

START_TEST(ranks_are_listed_for_people)
{
    struct rank_list one = {.count = 0};
    struct rank_list many = {.count = 0};

    rank_list_add(&one, 7);
    ck_assert_str_eq(rank_list_text(&one), "rank 7");
    for (int32_t i = 0; i < 20; i++)
        rank_list_add(&many, 2147483000 + i);
    ck_assert_ptr_nonnull(strstr(rank_list_text(&many), "ranks 2147483000, "));
    ck_assert_ptr_nonnull(strstr(many.text, "2147483011 and 8 more"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bootstrap identity");
    TCase *tcase = tcase_create("environment");

    tcase_add_test(tcase, without_a_launcher_there_is_one_process);
    tcase_add_test(tcase, own_variables_come_first);
    tcase_add_test(tcase, an_ipv6_root_stands_in_brackets);
    tcase_add_test(tcase, torchrun_gives_ports_of_the_run_but_never_its_own);
    tcase_add_test(tcase, a_port_of_the_master_is_left_out_of_the_candidates);
    tcase_add_test(tcase, slurm_has_its_root_at_the_first_host_of_the_step);
    tcase_add_test(tcase, mpirun_within_slurm_is_open_mpi);
    tcase_add_test(tcase, a_batch_script_of_slurm_is_one_process);
    tcase_add_test(tcase, open_mpi_on_one_host_needs_no_root);
    tcase_add_test(tcase, open_mpi_on_two_hosts_asks_for_the_root);
    tcase_add_test(tcase, pmix_takes_its_size_from_our_variable);
    tcase_add_test(tcase, a_job_can_be_named);
    tcase_add_test(tcase, what_is_wrong_is_named);
    tcase_add_test(tcase,
                   every_launcher_that_left_variables_is_told_the_first_counts);
    tcase_add_test(tcase, the_first_host_of_a_list_is_found);
    tcase_add_test(tcase, the_tasks_of_a_node_are_found);
    tcase_add_test(tcase, ranks_are_listed_for_people);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

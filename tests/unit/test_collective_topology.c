// SPDX-License-Identifier: BSD-3-Clause
// Tests of collective/topology.h and collective/segment.h.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collective/segment.h"
#include "collective/topology_self.h"
#include "core/error.h"
#include "harness/callback_exchange.h"
#include "harness/collective.h"
#include "harness/forked.h"
#include "harness/private_shm.h"
#include "harness/ranks.h"

#define SIZE 8

static void exchange_open(struct callback_exchange *exchange,
                          struct ranks_member *member)
{
    callback_exchange_open(exchange, ranks_allgather, member, member->rank,
                           member->size, 0);
}

// Whether the tables are one picture, and that of the layout.
static void tables_check(const struct topology *topology,
                         collective_layout_fn layout)
{
    int32_t nodes = 0;
    int32_t locals = 0;

    for (int32_t i = 0; i < topology->size; i++) {
        int32_t first = 0;

        while (layout(first) != layout(i))
            first++;
        ck_assert_int_lt(topology->node_of[i], topology->node_count);
        ck_assert_int_eq(topology->leader_of[topology->node_of[i]], first);
        nodes += first == i;
        if (layout(i) != layout(topology->rank))
            continue;
        ck_assert_int_eq(topology->local_ranks[locals], i);
        if (i == topology->rank)
            ck_assert_int_eq(topology->local_index, locals);
        locals++;
    }
    ck_assert_int_eq(topology->node_count, nodes);
    ck_assert_int_eq(topology->local_size, locals);
    ck_assert_int_eq(topology->node, topology->node_of[topology->rank]);
    for (int32_t i = 1; i < topology->node_count; i++)
        ck_assert_int_lt(topology->leader_of[i - 1], topology->leader_of[i]);
}

static void detect_and_check(struct ranks_member *member,
                             const struct topology_params *params,
                             collective_layout_fn layout)
{
    struct callback_exchange exchange;
    struct topology *topology;

    exchange_open(&exchange, member);
    ck_assert_int_eq(
        topology_detect(&exchange.base, &exchange.group, params, &topology),
        TALLY_OK);
    tables_check(topology, layout);
    for (int32_t i = 0; i < topology->local_size; i++)
        ck_assert_int_eq(topology->local_pids[i], getpid());
    topology_free(topology);
    callback_exchange_close(&exchange);
}

// ------------------------------------------------------------ who shares

static void share_as_named(struct ranks_member *member)
{
    collective_layout_fn layout = *(collective_layout_fn *)member->argument;
    char name[16];
    struct topology_params params = {.node_shm = true, .node_name = name};

    snprintf(name, sizeof(name), "node %d", (int)layout(member->rank));
    detect_and_check(member, &params, layout);
}

START_TEST(ranks_that_share_memory_and_name_are_of_one_node)
{
    collective_layout_fn layouts[] = {layout_one, layout_two, layout_each,
                                      layout_uneven};

    for (size_t i = 0; i < 4; i++)
        for (int32_t size = 1; size <= SIZE; size++)
            ranks_run(size, share_as_named, &layouts[i]);
}
END_TEST

static void share_nothing(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = false, .node_name = ""};

    detect_and_check(member, &params, layout_each);
}

START_TEST(without_node_shm_every_rank_is_a_node)
{
    ranks_run(SIZE, share_nothing, NULL);
}
END_TEST

static int32_t layout_rank_two_apart(int32_t rank)
{
    return rank == 2 ? 1 : 0;
}

static void share_but_rank_two(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = member->rank != 2,
                                     .node_name = ""};

    detect_and_check(member, &params, layout_rank_two_apart);
}

START_TEST(a_rank_that_will_not_share_is_left_alone)
{
    ranks_run(5, share_but_rank_two, NULL);
}
END_TEST

static int processes_share(struct forked_member *member)
{
    struct callback_exchange exchange;
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct topology *topology;

    callback_exchange_open(&exchange, forked_allgather, member, member->rank,
                           member->size, 0);
    ck_assert_int_eq(
        topology_detect(&exchange.base, &exchange.group, &params, &topology),
        TALLY_OK);
    tables_check(topology, layout_one);
    for (int32_t i = 0; i < member->size; i++)
        ck_assert_int_eq(topology->local_pids[i], member->pids[i]);
    topology_free(topology);
    callback_exchange_close(&exchange);
    return 0;
}

START_TEST(processes_of_one_node_know_each_others_pids)
{
    ck_assert_int_eq(forked_run(5, processes_share, NULL, 0), 0);
}
END_TEST

// ------------------------------------------- who only looks as if he shared

// In turn for rank 0, who makes the first segment, for one in the middle, and
// for two who do not share with each other either.
static const uint32_t stranger_sets[] = {1u << 0, 1u << 2, 1u << 0 | 1u << 4};

static uint32_t strangers; // bit i: rank i has a /dev/shm of its own

static int32_t layout_strangers(int32_t rank)
{
    return (strangers & 1u << rank) != 0 ? 1 + rank : 0;
}

// All say the same of themselves.
static void strangers_detect(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct callback_exchange exchange;
    struct topology_self self;
    struct topology *topology;

    if ((strangers & 1u << member->rank) != 0)
        ck_assert(private_shm_enter(0));
    topology_self_read(&params, &self);
    self.hint = 1;
    exchange_open(&exchange, member);
    ck_assert_int_eq(
        topology_prove(&exchange.base, &exchange.group, &self, &topology),
        TALLY_OK);
    tables_check(topology, layout_strangers);
    topology_free(topology);
    callback_exchange_close(&exchange);
    ranks_barrier(member);
    ck_assert_int_eq(private_shm_count(), 0);
}

START_TEST(a_rank_with_other_memory_is_not_fooled_by_equal_hints)
{
    if (!private_shm_enter(0))
        return;
    strangers = stranger_sets[_i];
    ranks_run(SIZE, strangers_detect, NULL);
}
END_TEST

static void say_of_self(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct topology_self *selves = member->argument;

    if (member->rank == 1)
        ck_assert(private_shm_enter(0));
    topology_self_read(&params, &selves[member->rank]);
}

START_TEST(the_hint_tells_apart_different_dev_shm)
{
    struct topology_self selves[2];

    if (!private_shm_enter(0))
        return;
    ranks_run(2, say_of_self, selves);
    ck_assert(selves[0].hint != selves[1].hint);
    ck_assert(selves[0].name == selves[1].name);
}
END_TEST

static void forge_namespace(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct callback_exchange exchange;
    struct topology_self self;
    struct topology *topology;

    topology_self_read(&params, &self);
    self.pid_namespace += member->rank == 1;
    exchange_open(&exchange, member);
    ck_assert_int_eq(
        topology_prove(&exchange.base, &exchange.group, &self, &topology),
        TALLY_OK);
    ck_assert_int_eq(topology->local_size, 3);
    for (int32_t i = 0; i < 3; i++) {
        bool seen = (i == 1) == (member->rank == 1);

        ck_assert_int_eq(topology->local_pids[i], seen ? getpid() : 0);
    }
    topology_free(topology);
    callback_exchange_close(&exchange);
}

START_TEST(pids_of_another_namespace_are_not_given)
{
    ranks_run(3, forge_namespace, NULL);
}
END_TEST

// ------------------------------------------------------------------ failures

static void detect_without_room(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct callback_exchange exchange;
    struct topology *topology = NULL;
    static const char said[] = "no room for 16 bytes in /dev/shm: No space "
                               "left on device (TALLY_NODE_SHM=0 does without)";

    exchange_open(&exchange, member);
    ck_assert_int_eq(
        topology_detect(&exchange.base, &exchange.group, &params, &topology),
        TALLY_ERR_MEMORY);
    ck_assert_ptr_null(topology);
    ck_assert_ptr_nonnull(strstr(core_error_text(), said));
    if (member->rank != 0)
        ck_assert_int_eq(strncmp(core_error_text(), "rank 0: ", 8), 0);
    callback_exchange_close(&exchange);
}

START_TEST(a_full_dev_shm_is_an_error_at_all_ranks)
{
    if (!private_shm_enter(65536))
        return;
    private_shm_fill();
    ranks_run(4, detect_without_room, NULL);
    ck_assert_int_eq(private_shm_count(), 1);
}
END_TEST

static void detect_until_broken(struct ranks_member *member)
{
    struct topology_params params = {.node_shm = true, .node_name = ""};
    struct callback_exchange exchange;
    struct topology *topology = NULL;
    int32_t call = *(int32_t *)member->argument;

    exchange_open(&exchange, member);
    exchange.fails_from = call;
    ck_assert_int_eq(
        topology_detect(&exchange.base, &exchange.group, &params, &topology),
        TALLY_ERR_BOOTSTRAP);
    ck_assert_str_eq(core_error_text(), "the exchange was broken");
    ck_assert_ptr_null(topology);
    callback_exchange_close(&exchange);
}

START_TEST(a_broken_exchange_leaves_no_segment)
{
    if (!private_shm_enter(0))
        return;
    for (int32_t call = 0; call < 3; call++)
        ranks_run(4, detect_until_broken, &call);
    ck_assert_int_eq(private_shm_count(), 0);
}
END_TEST

// ------------------------------------------------------------------- segments

START_TEST(a_segment_is_shared_until_its_name_is_taken_away)
{
    struct segment maker;
    struct segment other;
    struct segment late;
    char name[SEGMENT_NAME_BYTES];

    ck_assert_int_eq(segment_create(5000, &maker), TALLY_OK);
    memcpy(name, maker.name, sizeof(name));
    ck_assert_int_eq(segment_open(name, 5000, &other), TALLY_OK);
    ((char *)maker.memory)[4999] = 7;
    ck_assert_int_eq(((char *)other.memory)[4999], 7);
    ck_assert_int_eq(segment_open(name, 5001, &late), TALLY_ERR_SYSTEM);
    ck_assert_ptr_nonnull(
        strstr(core_error_text(), "has 5000 bytes, not 5001"));
    segment_unlink(&maker);
    ck_assert_int_eq(segment_open(name, 5000, &late), TALLY_ERR_SYSTEM);
    ((char *)maker.memory)[0] = 9;
    ck_assert_int_eq(((char *)other.memory)[0], 9);
    segment_close(&other);
    segment_close(&maker);
    segment_close(&maker);
}
END_TEST

START_TEST(a_segment_too_large_is_an_error_and_no_file)
{
    struct segment segment = {.memory = NULL};

    if (!private_shm_enter(65536))
        return;
    ck_assert_int_eq(segment_create(1 << 20, &segment), TALLY_ERR_MEMORY);
    ck_assert_ptr_null(segment.memory);
    ck_assert_int_eq(private_shm_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective topology");
    TCase *tests = tcase_create("nodes");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, ranks_that_share_memory_and_name_are_of_one_node);
    tcase_add_test(tests, without_node_shm_every_rank_is_a_node);
    tcase_add_test(tests, a_rank_that_will_not_share_is_left_alone);
    tcase_add_test(tests, processes_of_one_node_know_each_others_pids);
    tcase_add_loop_test(
        tests, a_rank_with_other_memory_is_not_fooled_by_equal_hints, 0, 3);
    tcase_add_test(tests, the_hint_tells_apart_different_dev_shm);
    tcase_add_test(tests, pids_of_another_namespace_are_not_given);
    tcase_add_test(tests, a_full_dev_shm_is_an_error_at_all_ranks);
    tcase_add_test(tests, a_broken_exchange_leaves_no_segment);
    tcase_add_test(tests, a_segment_is_shared_until_its_name_is_taken_away);
    tcase_add_test(tests, a_segment_too_large_is_an_error_and_no_file);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

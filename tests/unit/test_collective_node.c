// SPDX-License-Identifier: BSD-3-Clause
// Tests of the all-reduce within one node (collective/allreduce.h, node.h).
#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "collective/node.h"
#include "core/error.h"
#include "harness/collective.h"
#include "harness/forked.h"
#include "harness/private_shm.h"
#include "harness/random.h"

#define RANKS_MAX 20
#define SHAPES 12

static const int32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 20};
static const uint32_t record_counts[] = {1, 4, 64};
static const uint32_t max_counts[] = {0, 1, 7, 14};

static struct lanes_shape shape_number(size_t index)
{
    return (struct lanes_shape){record_counts[index / 4 % 3],
                                max_counts[index % 4]};
}

// ------------------------------------------- every shape, in one thread

struct node_job {
    struct collective_rank ranks[RANKS_MAX];
    struct allreduce *allreduces[SHAPES][RANKS_MAX];
};

static void shapes_open(struct ranks_member *member)
{
    struct node_job *job = member->argument;
    struct collective_rank *rank = &job->ranks[member->rank];

    collective_open(rank, ranks_allgather, member, member->rank, member->size,
                    layout_one, NULL);
    for (size_t i = 0; i < SHAPES; i++) {
        struct lanes_shape shape = shape_number(i);

        job->allreduces[i][member->rank] =
            collective_allreduce(rank, &shape, 0, (uint16_t)i);
    }
}

static void shapes_close(struct node_job *job, int32_t size)
{
    for (int32_t rank = 0; rank < size; rank++) {
        for (size_t i = 0; i < SHAPES; i++)
            allreduce_free(job->allreduces[i][rank]);
        collective_close(&job->ranks[rank]);
    }
}

START_TEST(all_ranks_get_the_serial_sum_to_the_bit)
{
    static struct node_job job;
    int32_t size = sizes[_i];

    ranks_run(size, shapes_open, &job);
    for (size_t i = 0; i < SHAPES; i++) {
        struct lanes_shape shape = shape_number(i);
        struct collective_race race = {
            .size = size,
            .ranks = job.ranks,
            .allreduces = job.allreduces[i],
            .shape = shape,
            .reductions = shape.records > 4 ? 20 : 200,
            .seed = i * 100 + (uint64_t)size,
        };

        collective_race_run(&race);
    }
    shapes_close(&job, size);
}
END_TEST

// ------------------------------------------------ threads, then processes

#define SKEWED_REDUCTIONS 200

static void reductions_run(struct collective_rank *rank,
                           struct allreduce *allreduce,
                           const struct lanes_shape *shape, int32_t size)
{
    struct random random = random_seeded((uint64_t)rank->rank);
    int64_t *lanes = calloc(lanes_count(shape), sizeof(int64_t));
    int64_t *total = calloc(lanes_count(shape), sizeof(int64_t));
    tally_status_t status;

    for (uint64_t i = 1; i <= SKEWED_REDUCTIONS; i++) {
        uint32_t yields = random_below(&random, 64);

        while (yields < 8 && yields-- > 0)
            sched_yield();
        lanes_fill(shape, rank->rank, i, lanes);
        allreduce_start(allreduce, lanes);
        while ((status = collective_progress(rank, allreduce)) == TALLY_NOT_YET)
            sched_yield();
        lanes_expect(shape, size, i, total);
        ck_assert_int_eq(status, TALLY_OK);
        ck_assert(
            lanes_equal(shape, allreduce_result_borrow(allreduce), total));
    }
    free(total);
    free(lanes);
}

static const struct lanes_shape skewed_shape = {2, 8};

static void thread_reduce(struct ranks_member *member)
{
    struct collective_rank rank;
    struct allreduce *allreduce;

    collective_open(&rank, ranks_allgather, member, member->rank, member->size,
                    layout_one, NULL);
    allreduce = collective_allreduce(&rank, &skewed_shape, 0, 1);
    reductions_run(&rank, allreduce, &skewed_shape, member->size);
    allreduce_free(allreduce);
    collective_close(&rank);
}

START_TEST(threads_reduce_back_to_back_whoever_lags)
{
    static const int32_t few[] = {2, 5, 17};

    ranks_run(few[_i], thread_reduce, NULL);
}
END_TEST

static int process_reduce(struct forked_member *member)
{
    struct collective_rank rank;
    struct allreduce *allreduce;

    collective_open(&rank, forked_allgather, member, member->rank, member->size,
                    layout_one, NULL);
    allreduce = collective_allreduce(&rank, &skewed_shape, 0, 1);
    reductions_run(&rank, allreduce, &skewed_shape, member->size);
    allreduce_free(allreduce);
    collective_close(&rank);
    return 0;
}

START_TEST(processes_reduce_back_to_back_whoever_lags)
{
    static const int32_t few[] = {2, 5, 17};
    bool alone = private_shm_enter(0);

    ck_assert_int_eq(forked_run(few[_i], process_reduce, NULL, 0), 0);
    if (alone)
        ck_assert_int_eq(private_shm_count(), 0);
}
END_TEST

// --------------------------------------------------- who does not come

static struct collective_rank stalled_ranks[RANKS_MAX];
static struct allreduce *stalled[RANKS_MAX];

static void stalled_open(struct ranks_member *member)
{
    static const struct lanes_shape shape = {3, 9};

    collective_open(&stalled_ranks[member->rank], ranks_allgather, member,
                    member->rank, member->size, layout_one, NULL);
    stalled[member->rank] =
        collective_allreduce(&stalled_ranks[member->rank], &shape, 0, 1);
}

// All but one start; nobody gets a result, everybody names him.
static void stall(int32_t size, int32_t missing)
{
    int64_t lanes[3 * 8 + 9] = {0};

    ranks_run(size, stalled_open, NULL);
    for (int32_t i = 0; i < size; i++)
        if (i != missing)
            allreduce_start(stalled[i], lanes);
    for (int32_t i = 0; i < 10 * size; i++) {
        struct allreduce *allreduce = stalled[i % size];

        if (i % size == missing)
            continue;
        ck_assert_int_eq(allreduce_progress(allreduce), TALLY_NOT_YET);
        ck_assert_int_eq(allreduce_awaited(allreduce), missing);
    }
    for (int32_t i = 0; i < size; i++) {
        allreduce_free(stalled[i]);
        collective_close(&stalled_ranks[i]);
    }
}

START_TEST(a_rank_that_never_comes_is_named)
{
    stall(2, 0);
    stall(2, 1);
    stall(5, 3);
    stall(18, 0);
    stall(18, 17);
}
END_TEST

START_TEST(members_await_their_leader_when_all_slots_are_there)
{
    int64_t lanes[3 * 8 + 9] = {0};

    ranks_run(17, stalled_open, NULL);
    for (int32_t i = 0; i < 17; i++)
        allreduce_start(stalled[i], lanes);
    ck_assert_int_eq(allreduce_progress(stalled[5]), TALLY_NOT_YET);
    ck_assert_int_eq(allreduce_awaited(stalled[5]), 0);
    ck_assert_int_eq(allreduce_progress(stalled[0]), TALLY_OK);
    ck_assert_int_eq(allreduce_progress(stalled[5]), TALLY_OK);
    ck_assert_int_eq(allreduce_awaited(stalled[5]), -1);
    for (int32_t i = 0; i < 17; i++) {
        allreduce_free(stalled[i]);
        collective_close(&stalled_ranks[i]);
    }
}
END_TEST

// ------------------------------------------------------------ failures

struct failure {
    void (*break_one)(struct collective_rank *rank,
                      struct allreduce_params *params);
    tally_status_t status;
    const char *said; // part of the sentence
};

static void more_records(struct collective_rank *rank,
                         struct allreduce_params *params)
{
    params->records += rank->rank == 2;
}

static void more_maxima(struct collective_rank *rank,
                        struct allreduce_params *params)
{
    params->max_lanes += rank->rank == 2;
}

static void other_radix(struct collective_rank *rank,
                        struct allreduce_params *params)
{
    params->radix = rank->rank == 2 ? 3 : 2;
}

static void other_tag_space(struct collective_rank *rank,
                            struct allreduce_params *params)
{
    params->tag_space = rank->rank == 2 ? 9 : 8;
}

static void no_room(struct collective_rank *rank,
                    struct allreduce_params *params)
{
    (void)params;
    if (rank->rank == 0)
        private_shm_fill();
}

static void broken_exchange(struct collective_rank *rank,
                            struct allreduce_params *params)
{
    (void)params;
    rank->exchange.fails_from = rank->exchange.calls;
}

static void later_broken_exchange(struct collective_rank *rank,
                                  struct allreduce_params *params)
{
    (void)params;
    rank->exchange.fails_from = rank->exchange.calls + 1;
}

static const struct failure failures[] = {
    {more_records, TALLY_ERR_MISMATCH,
     "rank 100 reduces 1 records and 2 maxima (radix 4, tag 5), rank 102 2 "
     "and 2 (radix 4, tag 5)"},
    {more_maxima, TALLY_ERR_MISMATCH, "rank 102 1 and 3"},
    {other_radix, TALLY_ERR_MISMATCH, "(radix 2, tag 5), rank 102"},
    {other_tag_space, TALLY_ERR_MISMATCH, "(radix 4, tag 8), rank 102"},
    {no_room, TALLY_ERR_MEMORY, "no room for 1536 bytes in /dev/shm"},
    {broken_exchange, TALLY_ERR_BOOTSTRAP, "the exchange was broken"},
    {later_broken_exchange, TALLY_ERR_BOOTSTRAP, "the exchange was broken"},
};

static void fail_to_create(struct ranks_member *member)
{
    static const struct lanes_shape shape = {1, 2};
    const struct failure *failure = member->argument;
    struct collective_rank rank;
    struct allreduce *allreduce = NULL;

    collective_open(&rank, ranks_allgather, member, member->rank, member->size,
                    layout_one, NULL);
    struct allreduce_params params = collective_params(&rank, &shape, 4, 5);
    failure->break_one(&rank, &params);
    ck_assert_int_eq(allreduce_create(&params, &allreduce), failure->status);
    ck_assert_msg(strstr(core_error_text(), failure->said) != NULL, "%s",
                  core_error_text());
    ck_assert_ptr_null(allreduce);
    collective_close(&rank);
}

START_TEST(a_failure_of_one_ends_the_creation_at_all_and_leaves_no_segment)
{
    struct failure failure = failures[_i];
    bool fills = failure.break_one == no_room;

    if (!private_shm_enter(1 << 20))
        return;
    ranks_run(4, fail_to_create, &failure);
    ck_assert_int_eq(private_shm_count(), fills ? 1 : 0);
}
END_TEST

// ------------------------------------------------------------ before a sleep

// Two ranks' parts of one segment, in one process.
static void nodes_open(void *memory, bool led, struct node *nodes[2])
{
    for (int32_t i = 0; i < 2; i++) {
        struct node_params params = {
            .shape = {.local_size = 2, .records = 2, .max_lanes = 1},
            .local_index = i,
            .gathers = !led || i == 0,
            .memory = memory,
        };

        ck_assert_int_eq(node_create(&params, &nodes[i]), TALLY_OK);
    }
}

static _Alignas(64) unsigned char node_memory[4096];
static const int64_t node_lanes[17];

START_TEST(who_writes_after_a_rank_has_armed_changes_its_word)
{
    bool led = _i != 0;
    struct node *nodes[2];
    _Atomic uint32_t *word;
    uint32_t seen, later;

    nodes_open(node_memory, led, nodes);
    node_write(nodes[1], 1, node_lanes);
    tally_status_t status = node_arm(nodes[1], &word, &seen);
    if (status == TALLY_ERR_UNSUPPORTED)
        goto free_nodes; // a kernel without the barrier
    ck_assert_int_eq(status, TALLY_OK);
    ck_assert_uint_eq(atomic_load(word), seen);
    node_write(nodes[0], 1, node_lanes);
    ck_assert_uint_ne(atomic_load(word), seen);
    // What is there is told, not slept on.
    status = node_arm(nodes[1], &word, &later);
    ck_assert_int_eq(status, led ? TALLY_OK : TALLY_NOT_YET);
    ck_assert_uint_ne(later, seen);
    node_publish(nodes[0], node_lanes);
    ck_assert_uint_ne(atomic_load(word), later);
    ck_assert_int_eq(node_arm(nodes[1], &word, &seen), TALLY_NOT_YET);

free_nodes:
    node_free(nodes[1]);
    node_free(nodes[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective node");
    TCase *tests = tcase_create("one node");

    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, all_ranks_get_the_serial_sum_to_the_bit, 0,
                        sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_loop_test(tests, threads_reduce_back_to_back_whoever_lags, 0, 3);
    tcase_add_loop_test(tests, processes_reduce_back_to_back_whoever_lags, 0,
                        3);
    tcase_add_test(tests, a_rank_that_never_comes_is_named);
    tcase_add_test(tests, members_await_their_leader_when_all_slots_are_there);
    tcase_add_loop_test(
        tests, a_failure_of_one_ends_the_creation_at_all_and_leaves_no_segment,
        0, sizeof(failures) / sizeof(failures[0]));
    tcase_add_loop_test(
        tests, who_writes_after_a_rank_has_armed_changes_its_word, 0, 2);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

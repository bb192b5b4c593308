// SPDX-License-Identifier: BSD-3-Clause
// Tests of the all-reduce between leaders when one of them, or the network,
// fails: an error that names the rank, no hang, and no memory that the network
// still holds in other hands.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "harness/collective_job.h"

// Far more than any reduction here takes.
#define MOVES 200

static struct collective_job job;

// With few ranks, all are partners of all.
static const struct collective_reducer reducer[] = {{16, {1, 1}, 0}};

static void start_all(uint64_t sequence)
{
    for (int32_t rank = 0; rank < job.size; rank++)
        collective_job_start(&job, rank, sequence);
}

// What came of it after so many moves of all.
static void move_all(tally_status_t *statuses)
{
    for (int32_t i = 0; i < MOVES; i++)
        for (int32_t rank = 0; rank < job.size; rank++)
            statuses[rank] = collective_job_move(&job, rank);
}

// -------------------------------------------------------- who is to blame

struct blame {
    size_t option;  // offset in fake_options of the rank to blame
    bool at_itself; // it is the one that sees the failure
    uint32_t byte;  // garbled
    uint32_t cut;   // garbled
    tally_status_t status;
    const char *sentence; // with the blamed, or for at_itself the other, rank 2
};

#define OPTION(name) offsetof(struct fake_options, name)
#define NO_BYTE 65536

static const struct blame blames[] = {
    {OPTION(dead), false, 0, 0, TALLY_ERR_PEER,
     "message to rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: the transport could not send it"},
    {OPTION(unreachable), false, 0, 0, TALLY_ERR_PEER,
     "connection to rank 2 of the group (world rank 102), stage 0 of "
     "reduction 1: no route to peer 102"},
    {OPTION(refusing), false, 0, 0, TALLY_ERR_PEER,
     "message to rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: the endpoint was closed"},
    {OPTION(garbling), false, 0, 0, TALLY_ERR_TRANSPORT,
     "message from rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: it is no message of this version of Tally"},
    {OPTION(garbling), false, 4, 0, TALLY_ERR_TRANSPORT,
     "message from rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: it names another sender"},
    {OPTION(garbling), false, 8, 0, TALLY_ERR_TRANSPORT,
     "message from rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: it is of another reduction"},
    {OPTION(garbling), false, 15, 0, TALLY_ERR_TRANSPORT,
     "message from rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: it is of another reduction"},
    {OPTION(garbling), false, NO_BYTE, 8, TALLY_ERR_TRANSPORT,
     "message from rank 2 of the group (world rank 102), stage 0 of reduction "
     "1: its length is wrong"},
    {OPTION(deaf), true, 0, 0, TALLY_ERR_TRANSPORT,
     "message from rank 3 of the group (world rank 103), stage 0 of reduction "
     "1: no more receives"},
};

static void blame_set(const struct blame *blame, struct fake_options *options)
{
    const int32_t rank = 2;

    memcpy((unsigned char *)options + blame->option, &rank, sizeof(rank));
    if (blame->option == OPTION(dead))
        options->silent = rank;
    options->garble_byte = blame->byte;
    options->garble_cut = blame->cut;
}

static void assert_blamed(int32_t rank, const struct blame *blame)
{
    ck_assert_int_eq(collective_job_move(&job, rank), blame->status);
    ck_assert_int_eq(allreduce_awaited(job.allreduces[0][rank]),
                     blame->at_itself ? 3 : 2);
    // It is dead, and stays so.
    collective_job_start(&job, rank, 2);
    ck_assert_int_eq(collective_job_move(&job, rank), blame->status);
}

START_TEST(a_failure_ends_the_reduction_and_names_the_rank)
{
    const struct blame *blame = &blames[_i];
    struct fake_options options = fake_options_calm(1);
    tally_status_t statuses[5] = {TALLY_NOT_YET};
    int32_t witness = blame->at_itself ? 2 : 0;

    blame_set(blame, &options);
    collective_job_open(&job, 5, &options, layout_each, reducer, 1);
    start_all(1);
    while (statuses[witness] == TALLY_NOT_YET) {
        for (int32_t rank = 0; rank < 5; rank++)
            if (rank != witness)
                statuses[rank] = collective_job_move(&job, rank);
        statuses[witness] = collective_job_move(&job, witness);
    }
    ck_assert_str_eq(core_error_text(), blame->sentence);
    move_all(statuses);
    for (int32_t rank = 0; rank < 5; rank++)
        if ((rank == 2) == blame->at_itself)
            assert_blamed(rank, blame);
    collective_job_close(&job);
}
END_TEST

START_TEST(a_rank_that_is_never_heard_of_is_awaited_by_its_partners)
{
    static const int32_t sizes[] = {2, 3, 5, 8, 16};
    int32_t size = sizes[_i];
    struct fake_options options = fake_options_calm(1);
    tally_status_t statuses[JOB_RANKS_MAX];

    options.silent = size - 1;
    collective_job_open(&job, size, &options, layout_each, reducer, 1);
    start_all(1);
    move_all(statuses);
    bool named = false;
    for (int32_t rank = 0; rank < size - 1; rank++) {
        ck_assert_int_eq(statuses[rank], TALLY_NOT_YET);
        // A partner, or one that itself waits.
        int32_t awaited = allreduce_awaited(job.allreduces[0][rank]);
        ck_assert_int_ge(awaited, 0);
        ck_assert_int_ne(awaited, rank);
        named |= awaited == size - 1;
    }
    ck_assert(named);
    collective_job_close(&job);
}
END_TEST

// The others hear of whom their leader waits for.
START_TEST(members_of_a_node_await_whom_their_leader_awaits)
{
    struct fake_options options = fake_options_calm(1);
    tally_status_t statuses[JOB_RANKS_MAX];

    options.silent = 1;
    collective_job_open(&job, 6, &options, layout_two, reducer, 1);
    start_all(1);
    move_all(statuses);
    for (int32_t rank = 0; rank < 6; rank += 2) {
        ck_assert_int_eq(statuses[rank], TALLY_NOT_YET);
        ck_assert_int_eq(allreduce_awaited(job.allreduces[0][rank]), 1);
    }
    collective_job_close(&job);
}
END_TEST

// A rank that fails after it was told of all others.
START_TEST(a_send_that_fails_late_is_told_while_its_answer_is_awaited)
{
    struct fake_options options = fake_options_calm(1);
    tally_status_t status = TALLY_NOT_YET;

    options.send_delay_max = 20;
    options.dead = 1;
    collective_job_open(&job, 2, &options, layout_each, reducer, 1);
    collective_job_start(&job, 0, 1);
    for (int32_t i = 0; i < MOVES && status == TALLY_NOT_YET; i++)
        status = collective_job_move(&job, 0); // rank 1 never moves
    ck_assert_int_eq(status, TALLY_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(core_error_text(), "message to rank 1"));
    collective_job_close(&job);
}
END_TEST

static void refuse_to_create(struct ranks_member *member)
{
    struct lanes_shape shape = {4, 0};
    struct collective_rank rank;
    struct allreduce *allreduce = NULL;

    collective_open(&rank, ranks_allgather, member, member->rank, member->size,
                    layout_each, member->argument);
    struct allreduce_params params = collective_params(&rank, &shape, 0, 1);
    ck_assert_int_eq(allreduce_create(&params, &allreduce),
                     TALLY_ERR_TRANSPORT);
    ck_assert_ptr_nonnull(strstr(core_error_text(),
                                 "fake sends at most 271 bytes, 4 records and "
                                 "0 maxima need 272"));
    ck_assert_ptr_null(allreduce);
    collective_close(&rank);
}

START_TEST(messages_too_large_for_the_transport_are_refused_at_creation)
{
    struct fake_options options = fake_options_calm(1);

    options.message_max = 271;
    struct fake_network *network = fake_network_create(3, &options);
    ranks_run(3, refuse_to_create, network);
    fake_network_free(network);
}
END_TEST

// --------------------------------------- what the transport still holds

#define BLOCKS 64
#define PATTERN 0x5a

// Memory of a mailbox's size and more, which malloc may have had back.
struct blocks {
    unsigned char *memory[BLOCKS];
    size_t bytes[BLOCKS];
};

static void blocks_take(struct blocks *blocks)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks->bytes[i] = 128 * (i / 2 + 1);
        blocks->memory[i] = aligned_alloc(64, blocks->bytes[i]);
        if (blocks->memory[i] == NULL)
            abort();
        memset(blocks->memory[i], PATTERN, blocks->bytes[i]);
    }
}

static bool blocks_intact(const struct blocks *blocks)
{
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t j = 0; j < blocks->bytes[i]; j++)
            if (blocks->memory[i][j] != PATTERN)
                return false;
    return true;
}

static void blocks_free(struct blocks *blocks)
{
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks->memory[i]);
}

static void allreduce_drop(int32_t rank)
{
    allreduce_free(job.allreduces[0][rank]);
    job.allreduces[0][rank] = NULL;
}

static void transport_move(int32_t rank)
{
    fake_network_ops(job.network)->progress(job.ranks[rank].transport);
}

START_TEST(a_late_message_does_not_land_in_memory_that_others_have)
{
    struct fake_options options = fake_options_calm(1);
    struct blocks blocks;

    options.keeps_cancelled = true;
    collective_job_open(&job, 4, &options, layout_each, reducer, 1);
    collective_job_start(&job, 0, 1);
    ck_assert_int_eq(collective_job_move(&job, 0), TALLY_NOT_YET);
    allreduce_drop(0);
    blocks_take(&blocks);
    for (int32_t rank = 1; rank < 4; rank++) {
        collective_job_start(&job, rank, 1);
        collective_job_move(&job, rank);
    }
    transport_move(0);
    ck_assert_int_gt(collective_job_counts(&job, 0).late, 0);
    ck_assert(blocks_intact(&blocks));
    blocks_free(&blocks);
    collective_job_close(&job);
}
END_TEST

START_TEST(receives_of_a_reduction_that_is_gone_are_cancelled)
{
    struct fake_options options = fake_options_calm(1);

    collective_job_open(&job, 4, &options, layout_each, reducer, 1);
    collective_job_start(&job, 0, 1);
    ck_assert_int_eq(collective_job_counts(&job, 0).posted, 3);
    allreduce_drop(0);
    transport_move(0);
    ck_assert_int_eq(collective_job_counts(&job, 0).posted, 0);
    collective_job_close(&job);
}
END_TEST

START_TEST(sends_go_on_when_their_reduction_is_gone)
{
    struct fake_options options = fake_options_calm(1);
    struct blocks blocks;
    tally_status_t status = TALLY_NOT_YET;

    options.send_delay_max = 1000;
    collective_job_open(&job, 2, &options, layout_each, reducer, 1);
    start_all(1);
    ck_assert_int_eq(collective_job_move(&job, 0), TALLY_NOT_YET);
    allreduce_drop(0);
    blocks_take(&blocks);
    for (int32_t i = 0; i < 2000 && status == TALLY_NOT_YET; i++) {
        transport_move(0);
        status = collective_job_move(&job, 1);
    }
    ck_assert_int_eq(status, TALLY_OK);
    ck_assert(collective_job_right(&job, 1, 1));
    blocks_free(&blocks);
    collective_job_close(&job);
}
END_TEST

START_TEST(a_transport_may_be_closed_with_everything_under_way)
{
    struct fake_options options = fake_options_calm((uint64_t)_i);

    options.keeps_cancelled = _i % 2 == 0;
    options.send_delay_max = 10;
    options.send_lag_max = 10;
    options.arrival_delay_max = 10;
    collective_job_open(&job, 7, &options, layout_two, reducer, 1);
    for (int32_t rank = 0; rank < 7; rank++)
        collective_job_start(&job, rank, 1);
    for (int32_t i = 0; i < _i; i++)
        for (int32_t rank = 0; rank < 7; rank++)
            collective_job_move(&job, rank);
    collective_job_close(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective lost");
    TCase *tests = tcase_create("failures");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_failure_ends_the_reduction_and_names_the_rank,
                        0, sizeof(blames) / sizeof(blames[0]));
    tcase_add_loop_test(
        tests, a_rank_that_is_never_heard_of_is_awaited_by_its_partners, 0, 5);
    tcase_add_test(tests, members_of_a_node_await_whom_their_leader_awaits);
    tcase_add_test(tests,
                   a_send_that_fails_late_is_told_while_its_answer_is_awaited);
    tcase_add_test(
        tests, messages_too_large_for_the_transport_are_refused_at_creation);
    tcase_add_test(tests,
                   a_late_message_does_not_land_in_memory_that_others_have);
    tcase_add_test(tests, receives_of_a_reduction_that_is_gone_are_cancelled);
    tcase_add_test(tests, sends_go_on_when_their_reduction_is_gone);
    tcase_add_loop_test(
        tests, a_transport_may_be_closed_with_everything_under_way, 0, 8);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

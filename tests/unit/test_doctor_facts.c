// SPDX-License-Identifier: BSD-3-Clause
// Tests of what tally_doctor's ranks find by themselves: limits that were
// measured, and sentences; of bounds of clocks, and of who asks whom.
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/facts/facts.h"
#include "doctor/facts/note.h"
#include "doctor/facts/pack.h"
#include "doctor/job/clocks.h"
#include "doctor/job/pairs.h"
#include "harness/random.h"

static struct facts facts;

static const struct facts_limits plenty = {
    .shm_bytes = (uint64_t)64 << 30,
    .shm_free = (uint64_t)63 << 30,
    .shm_needed = 100 << 10,
    .files = 65536,
    .files_hard = 65536,
    .files_needed = 160,
    .memlock = UINT64_MAX,
    .rdma = "mlx5_0 mlx5_1",
};

static void judge(const struct facts_limits *limits)
{
    memset(&facts, 0, sizeof(facts));
    facts.node_shm = 1;
    facts_limits_judge(limits, &facts);
}

START_TEST(with_plenty_of_all_nothing_is_found)
{
    judge(&plenty);
    for (int kind = 0; kind < FACTS_KINDS; kind++)
        ck_assert_str_eq(facts.found[kind], "");
    ck_assert_str_eq(facts.fine[FACTS_SHM],
                     "/dev/shm has 63.0 GiB free of 64.0 GiB");
    ck_assert_str_eq(facts.fine[FACTS_FILES],
                     "65536 open files are allowed, about 160 are needed");
    ck_assert_str_eq(facts.fine[FACTS_MEMLOCK],
                     "unlimited may be locked for mlx5_0 mlx5_1");
}
END_TEST

START_TEST(each_fault_of_shared_memory_has_its_sentence)
{
    struct facts_limits limits = plenty;

    limits.shm_errno = ENOENT;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_SHM],
                     "there is no /dev/shm: No such file or directory\n");
    limits = plenty;
    limits.shm_read_only = true;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_SHM], "/dev/shm is mounted read-only\n");
    limits = plenty;
    limits.shm_bytes = 64 << 10;
    limits.shm_free = 60 << 10;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_SHM],
                     "/dev/shm has 60 KiB free of 64 KiB: a step of 64 "
                     "channels among the ranks of this host takes 100 KiB\n");
    limits = plenty;
    strcpy(limits.shm_segment, "could not create it");
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_SHM], "could not create it\n");
    limits = plenty;
    limits.shm_no_exec = true;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_SHM], "");
    ck_assert_ptr_nonnull(strstr(facts.fine[FACTS_SHM], "noexec"));
}
END_TEST

START_TEST(shared_memory_that_is_not_used_is_not_judged)
{
    struct facts_limits limits = plenty;

    limits.shm_errno = ENOENT;
    memset(&facts, 0, sizeof(facts));
    facts_limits_judge(&limits, &facts);
    ck_assert_str_eq(facts.found[FACTS_SHM], "");
}
END_TEST

START_TEST(locked_memory_matters_where_there_are_rdma_devices)
{
    struct facts_limits limits = plenty;

    limits.memlock = 8 << 20;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_MEMLOCK],
                     "8.0 MiB of memory may be locked, and there are RDMA "
                     "devices: mlx5_0 mlx5_1\n");
    limits.rdma[0] = '\0';
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_MEMLOCK], "");
}
END_TEST

START_TEST(too_few_open_files_are_found_with_the_numbers)
{
    struct facts_limits limits = plenty;

    limits.files = 100;
    limits.files_hard = 4096;
    judge(&limits);
    ck_assert_str_eq(facts.found[FACTS_FILES],
                     "at most 100 open files are allowed (hard limit 4096), "
                     "and about 160 are needed\n");
}
END_TEST

START_TEST(notes_are_whole_lines_or_left_out)
{
    char text[16] = "";
    char line[8];
    const char *at = text;

    note_add(text, sizeof(text), "a\nb");
    note_add(text, sizeof(text), "this is much too long");
    note_add(text, sizeof(text), "%d", 123456);
    ck_assert_str_eq(text, "a b\n123456\n");
    ck_assert(note_next(&at, line, sizeof(line)));
    ck_assert_str_eq(line, "a b");
    ck_assert(note_next(&at, line, sizeof(line)));
    ck_assert_str_eq(line, "123456");
    ck_assert(!note_next(&at, line, sizeof(line)));
    note_add(text, sizeof(text), "789");
    ck_assert_str_eq(text, "a b\n123456\n789\n");
    note_add(text, sizeof(text), "%s", "");
    ck_assert_str_eq(text, "a b\n123456\n789\n");
}
END_TEST

START_TEST(what_is_packed_comes_out_again_and_nothing_else_is_taken)
{
    enum { BYTES = 150000 };
    static uint8_t memory[BYTES], out[BYTES];
    static uint8_t packed[PACK_BYTES_MAX(BYTES)];
    struct random random = random_seeded(7);

    for (size_t bytes = 0; bytes <= BYTES; bytes = bytes * 3 + 1) {
        // Runs of zeroes and of others, of all lengths.
        for (size_t i = 0, run = 0; i < bytes; i++, run--) {
            if (run == 0)
                run =
                    1 + random_below(&random, 1u << random_below(&random, 17));
            memory[i] = (uint8_t)(run % 2 * random_below(&random, 256));
        }
        size_t length = pack_write(memory, bytes, packed);
        ck_assert_uint_le(length, sizeof(packed));
        memset(out, 0xa5, sizeof(out));
        ck_assert(pack_read(packed, length, out, bytes));
        ck_assert_mem_eq(out, memory, bytes);
        for (size_t less = 0; less < length; less += 1 + length / 50)
            ck_assert(!pack_read(packed, less, out, bytes));
        if (bytes > 1)
            ck_assert(!pack_read(packed, length, out, bytes - 1));
    }
    memset(memory, 0, sizeof(memory));
    ck_assert_uint_le(pack_write(memory, BYTES, packed), 16);
    memset(memory, 1, sizeof(memory));
    ck_assert_uint_le(pack_write(memory, BYTES, packed), BYTES + 16);
    ck_assert(!pack_read((const uint8_t[4]){0}, 4, out, 1));
}
END_TEST

// Rounds of 10 ms in true time, in which everybody stamps 3 ms after the begin,
// by a clock that is `ahead` of the observer's.
START_TEST(the_bounds_of_a_clock_hold_what_it_is_ahead)
{
    static const int64_t aheads[] = {0, 2500000, -7000000, 4000};
    enum { CLOCKS = sizeof(aheads) / sizeof(aheads[0]) };
    int64_t begun[CLOCKS_ROUNDS], left[CLOCKS_ROUNDS];
    int64_t stamps[CLOCKS_ROUNDS][CLOCKS];
    struct clocks_bound bounds[CLOCKS];

    for (int round = 0; round < CLOCKS_ROUNDS; round++) {
        begun[round] = 1000000000 + round * 10000;
        left[round] = begun[round] + 9000;
        for (int i = 0; i < CLOCKS; i++)
            stamps[round][i] = begun[round] + 3000 + aheads[i];
    }
    // A slow round must not widen them.
    left[4] += 500000;
    clocks_judge(begun, left, &stamps[0][0], CLOCKS, bounds);
    for (int i = 0; i < CLOCKS; i++) {
        ck_assert_int_le(bounds[i].low_us, aheads[i]);
        ck_assert_int_ge(bounds[i].high_us, aheads[i]);
        ck_assert_int_eq(bounds[i].low_us, aheads[i] - 6000);
        ck_assert_int_eq(bounds[i].high_us, aheads[i] + 13000);
    }
}
END_TEST

START_TEST(many_nodes_ask_only_those_a_bit_away)
{
    int32_t asked = 0;

    ck_assert_int_eq(pairs_slot(3, 3, 8), -1);
    ck_assert_int_eq(pairs_slot(3, 7, PAIRS_SLOTS), 7);
    ck_assert_int_eq(pairs_slot(3, 7, 1000), 2);
    ck_assert_int_eq(pairs_slot(7, 3, 1000), 2);
    ck_assert_int_eq(pairs_slot(3, 8, 1000), -1);
    for (int32_t peer = 0; peer < 1024; peer++)
        asked += pairs_slot(5, peer, 1024) >= 0;
    ck_assert_int_eq(asked, 10);
}
END_TEST

// ------------------------------------------------------------------ the engine

// A way on which peers answer by themselves, as they are told.
struct puppet {
    struct pairs_way base;
    uint32_t number[4]; // 0: nothing is to be answered
    bool over[4];
};

enum { SILENT = 1, REFUSES = 2, STOPS = 3 };

static bool puppet_send(struct pairs_way *way, int32_t peer,
                        enum pairs_kind kind, uint32_t number)
{
    struct puppet *puppet = (struct puppet *)way;

    if (peer == REFUSES)
        return false;
    if (kind == PAIRS_PING)
        puppet->number[peer] = number;
    puppet->over[peer] |= kind == PAIRS_OVER;
    return true;
}

static void puppet_poll(struct pairs_way *way, struct pairs *pairs)
{
    struct puppet *puppet = (struct puppet *)way;

    for (int32_t peer = 0; peer < 4; peer++) {
        uint32_t number = puppet->number[peer];

        puppet->number[peer] = 0;
        if (number == 0 || (peer == STOPS && number > 5))
            continue;
        pairs_take(pairs, peer, PAIRS_PONG, number - 1); // an old one
        if (peer == SILENT)
            continue;
        pairs_take(pairs, peer, PAIRS_PONG, number);
        pairs_take(pairs, peer, PAIRS_OVER, 0);
    }
}

START_TEST(who_is_silent_or_refused_is_not_reached_and_holds_nothing_up)
{
    static const struct pairs_way_ops ops = {puppet_send, puppet_poll};
    struct puppet puppet = {.base.ops = &ops};
    struct pairs_peer peers[5] = {{.way = &puppet.base},
                                  {.way = &puppet.base},
                                  {.way = &puppet.base},
                                  {.way = &puppet.base}};
    struct pairs pairs = {
        .count = 5, .own = 4, .peers = peers, .ways = {NULL, &puppet.base}};
    float row[PAIRS_SLOTS];

    pairs_run(&pairs, 500000);
    pairs_row(&pairs, row);
    ck_assert_float_ge(row[0], 0);
    ck_assert_float_eq(row[SILENT], PAIRS_UNREACHED);
    ck_assert_float_eq(row[REFUSES], PAIRS_UNREACHED);
    ck_assert_float_ge(row[STOPS], 0); // it was reached once
    ck_assert_float_eq(row[4], PAIRS_UNTRIED);
    ck_assert_float_eq(row[5], PAIRS_UNTRIED);
    ck_assert_int_gt((int)peers[0].asked, 1); // 20 where there is time
    ck_assert_int_eq((int)peers[SILENT].asked, 1);
    ck_assert(puppet.over[0] && !puppet.over[SILENT]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("doctor facts");
    TCase *tests = tcase_create("facts");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, with_plenty_of_all_nothing_is_found);
    tcase_add_test(tests, each_fault_of_shared_memory_has_its_sentence);
    tcase_add_test(tests, shared_memory_that_is_not_used_is_not_judged);
    tcase_add_test(tests, locked_memory_matters_where_there_are_rdma_devices);
    tcase_add_test(tests, too_few_open_files_are_found_with_the_numbers);
    tcase_add_test(tests, notes_are_whole_lines_or_left_out);
    tcase_add_test(tests,
                   what_is_packed_comes_out_again_and_nothing_else_is_taken);
    tcase_add_test(tests, the_bounds_of_a_clock_hold_what_it_is_ahead);
    tcase_add_test(tests, many_nodes_ask_only_those_a_bit_away);
    tcase_add_test(
        tests, who_is_silent_or_refused_is_not_reached_and_holds_nothing_up);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels by which a stream hands a rank's lanes to the host:
// publish, and a count that publishes.
#include "gpu/side.h"

static void a_rank_publishes_what_it_has_and_keeps_nothing()
{
    for (const struct shape &shape : shapes) {
        struct side side(shape.channels, shape.max_lanes);
        struct side *const one[] = {&side};
        struct random random = random_seeded(shape.channels);
        for (uint64_t n = 1; n <= KERNEL_SLOTS + 2; n++) {
            const struct round round = round_of(n, shape.channels);
            draw(&side, &random);
            const struct totals totals = totals_of(one, 1, round.maxima);
            side.publish(round);
            side.get();
            check_slot(side, n, slot_of((n + 1) / 2, round), totals);
            check_taken(side, round.maxima);
            CHECK(side.state.host[0].sequence == n &&
                      side.state.host[0].awaited == (n - 1) / 2 * 2 + 1,
                  "the state is of sequence %llu",
                  (unsigned long long)side.state.host[0].sequence);
            if (test_has_failed())
                return;
        }
    }
}

static void a_published_slot_is_there_when_its_last_word_is()
{
    if (!machine_is_emulated())
        return;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct side side(64, 14);
        struct side *const one[] = {&side};
        struct random random = random_seeded(seed);
        const struct round round = {KERNEL_SLOT_WEIGHTS, true, seed};
        draw(&side, &random);
        const struct totals totals = totals_of(one, 1, true);
        watch_begin(&side, 1, &totals);
        side.publish(round);
        const struct seen seen = watch_end();
        CHECK(seen_at_the_end(seen, side), "seed %d: %d whole, %d torn",
              (int)seed, seen.whole, seen.torn);
    }
}

// One channel is counted by as many blocks as labels make, of which the last
// one hands on all channels; on the emulator, two blocks run at a time.
static void the_last_block_of_a_count_publishes_all_of_it()
{
    const int64_t tokens = 6 * 1024;
    const uint32_t channel = 20;
    const uint32_t together = machine_is_emulated() ? 2 : 1;
    struct side side(33, 3);
    struct side *const one[] = {&side};
    struct random random = random_seeded(1);
    array<int32_t> labels((size_t)tokens);

    for (uint64_t n = 1; n <= 10; n++) {
        const struct round round = {KERNEL_SLOT_WEIGHTS, false, n};
        int64_t counted = 0;
        for (int32_t &label : labels.host) {
            label = (int32_t)random_below(&random, 4) - 1; // of 2, or not
            counted += label == 0 || label == 1;
        }
        labels.put();
        draw(&side, &random);
        side.records.host[channel].bad_labels = -tokens + counted;
        side.records.put();
        const struct kernel_count_publish both = {
            {{labels.at, NULL, tokens, 2, JOB_IGNORE, 0, 0},
             side.records.at + channel},
            side.publication(round)};
        side.records.host[channel].count += counted;
        side.records.host[channel].weight_hi += counted * NUMERIC_ONE_HI;
        side.records.host[channel].bad_labels = 0;
        const struct totals totals = totals_of(one, 1, false);
        watch_begin(&side, n, &totals);
        machine_run({RUN_COUNT_PUBLISH, KERNEL_F32, false}, &both, sizeof(both),
                    {6, together, 256, KERNEL_COUNT_PUBLISH_BYTES}, n);
        const struct seen seen = watch_end();
        side.get();
        check_slot(side, n, slot_of(n, round), totals);
        check_taken(side, false);
        CHECK(!machine_is_emulated() || seen_at_the_end(seen, side),
              "round %d: %d whole, %d torn", (int)n, seen.whole, seen.torn);
        if (test_has_failed())
            return;
    }
}

// Words of one publication after another come in any order, in that of each
// word. Its sequences pass 2^32.
static void a_slot_is_read_whole_or_not_at_all()
{
    const size_t count = 3;
    const size_t words = (KERNEL_SLOT_HEAD_LANES + count) * KERNEL_LANE_WORDS;
    std::vector<uint64_t> slot(words);
    struct random random = random_seeded(1);

    for (uint64_t n = UINT64_C(0xffffffc5); n < UINT64_C(0x10000003f);
         n += KERNEL_SLOTS) {
        std::vector<size_t> order;
        for (size_t i = 0; i < words; i++)
            order.insert(order.begin() +
                             (long)random_below(&random, (uint32_t)i + 1),
                         i);
        for (uint64_t come = 0; come <= words; come++) {
            struct kernel_slot head;
            int64_t lanes[count];
            if (come > 0)
                slot[order[come - 1]] = n << 32 | order[come - 1];
            const enum slot_state now =
                slot_read(slot.data(), n, &head, count, lanes);
            CHECK(now == (come == words ? SLOT_WHOLE : SLOT_NOT_YET) ||
                      n < UINT64_C(0xffffffd0),
                  "%d words of %llu", (int)come, (unsigned long long)n);
            if (n < UINT64_C(0xffffffd0)) // before it there was none
                continue;
            const enum slot_state before =
                slot_read(slot.data(), n - KERNEL_SLOTS, &head, count, lanes);
            CHECK(come == 0 ? before == SLOT_WHOLE : before != SLOT_WHOLE,
                  "%llu, when %d words of the next have come",
                  (unsigned long long)(n - KERNEL_SLOTS), (int)come);
            CHECK(come < words || before == SLOT_PASSED, "%llu is not passed",
                  (unsigned long long)n);
            for (size_t i = 0; now == SLOT_WHOLE && i < count; i++) {
                const uint64_t low = 2 * (KERNEL_SLOT_HEAD_LANES + i);
                CHECK((uint64_t)lanes[i] == ((low + 1) << 32 | low), "lane %d",
                      (int)i);
            }
        }
    }
}

const std::vector<struct test> tests_of_slots = {
    TEST(a_rank_publishes_what_it_has_and_keeps_nothing),
    TEST(a_published_slot_is_there_when_its_last_word_is),
    TEST(a_slot_is_read_whole_or_not_at_all),
    TEST(the_last_block_of_a_count_publishes_all_of_it),
};

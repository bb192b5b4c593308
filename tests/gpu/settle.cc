// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels around a reduction on the stream, contribute and settle.
// The reduction is the test's own.
#include "gpu/side.h"

// The kernels' place in a stream: a reduction that adds up what all have put
// into their lanes.
static void reduce(struct side *const *sides)
{
    for (int i = 0; i < RANKS; i++)
        sides[i]->lanes.get();
    std::vector<int64_t> all = sides[0]->lanes.host;
    const size_t sums = sides[0]->channels * NUMERIC_LANES;
    for (int i = 1; i < RANKS; i++)
        for (size_t l = 0; l < all.size(); l++) {
            const int64_t x = sides[i]->lanes.host[l];
            if (l < sums)
                all[l] = numeric_add(all[l], x);
            else
                all[l] = x > all[l] ? x : all[l];
        }
    for (int i = 0; i < RANKS; i++) {
        sides[i]->lanes.host = all;
        sides[i]->lanes.put();
    }
}

struct trio {
    struct side a, b, c;
    struct side *const all[RANKS] = {&a, &b, &c};
    uint64_t step_of_b = STEP;

    explicit trio(const struct shape &shape)
        : a(shape.channels, shape.max_lanes),
          b(shape.channels, shape.max_lanes), c(shape.channels, shape.max_lanes)
    {
    }
    struct totals gather(const struct round &round, struct random *random)
    {
        for (struct side *side : all)
            draw(side, random);
        return totals_of(all, RANKS, round.maxima);
    }
    void contribute(const struct round &round)
    {
        for (int i = 0; i < RANKS; i++)
            all[i]->contribute(round, i, i == 1 ? step_of_b : STEP);
    }
    void settle(const struct round &round)
    {
        for (struct side *side : all) {
            side->settle(round);
            side->get();
        }
    }
};

// To the bit: there may be NaNs.
static bool same_scales(const std::vector<float> &a,
                        const std::vector<float> &b)
{
    return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A round in which all goes well at all.
static void check_round(struct trio *trio, uint64_t n,
                        const struct round &round, struct random *random)
{
    const std::vector<float> before = trio->a.scales.host;
    const bool weights = (round.carries & KERNEL_SLOT_WEIGHTS) != 0;
    const struct totals totals = trio->gather(round, random);

    trio->contribute(round);
    for (struct side *side : trio->all) {
        side->get();
        check_taken(*side, round.maxima);
        CHECK(side->mirror.host[0].started == n &&
                  side->mirror.host[0].finished == n - 1,
              "%llu has started", (unsigned long long)n);
    }
    reduce(trio->all);
    trio->settle(round);
    for (struct side *side : trio->all) {
        check_slot(*side, n, slot_of((n + 1) / 2, round), totals);
        CHECK(side->mirror.host[0].finished == n, "%llu has not finished",
              (unsigned long long)n);
        CHECK(same_scales(side->scales.host, weights ? totals.scales : before),
              "other scales");
    }
}

static void a_stream_gets_the_totals_of_all_ranks()
{
    for (const struct shape &shape : shapes) {
        struct trio trio(shape);
        struct random random = random_seeded(shape.channels + 100);
        for (uint64_t n = 1; n <= KERNEL_SLOTS + 2 && !test_has_failed(); n++)
            check_round(&trio, n, round_of(n, shape.channels), &random);
    }
}

enum fault {
    MISSES_A_RANK,
    HAS_A_RANK_TWICE,
    IS_OF_ANOTHER_STEP,
    IS_OF_ANOTHER_SEQUENCE,
    IS_OF_ANOTHER_CHANNEL,
    HAS_A_WRONG_BIT,
    IS_OF_A_DEAD_GROUP,
    FAULTS
};

static bool all_nan(const std::vector<float> &scales)
{
    for (float scale : scales)
        if (scale == scale)
            return false;
    return true;
}

// 0: nothing of that sequence is there.
static uint32_t carries_of(const struct side &side, uint64_t sequence)
{
    struct kernel_slot head = {};
    std::vector<int64_t> lanes;

    return side.read(side.slots.host.data(), sequence, &head, &lanes) ==
                   SLOT_WHOLE
               ? head.carries
               : 0;
}

static const char *const fault_names[FAULTS] = {
    "a rank is missing", "a rank twice",    "another step",
    "another sequence",  "another channel", "a wrong bit",
    "the group is dead",
};

// Between contribute and the reduction: one channel of one rank's lanes.
static void spoil(struct trio *trio, enum fault fault, uint32_t k,
                  const std::vector<int64_t> &stale)
{
    struct side &side = trio->b;
    const size_t bytes = sizeof(struct numeric_record);

    for (struct side *one : trio->all)
        one->lanes.get();
    int64_t *record = &side.lanes.host[k * NUMERIC_LANES];
    const int64_t *other =
        &side.lanes.host[(k + 1) % side.channels * NUMERIC_LANES];
    if (fault == MISSES_A_RANK)
        memset(record, 0, bytes);
    if (fault == HAS_A_RANK_TWICE) // in the place of another's
        memcpy(record, &trio->c.lanes.host[k * NUMERIC_LANES], bytes);
    if (fault == IS_OF_ANOTHER_SEQUENCE)
        memcpy(record, &stale[k * NUMERIC_LANES], bytes);
    if (fault == IS_OF_ANOTHER_CHANNEL)
        memcpy(record, other, bytes);
    if (fault == HAS_A_WRONG_BIT)
        record[4] ^= 1;
    side.lanes.put();
    for (struct side *one : trio->all) {
        one->mirror.get();
        one->mirror.host[0].dead = fault == IS_OF_A_DEAD_GROUP;
        one->mirror.put();
    }
}

static void check_fault(enum fault fault, uint32_t k, uint64_t seed)
{
    struct trio trio({64, 2});
    struct random random = random_seeded(seed);
    const struct round weights = round_of(1, seed);

    trio.gather(weights, &random);
    trio.contribute(weights);
    trio.b.lanes.get();
    const std::vector<int64_t> stale = trio.b.lanes.host;
    reduce(trio.all);
    trio.settle(weights);
    CHECK(carries_of(trio.a, 1) == weights.carries, "poisoned before");
    // From the one that is wrong on none is right.
    for (uint64_t n = 2; n <= 3; n++) {
        const struct round round = round_of(1, seed + n);
        trio.gather(round, &random);
        if (n == 2 && fault == IS_OF_ANOTHER_STEP)
            trio.step_of_b = STEP + 1;
        trio.contribute(round);
        trio.step_of_b = STEP;
        if (n == 2)
            spoil(&trio, fault, k, stale);
        reduce(trio.all);
        trio.settle(round);
        for (const struct side *side : trio.all) {
            CHECK(carries_of(*side, n) ==
                          (round.carries | KERNEL_SLOT_POISONED) &&
                      side->mirror.host[0].finished == 1,
                  "%s, channel %u, round %d", fault_names[fault], k, (int)n);
            CHECK(all_nan(side->scales.host), "%s: a scale",
                  fault_names[fault]);
        }
    }
}

static void what_is_not_of_all_ranks_poisons_all_that_follows()
{
    for (int fault = 0; fault < FAULTS; fault++)
        for (uint64_t seed = 0; seed < 8 && !test_has_failed(); seed++)
            check_fault((enum fault)fault, (uint32_t)(seed * 9), seed + 1);
}

// Too large a sum leaves no scale of this epoch a number, and harms no other.
static void a_sum_that_does_not_fit_is_told_to_all_channels()
{
    struct trio trio({64, 1});
    struct random random = random_seeded(1);
    const struct round round = round_of(1, 1);

    for (struct side *side : trio.all)
        draw(side, &random);
    trio.b.records.host[40].weight_hi = INT64_MAX / RANKS + 1;
    trio.b.records.put();
    trio.contribute(round);
    reduce(trio.all);
    trio.settle(round);
    for (const struct side *side : trio.all) {
        struct kernel_slot head = {};
        std::vector<int64_t> lanes;
        CHECK(side->read(side->slots.host.data(), 1, &head, &lanes) ==
                  SLOT_WHOLE,
              "nothing settled");
        const struct numeric_record *records =
            (const struct numeric_record *)lanes.data();
        for (uint32_t k = 0; k < side->channels; k++)
            CHECK(numeric_record_overflowed(&records[k]) == (k == 40),
                  "channel %u", k);
        CHECK(head.carries == round.carries &&
                  side->mirror.host[0].finished == 1,
              "the group is taken for dead");
        CHECK(all_nan(side->scales.host), "a scale");
    }
    for (uint64_t n = 2; n <= 3 && !test_has_failed(); n++)
        check_round(&trio, n, round_of(n, 1), &random);
}

static void a_settled_slot_is_there_when_its_last_word_is()
{
    if (!machine_is_emulated())
        return;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct trio trio({64, 14});
        struct random random = random_seeded(seed);
        const struct round round = {KERNEL_SLOT_WEIGHTS, true, seed};
        const struct totals totals = trio.gather(round, &random);
        trio.contribute(round);
        reduce(trio.all);
        watch_begin(&trio.a, 1, &totals);
        trio.a.settle(round);
        const struct seen seen = watch_end();
        CHECK(seen_at_the_end(seen, trio.a), "seed %d: %d whole, %d torn",
              (int)seed, seen.whole, seen.torn);
    }
}

const std::vector<struct test> tests_of_settling = {
    TEST(a_stream_gets_the_totals_of_all_ranks),
    TEST(what_is_not_of_all_ranks_poisons_all_that_follows),
    TEST(a_sum_that_does_not_fit_is_told_to_all_channels),
    TEST(a_settled_slot_is_there_when_its_last_word_is),
};

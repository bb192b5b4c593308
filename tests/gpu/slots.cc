// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels by which a stream hands on a step's lanes: publish, and
// contribute and settle around a reduction, which is the test's own here.
#include <math.h>
#include <string.h>

#include "gpu/tests.h"
#include "harness/exact.h"
#include "numeric/maximum.h"

#define SLOT_BYTES 8192
#define STEP 7
#define RANKS 3
#define DIVISOR 12.0

static_assert(sizeof(struct kernel_slot) +
                      KERNEL_CHANNELS_MAX * sizeof(struct numeric_record) +
                      16 * sizeof(int64_t) <=
                  SLOT_BYTES,
              "room for the lanes");

// An array of the machine, and what the test makes of it.
template <class T> struct array {
    T *at;
    std::vector<T> host;

    explicit array(size_t count) : at((T *)machine_alloc(count * sizeof(T)))
    {
        host.resize(count);
        put();
    }
    array(const array &) = delete;
    ~array()
    {
        machine_free(at);
    }
    void put()
    {
        machine_put(at, host.data(), host.size() * sizeof(T));
    }
    void get()
    {
        machine_get(host.data(), at, host.size() * sizeof(T));
    }
};

// One reduction, by an order of threads.
struct round {
    uint32_t carries;
    bool maxima;
    uint64_t seed;
};

// A rank's step.
struct side {
    uint32_t channels, max_lanes;
    array<struct kernel_state> state{1};
    array<struct kernel_mirror> mirror{1};
    array<struct numeric_record> records;
    array<int64_t> maxima, lanes;
    array<char> slots{KERNEL_SLOTS * SLOT_BYTES};
    array<float> scales;

    side(uint32_t of_channels, uint32_t of_max_lanes)
        : channels(of_channels), max_lanes(of_max_lanes), records(of_channels),
          maxima(of_max_lanes),
          lanes(of_channels * NUMERIC_LANES + of_max_lanes), scales(of_channels)
    {
    }

    const struct kernel_slot *slot(uint64_t sequence) const
    {
        return (const struct kernel_slot *)(slots.host.data() +
                                            sequence % KERNEL_SLOTS *
                                                SLOT_BYTES);
    }

    void run(enum kernel_name name, const void *params, size_t bytes,
             uint64_t seed)
    {
        const uint32_t shared = name == RUN_SETTLE ? KERNEL_SETTLE_BYTES : 0;

        machine_run({name, KERNEL_F32, false}, params, bytes,
                    {1, 1, KERNEL_SLOT_THREADS, shared}, seed);
    }

    void publish(const struct round &round)
    {
        const struct kernel_publish params = {state.at,
                                              slots.at,
                                              SLOT_BYTES,
                                              records.at,
                                              round.maxima ? maxima.at : NULL,
                                              channels,
                                              max_lanes,
                                              round.carries,
                                              /* micro_batches */ 5,
                                              RANKS};

        run(RUN_PUBLISH, &params, sizeof(params), round.seed);
    }

    void contribute(const struct round &round, int64_t rank, uint64_t step)
    {
        const struct kernel_contribute params = {
            state.at, mirror.at, records.at,    round.maxima ? maxima.at : NULL,
            lanes.at, step,      rank,          RANKS,
            channels, max_lanes, round.carries, 0};

        run(RUN_CONTRIBUTE, &params, sizeof(params), round.seed);
    }

    void settle(const struct round &round)
    {
        struct kernel_settle params = {
            state.at,      mirror.at, lanes.at, slots.at, SLOT_BYTES,
            scales.at,     STEP,      RANKS,    channels, max_lanes,
            round.carries, 5,         DIVISOR,  {}};

        for (uint32_t k = 0; k < channels; k++)
            params.coefficients[k] = 1 + k;
        run(RUN_SETTLE, &params, sizeof(params), round.seed + 1);
    }

    void get()
    {
        state.get();
        mirror.get();
        records.get();
        maxima.get();
        lanes.get();
        slots.get();
        scales.get();
    }
};

// Lanes as tokens leave them: not folded. Their sums are below 2^63.
static void draw(struct side *side, struct random *random)
{
    for (struct numeric_record &record : side->records.host) {
        record = {};
        record.loss_hi = exact_draw_bits(random, 28) - (1 << 27);
        record.loss_lo = exact_draw_bits(random, 50);
        record.weight_hi = exact_draw_bits(random, 28);
        record.weight_lo = exact_draw_bits(random, 50);
        record.count = exact_draw_bits(random, 20);
        record.nonfinite = exact_draw_bits(random, 3);
        record.bad_labels = exact_draw_bits(random, 3);
    }
    for (int64_t &code : side->maxima.host)
        code = numeric_maximum_encode((float)exact_draw_bits(random, 20) - 999);
    side->records.put();
    side->maxima.put();
}

// What all sides have drawn comes to.
struct totals {
    std::vector<struct numeric_record> records;
    std::vector<int64_t> maxima;
    std::vector<float> scales;
};

static struct totals totals_of(struct side *const *sides, int count,
                               bool maxima)
{
    struct totals totals;
    const struct side &first = *sides[0];

    for (uint32_t k = 0; k < first.channels; k++) {
        struct numeric_record total = {};
        exact_t loss = 0, weight = 0;
        for (int i = 0; i < count; i++) {
            const struct numeric_record &one = sides[i]->records.host[k];
            loss += exact_lanes(one.loss_hi, one.loss_lo);
            weight += exact_lanes(one.weight_hi, one.weight_lo);
            total.count += one.count;
            total.nonfinite += one.nonfinite;
            total.bad_labels += one.bad_labels;
        }
        exact_split(loss, &total.loss_hi, &total.loss_lo);
        exact_split(weight, &total.weight_hi, &total.weight_lo);
        totals.records.push_back(total);
        totals.scales.push_back(
            (float)((1 + k) * DIVISOR / ldexp((double)(int64_t)weight, -40)));
    }
    for (uint32_t i = 0; i < first.max_lanes; i++) {
        int64_t most = NUMERIC_MAXIMUM_NONE;
        for (int s = 0; s < count && maxima; s++)
            most = sides[s]->maxima.host[i] > most ? sides[s]->maxima.host[i]
                                                   : most;
        totals.maxima.push_back(most);
    }
    return totals;
}

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

// Whether a slot has what it must.
static void check_slot(const struct side &side, uint64_t sequence,
                       const struct kernel_slot &want,
                       const struct totals &totals)
{
    const struct kernel_slot *slot = side.slot(sequence);
    const struct numeric_record *records =
        (const struct numeric_record *)(slot + 1);
    const int64_t *maxima = (const int64_t *)(records + side.channels);

    CHECK(memcmp(slot, &want, sizeof(want)) == 0,
          "the slot says sequence %llu, epoch %llu, carries %u, poisoned %llu",
          (unsigned long long)slot->sequence, (unsigned long long)slot->epoch,
          slot->carries, (unsigned long long)slot->poisoned);
    CHECK(memcmp(records, totals.records.data(),
                 side.channels * sizeof(*records)) == 0,
          "other records of %u channels", side.channels);
    for (uint32_t i = 0; i < side.max_lanes; i++)
        CHECK(maxima[i] == totals.maxima[i], "MAX lane %u", i);
}

// What was handed on is gone from where it was gathered.
static void check_taken(const struct side &side, bool maxima)
{
    const struct numeric_record none = {};

    for (const struct numeric_record &record : side.records.host)
        CHECK(memcmp(&record, &none, sizeof(none)) == 0, "a record stays");
    for (int64_t code : side.maxima.host)
        CHECK((code == NUMERIC_MAXIMUM_NONE) == maxima, "a maximum: %lld",
              (long long)code);
}

static const struct shape {
    uint32_t channels, max_lanes;
} shapes[] = {{1, 0}, {1, 14}, {5, 1}, {33, 3}, {64, 14}};

static struct round round_of(uint64_t sequence, uint64_t seed)
{
    const bool ends = sequence % 2 == 0;

    return {ends ? KERNEL_SLOT_LOSSES : KERNEL_SLOT_WEIGHTS, ends,
            seed * 1000 + sequence};
}

static struct kernel_slot slot_of(uint64_t sequence, uint64_t epoch,
                                  const struct round &round)
{
    struct kernel_slot slot = {};

    slot.sequence = sequence;
    slot.epoch = epoch;
    slot.carries = round.carries;
    slot.micro_batches = 5;
    return slot;
}

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
            check_slot(side, n, slot_of(n, (n + 1) / 2, round), totals);
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

// ------------------------------------------------- a reduction on the stream

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
        check_slot(*side, n, slot_of(n, (n + 1) / 2, round), totals);
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
    CHECK(trio.a.slot(1)->poisoned == 0, "poisoned before");
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
            CHECK(side->slot(n)->poisoned == 1 &&
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
        const struct kernel_slot *slot = side->slot(1);
        const struct numeric_record *records =
            (const struct numeric_record *)(slot + 1);
        for (uint32_t k = 0; k < side->channels; k++)
            CHECK(numeric_record_overflowed(&records[k]) == (k == 40),
                  "channel %u", k);
        CHECK(slot->poisoned == 0 && side->mirror.host[0].finished == 1,
              "the group is taken for dead");
        CHECK(all_nan(side->scales.host), "a scale");
    }
    for (uint64_t n = 2; n <= 3 && !test_has_failed(); n++)
        check_round(&trio, n, round_of(n, 1), &random);
}

// ------------------------------------------------------------ what a host sees

static struct {
    const struct side *side;
    const struct totals *totals;
    uint64_t sequence;
    int whole, torn;
} watched;

// A slot that a host can take for one, or for finished.
static void look(const uint64_t *at)
{
    const struct side &side = *watched.side;
    const struct kernel_slot *slot =
        (const struct kernel_slot *)(side.slots.at + watched.sequence %
                                                         KERNEL_SLOTS *
                                                         SLOT_BYTES);
    const struct numeric_record *records =
        (const struct numeric_record *)(slot + 1);
    const size_t bytes = side.channels * sizeof(*records);

    if (at != &slot->sequence && at != &side.mirror.at->finished)
        return;
    if (slot->sequence == watched.sequence && slot->epoch != 0 &&
        slot->carries != 0 && slot->micro_batches == 5 &&
        memcmp(records, watched.totals->records.data(), bytes) == 0 &&
        memcmp((const char *)records + bytes, watched.totals->maxima.data(),
               side.max_lanes * sizeof(int64_t)) == 0)
        watched.whole++;
    else
        watched.torn++;
}

static void a_slot_is_whole_when_its_sequence_is_there()
{
    if (!machine_is_emulated())
        return;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct trio trio({64, 14});
        struct random random = random_seeded(seed);
        struct round round = round_of(2, seed);
        struct totals totals = trio.gather(round, &random);
        watched = {&trio.a, &totals, 1, 0, 0};
        trio.contribute(round);
        reduce(trio.all);
        trio.a.state.get(); // losses begin no epoch
        trio.a.state.host[0].epoch = 1;
        trio.a.state.put();
        machine_watch(look);
        trio.a.settle(round);
        machine_watch(NULL);
        CHECK(watched.whole == 2 && watched.torn == 0, "settle, seed %d: %d",
              (int)seed, watched.whole);
        draw(&trio.a, &random);
        totals = totals_of(trio.all, 1, true);
        watched = {&trio.a, &totals, 2, 0, 0};
        machine_watch(look);
        trio.a.publish(round);
        machine_watch(NULL);
        CHECK(watched.whole == 1 && watched.torn == 0, "publish, seed %d: %d",
              (int)seed, watched.whole);
    }
}

const std::vector<struct test> tests_of_slots = {
    TEST(a_rank_publishes_what_it_has_and_keeps_nothing),
    TEST(a_stream_gets_the_totals_of_all_ranks),
    TEST(what_is_not_of_all_ranks_poisons_all_that_follows),
    TEST(a_sum_that_does_not_fit_is_told_to_all_channels),
    TEST(a_slot_is_whole_when_its_sequence_is_there),
};

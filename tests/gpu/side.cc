// SPDX-License-Identifier: BSD-3-Clause
// See side.h.
#include "gpu/side.h"

#include <math.h>

#include "numeric/maximum.h"

void draw(struct side *side, struct random *random)
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

struct totals totals_of(struct side *const *sides, int count, bool maxima)
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

static bool holds(const std::vector<int64_t> &lanes,
                  const struct totals &totals)
{
    const size_t sums = totals.records.size() * NUMERIC_LANES;

    return memcmp(lanes.data(), totals.records.data(),
                  sums * sizeof(int64_t)) == 0 &&
           std::vector<int64_t>(lanes.begin() + (long)sums, lanes.end()) ==
               totals.maxima;
}

void check_slot(const struct side &side, uint64_t sequence,
                const struct kernel_slot &want, const struct totals &totals)
{
    struct kernel_slot head = {};
    std::vector<int64_t> lanes;

    if (side.read(side.slots.host.data(), sequence, &head, &lanes) !=
        SLOT_WHOLE) {
        CHECK(false, "no slot of sequence %llu", (unsigned long long)sequence);
        return;
    }
    CHECK(memcmp(&head, &want, sizeof(want)) == 0,
          "slot %llu says epoch %llu, carries %u", (unsigned long long)sequence,
          (unsigned long long)head.epoch, head.carries);
    CHECK(holds(lanes, totals), "other lanes of %u channels", side.channels);
}

void check_taken(const struct side &side, bool maxima)
{
    const struct numeric_record none = {};

    for (const struct numeric_record &record : side.records.host)
        CHECK(memcmp(&record, &none, sizeof(none)) == 0, "a record stays");
    for (int64_t code : side.maxima.host)
        CHECK((code == NUMERIC_MAXIMUM_NONE) == maxima, "a maximum: %lld",
              (long long)code);
}

const std::vector<struct shape> shapes = {
    {1, 0}, {1, 14}, {5, 1}, {33, 3}, {64, 14}};

struct round round_of(uint64_t sequence, uint64_t seed)
{
    const bool ends = sequence % 2 == 0;

    return {ends ? KERNEL_SLOT_LOSSES : KERNEL_SLOT_WEIGHTS, ends,
            seed * 1000 + sequence};
}

struct kernel_slot slot_of(uint64_t epoch, const struct round &round)
{
    return {epoch, round.carries, 5};
}

static struct {
    const struct side *side;
    const struct totals *totals;
    uint64_t sequence;
    struct seen seen;
} watched;

static void look(const uint64_t *at)
{
    const struct side &side = *watched.side;
    const char *slot =
        side.slots.at + watched.sequence % KERNEL_SLOTS * SLOT_BYTES;
    struct kernel_slot head = {};
    std::vector<int64_t> lanes;

    if ((const char *)at < slot || (const char *)at >= slot + SLOT_BYTES)
        return;
    const enum slot_state state =
        side.read(side.slots.at, watched.sequence, &head, &lanes);
    if (state == SLOT_NOT_YET)
        watched.seen.partial++;
    else if (state == SLOT_WHOLE && head.epoch != 0 && head.carries != 0 &&
             head.micro_batches == 5 && holds(lanes, *watched.totals))
        watched.seen.whole++;
    else
        watched.seen.torn++;
}

void watch_begin(const struct side *side, uint64_t sequence,
                 const struct totals *totals)
{
    watched = {side, totals, sequence, {0, 0, 0}};
    machine_watch(look);
}

struct seen watch_end()
{
    machine_watch(NULL);
    return watched.seen;
}

bool seen_at_the_end(const struct seen &seen, const struct side &side)
{
    const size_t words =
        (KERNEL_SLOT_HEAD_LANES + side.lanes.host.size()) * KERNEL_LANE_WORDS;

    return seen.whole == 1 && seen.torn == 0 && seen.partial == (int)words - 1;
}

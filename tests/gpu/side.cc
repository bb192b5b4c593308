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

void check_slot(const struct side &side, uint64_t sequence,
                const struct kernel_slot &want, const struct totals &totals)
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

struct kernel_slot slot_of(uint64_t sequence, uint64_t epoch,
                           const struct round &round)
{
    struct kernel_slot slot = {};

    slot.sequence = sequence;
    slot.epoch = epoch;
    slot.carries = round.carries;
    slot.micro_batches = 5;
    return slot;
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
        watched.seen.whole++;
    else
        watched.seen.torn++;
}

void watch_begin(const struct side *side, uint64_t sequence,
                 const struct totals *totals)
{
    watched = {side, totals, sequence, {0, 0}};
    machine_watch(look);
}

struct seen watch_end()
{
    machine_watch(NULL);
    return watched.seen;
}

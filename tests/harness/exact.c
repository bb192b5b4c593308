// SPDX-License-Identifier: BSD-3-Clause
// See exact.h.
#include "harness/exact.h"

#include <check.h>

void exact_assert_lanes(int64_t hi, int64_t lo, exact_t sum)
{
    int64_t want_hi;
    int64_t want_lo;

    exact_split(sum, &want_hi, &want_lo);
    ck_assert_int_eq(hi, want_hi);
    ck_assert_int_eq(lo, want_lo);
}

void exact_assert_record(const struct numeric_record *got,
                         const struct numeric_record *want, int seed)
{
    static const char *const name[NUMERIC_LANES] = {
        "loss_hi", "loss_lo",   "weight_hi",  "weight_lo",
        "count",   "nonfinite", "bad_labels", "reserved"};
    int64_t lanes[2][NUMERIC_LANES];

    memcpy(lanes[0], got, sizeof(lanes[0]));
    memcpy(lanes[1], want, sizeof(lanes[1]));
    for (int i = 0; i < NUMERIC_LANES; i++)
        ck_assert_msg(lanes[0][i] == lanes[1][i],
                      "seed %d: %s is %lld, not %lld", seed, name[i],
                      (long long)lanes[0][i], (long long)lanes[1][i]);
}

void exact_add_times(struct numeric_record *into,
                     const struct numeric_record *from, int64_t n, bool folds)
{
    struct numeric_record doubled = *from;

    for (int64_t left = n; left > 0; left >>= 1) {
        if (left & 1)
            numeric_record_add(into, &doubled);
        if (left > 1)
            numeric_record_add(&doubled, &doubled);
        if (folds)
            numeric_record_fold(&doubled);
    }
}

struct numeric_record exact_combine(struct numeric_record *records,
                                    uint32_t count, struct random *random)
{
    while (count > 1) {
        uint32_t from = random_below(random, count);
        struct numeric_record taken = records[from];
        records[from] = records[--count];
        uint32_t into = random_below(random, count);
        numeric_record_add(&records[into], &taken);
        if (random_below(random, 2) == 0)
            numeric_record_fold(&records[into]);
    }
    numeric_record_fold(&records[0]);
    return records[0];
}

struct numeric_record exact_draw_record(struct random *random, int64_t ranks)
{
    int64_t bound = INT64_MAX / ranks;
    struct numeric_record record = {
        .loss_hi = bound - 1 - random_below(random, 3),
        .loss_lo = 0xffffffff - random_below(random, 3),
        .weight_hi = -bound + random_below(random, 3),
        .weight_lo = random_below(random, 3),
        .count = random_below(random, 1000),
        .nonfinite = random_below(random, 3),
        .bad_labels = random_below(random, 3)};

    if (random_below(random, 3) == 0) {
        record.loss_hi = -record.loss_hi;
        record.weight_hi = -record.weight_hi - 1;
    }
    return record;
}

// SPDX-License-Identifier: BSD-3-Clause
// See lanes.h.
#include "harness/lanes.h"

#include <stdlib.h>
#include <string.h>

#include "harness/random.h"
#include "numeric/maximum.h"
#include "numeric/record.h"

size_t lanes_count(const struct lanes_shape *shape)
{
    return (size_t)shape->records * NUMERIC_LANES + shape->max_lanes;
}

static int64_t draw(struct random *random, int bits)
{
    return (int64_t)(random_next(random) >> (64 - bits)) -
           ((int64_t)1 << (bits - 1));
}

void lanes_fill(const struct lanes_shape *shape, int32_t rank,
                uint64_t sequence, int64_t *lanes)
{
    struct random random = random_seeded((uint64_t)rank << 32 ^ sequence);

    for (uint32_t i = 0; i < shape->records; i++) {
        struct numeric_record record = {
            .loss_hi = draw(&random, 50),
            .loss_lo = draw(&random, 60),
            .weight_hi = draw(&random, 40),
            .weight_lo = draw(&random, 60),
            .count = draw(&random, 48),
            .nonfinite = draw(&random, 20),
            .bad_labels = draw(&random, 20),
        };

        numeric_record_fold(&record);
        memcpy(lanes, &record, sizeof(record));
        lanes += NUMERIC_LANES;
    }
    for (uint32_t i = 0; i < shape->max_lanes; i++)
        lanes[i] = random_below(&random, 4) == 0 ? NUMERIC_MAXIMUM_NONE
                                                 : draw(&random, 63);
}

static void lanes_add(const struct lanes_shape *shape, const int64_t *from,
                      int64_t *total)
{
    size_t sums = (size_t)shape->records * NUMERIC_LANES;

    for (size_t i = 0; i < lanes_count(shape); i++) {
        if (i < sums)
            total[i] = numeric_add(total[i], from[i]);
        else if (from[i] > total[i])
            total[i] = from[i];
    }
}

void lanes_expect(const struct lanes_shape *shape, int32_t size,
                  uint64_t sequence, int64_t *lanes)
{
    int64_t *one = calloc(lanes_count(shape), sizeof(*one));

    if (one == NULL)
        abort();
    lanes_fill(shape, 0, sequence, lanes);
    for (int32_t rank = 1; rank < size; rank++) {
        lanes_fill(shape, rank, sequence, one);
        lanes_add(shape, one, lanes);
    }
    for (uint32_t i = 0; i < shape->records; i++)
        numeric_record_fold(
            (struct numeric_record *)(lanes + (size_t)i * NUMERIC_LANES));
    free(one);
}

bool lanes_equal(const struct lanes_shape *shape, const int64_t *a,
                 const int64_t *b)
{
    return memcmp(a, b, lanes_count(shape) * sizeof(int64_t)) == 0;
}

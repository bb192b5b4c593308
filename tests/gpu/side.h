// SPDX-License-Identifier: BSD-3-Clause
// A rank's step in memory of the machine, for tests of the kernels that hand on
// its lanes; and what must be in its slots then.
#ifndef GPU_SIDE_H
#define GPU_SIDE_H

#include <string.h>

#include "gpu/tests.h"
#include "harness/exact.h"
#include "order/slot.h"

#define SLOT_BYTES 8704
#define STEP 7 // its number, in seals
#define RANKS 3
#define DIVISOR 12.0

static_assert((KERNEL_SLOT_HEAD_LANES + KERNEL_CHANNELS_MAX * NUMERIC_LANES +
               16) * KERNEL_LANE_WORDS *
                      sizeof(uint64_t) <=
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

    // As the host reads it, of a copy of the slots.
    enum slot_state read(const char *copy, uint64_t sequence,
                         struct kernel_slot *head,
                         std::vector<int64_t> *of_slot) const
    {
        of_slot->resize(lanes.host.size());
        return slot_read(
            (const uint64_t *)(copy + sequence % KERNEL_SLOTS * SLOT_BYTES),
            sequence, head, of_slot->size(), of_slot->data());
    }

    void run(enum kernel_name name, const void *params, size_t bytes,
             uint64_t seed)
    {
        const uint32_t shared = name == RUN_SETTLE ? KERNEL_SETTLE_BYTES : 0;

        machine_run({name, KERNEL_F32, false}, params, bytes,
                    {1, 1, KERNEL_SLOT_THREADS, shared}, seed);
    }

    struct kernel_publish publication(const struct round &round)
    {
        return {state.at,
                slots.at,
                SLOT_BYTES,
                records.at,
                round.maxima ? maxima.at : NULL,
                channels,
                max_lanes,
                round.carries,
                /* micro_batches */ 5,
                RANKS};
    }

    void publish(const struct round &round)
    {
        const struct kernel_publish params = publication(round);

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
void draw(struct side *side, struct random *random);

// What all sides have drawn comes to.
struct totals {
    std::vector<struct numeric_record> records;
    std::vector<int64_t> maxima;
    std::vector<float> scales;
};

struct totals totals_of(struct side *const *sides, int count, bool maxima);

// Whether a slot has what it must.
void check_slot(const struct side &side, uint64_t sequence,
                const struct kernel_slot &want, const struct totals &totals);
// What was handed on is gone from where it was gathered.
void check_taken(const struct side &side, bool maxima);

struct shape {
    uint32_t channels, max_lanes;
};
extern const std::vector<struct shape> shapes;

// Weights and losses in turn.
struct round round_of(uint64_t sequence, uint64_t seed);
struct kernel_slot slot_of(uint64_t epoch, const struct round &round);

// What a host sees of a slot, between the two, each time that a word of it has
// come: how often it took it, whole and not, and how often it waited. The
// emulator alone.
struct seen {
    int whole, torn, partial;
};
void watch_begin(const struct side *side, uint64_t sequence,
                 const struct totals *totals);
struct seen watch_end();
// Whether it was taken once, whole, when the last word had come.
bool seen_at_the_end(const struct seen &seen, const struct side &side);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Who sends to whom when L leaders all-reduce by mixed-radix recursive doubling
// (the k-nomial exchange of Ruefenacht, Bull and Booth, "Generalisation of
// recursive doubling for AllReduce", 2017, with a radix for each stage). Pure:
// no messages, no state.
//
// A plan has factors f1 ... fm with product p <= L. Written in this mixed
// radix, core members 0 ... p - 1 that differ in digit i alone exchange partial
// sums in stage i. A leader beyond p gives its value to a core member first and
// gets the total from it last.
#ifndef COLLECTIVE_SCHEDULE_H
#define COLLECTIVE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_RADIX_MIN 2
#define SCHEDULE_RADIX_MAX 16
#define SCHEDULE_FACTORS_MAX 31 // leaders fit in 31 bits
#define SCHEDULE_PEERS_MAX (SCHEDULE_RADIX_MAX - 1)

struct schedule_costs {
    int64_t latency_ns; // of a round: until what was sent can be used
    int64_t message_ns; // of each further message a rank handles in a round
};

struct schedule_plan {
    int32_t leaders;
    int32_t core;   // p
    int32_t extras; // leaders - core
    int32_t factor_count;
    int32_t factors[SCHEDULE_FACTORS_MAX];
    int32_t stages;
};

// What one leader does in one stage. The values received are added, or (the
// total that an extra leader gets) replace what it has.
struct schedule_step {
    int32_t send_count;
    int32_t send_to[SCHEDULE_PEERS_MAX];
    int32_t receive_count;
    int32_t receive_from[SCHEDULE_PEERS_MAX];
    bool replaces;
};

// What all ranks reckon with. crowded: leaders outnumber processors.
const struct schedule_costs *schedule_costs_measured(bool crowded);

// The cheapest plan with factors of at most `radix` (0: SCHEDULE_RADIX_MAX, and
// what lies beyond that counts as it), the same for the same arguments.
// leaders >= 1; radix 0 or >= 2.
void schedule_plan(int32_t leaders, uint32_t radix,
                   const struct schedule_costs *costs,
                   struct schedule_plan *plan);

int64_t schedule_cost(const struct schedule_plan *plan,
                      const struct schedule_costs *costs);

// stage: 0 to plan->stages - 1.
void schedule_step(const struct schedule_plan *plan, int32_t leader,
                   int32_t stage, struct schedule_step *step);

#endif

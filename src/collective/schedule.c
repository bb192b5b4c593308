// SPDX-License-Identifier: BSD-3-Clause
// See schedule.h.
#include "collective/schedule.h"

#include <assert.h>
#include <string.h>

// Loopback TCP, as the only network that was measured: 7 us one way, of which a
// call that sends or receives costs its rank about 1.5 us. What matters is the
// ratio, and that all ranks have the same.
static const struct schedule_costs message_costs = {
    .latency_ns = 7000,
    .message_ns = 1500,
};

// Where leaders take turns on processors nothing goes on side by side, and each
// message costs its whole time.
static const struct schedule_costs crowded_costs = {
    .latency_ns = 7000,
    .message_ns = 7000,
};

const struct schedule_costs *schedule_costs_measured(bool crowded)
{
    return crowded ? &crowded_costs : &message_costs;
}

// Extra leaders of the busiest core member.
static int32_t extras_each(const struct schedule_plan *plan)
{
    return (plan->extras + plan->core - 1) / plan->core;
}

int64_t schedule_cost(const struct schedule_plan *plan,
                      const struct schedule_costs *costs)
{
    int64_t rounds = plan->stages;
    int64_t messages = 2 * (int64_t)extras_each(plan);

    for (int32_t i = 0; i < plan->factor_count; i++)
        messages += plan->factors[i] - 1;
    return rounds * costs->latency_ns + (messages - rounds) * costs->message_ns;
}

// A search through all products of factors that do not grow.
struct search {
    int32_t radix;
    const struct schedule_costs *costs;
    struct schedule_plan plan; // under way
    struct schedule_plan best;
    int64_t best_cost; // -1: none yet
};

static void search_offer(struct search *search)
{
    struct schedule_plan *plan = &search->plan;

    plan->extras = plan->leaders - plan->core;
    plan->stages = plan->factor_count + (plan->extras > 0 ? 2 : 0);
    // No member has more peers in the stages of extras than in the others.
    if (extras_each(plan) > search->radix - 1)
        return;
    int64_t cost = schedule_cost(plan, search->costs);
    if (search->best_cost >= 0 && cost >= search->best_cost)
        return;
    search->best = *plan;
    search->best_cost = cost;
}

static void search_extend(struct search *search, int32_t factor_max)
{
    struct schedule_plan *plan = &search->plan;
    int32_t core = plan->core;

    search_offer(search);
    for (int32_t factor = factor_max; factor >= SCHEDULE_RADIX_MIN; factor--) {
        if (factor > plan->leaders / core)
            continue;
        plan->core = core * factor;
        plan->factors[plan->factor_count++] = factor;
        search_extend(search, factor);
        plan->factor_count--;
    }
    plan->core = core;
}

void schedule_plan(int32_t leaders, uint32_t radix,
                   const struct schedule_costs *costs,
                   struct schedule_plan *plan)
{
    struct search search = {
        .radix = SCHEDULE_RADIX_MAX,
        .costs = costs,
        .plan = {.leaders = leaders, .core = 1},
        .best_cost = -1,
    };

    assert(leaders >= 1 && radix != 1);
    if (radix != 0 && radix < SCHEDULE_RADIX_MAX)
        search.radix = (int32_t)radix;
    search_extend(&search, search.radix);
    *plan = search.best;
}

static void step_send(struct schedule_step *step, int32_t leader)
{
    step->send_to[step->send_count++] = leader;
}

static void step_receive(struct schedule_step *step, int32_t leader)
{
    step->receive_from[step->receive_count++] = leader;
}

static void extras_gather(const struct schedule_plan *plan, int32_t leader,
                          struct schedule_step *step)
{
    if (leader >= plan->core) {
        step_send(step, leader % plan->core);
        return;
    }
    for (int32_t extra = leader + plan->core; extra < plan->leaders;
         extra += plan->core)
        step_receive(step, extra);
}

static void extras_tell(const struct schedule_plan *plan, int32_t leader,
                        struct schedule_step *step)
{
    if (leader >= plan->core) {
        step_receive(step, leader % plan->core);
        step->replaces = true;
        return;
    }
    for (int32_t extra = leader + plan->core; extra < plan->leaders;
         extra += plan->core)
        step_send(step, extra);
}

static void digit_exchange(const struct schedule_plan *plan, int32_t leader,
                           int32_t digit, struct schedule_step *step)
{
    int32_t factor = plan->factors[digit];
    int32_t weight = 1; // of the digit

    if (leader >= plan->core)
        return;
    for (int32_t i = 0; i < digit; i++)
        weight *= plan->factors[i];
    int32_t own = leader / weight % factor;
    // Each begins with the next one, so that not all send to the same first.
    for (int32_t i = 1; i < factor; i++) {
        int32_t other = (own + i) % factor;
        int32_t peer = leader + (other - own) * weight;

        step_send(step, peer);
        step_receive(step, peer);
    }
}

void schedule_step(const struct schedule_plan *plan, int32_t leader,
                   int32_t stage, struct schedule_step *step)
{
    int32_t first = plan->extras > 0 ? 1 : 0; // stage of the first digit

    assert(leader >= 0 && leader < plan->leaders);
    assert(stage >= 0 && stage < plan->stages);
    memset(step, 0, sizeof(*step));
    if (stage < first)
        extras_gather(plan, leader, step);
    else if (stage < first + plan->factor_count)
        digit_exchange(plan, leader, stage - first, step);
    else
        extras_tell(plan, leader, step);
}

// SPDX-License-Identifier: BSD-3-Clause
// One seed's configuration and faults, one run of it, and the shrinking of a
// run that broke an invariant to the faults that it needs.
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LOGS_MAX 6000
#define JUDGE_AFTER_US 400000
#define END_AFTER_US 800000

const char *fault_name(enum fault_kind kind)
{
    static const char *const names[FAULT_KINDS] = {
        [FAULT_CRASH] = "crash",
        [FAULT_RANK_CRASH] = "crash of a rank",
        [FAULT_STOP] = "stop and continue",
        [FAULT_RANK_STOP] = "stop of a rank",
        [FAULT_CUT] = "one-way partition",
        [FAULT_ISOLATE] = "isolation",
        [FAULT_SLOW] = "slow process",
        [FAULT_LOSS] = "lossy network",
        [FAULT_CLOCK] = "clock jump",
        [FAULT_SUSPECT] = "false suspicion",
        [FAULT_LEASE] = "lease lost",
        [FAULT_FORCE] = "forced lineage",
        [FAULT_VETO] = "trainer's veto",
    };

    return names[kind];
}

// Sizes: mostly the small ones, where quorums are smallest.
static void choose_size(struct random *random, struct config *config)
{
    uint32_t size = random_below(random, 100);

    config->ranks = (uint16_t)(1 + random_below(random, 3));
    if (size < 30) {
        config->replicas = 2;
        config->witness = true;
        config->acceptors = 3;
    } else if (size < 70) {
        config->replicas = 3;
        config->acceptors = 3;
        config->witness = random_below(random, 4) == 0;
    } else if (size < 97) {
        config->replicas = (uint16_t)(4 + random_below(random, 3));
        config->acceptors = random_below(random, 2) == 0 ? 3 : 5;
        config->acceptors = config->replicas < 5 ? 3 : config->acceptors;
    } else {
        config->replicas = (uint16_t)(7 + random_below(random, 10));
        config->ranks = (uint16_t)(1 + random_below(random, SIM_RANKS));
        config->acceptors = 5;
    }
}

static void choose_faults(struct random *random, struct config *config)
{
    uint16_t peers = config->replicas + config->witness;
    static const uint8_t weights[FAULT_KINDS] = {
        [FAULT_CRASH] = 24,    [FAULT_RANK_CRASH] = 8, [FAULT_STOP] = 12,
        [FAULT_RANK_STOP] = 5, [FAULT_CUT] = 14,       [FAULT_ISOLATE] = 8,
        [FAULT_SLOW] = 8,      [FAULT_LOSS] = 6,       [FAULT_CLOCK] = 3,
        [FAULT_SUSPECT] = 5,   [FAULT_LEASE] = 4,      [FAULT_FORCE] = 2,
        [FAULT_VETO] = 2,
    };

    config->fault_count = random_below(random, SIM_FAULTS / 2) +
                          random_below(random, SIM_FAULTS / 2 + 1);
    for (size_t i = 0; i < config->fault_count; i++) {
        struct fault *fault = &config->faults[i];
        uint32_t at = random_below(random, 101);
        int kind = 0;
        for (; kind < FAULT_KINDS - 1 && at >= weights[kind]; kind++)
            at -= weights[kind];
        fault->kind = (enum fault_kind)kind;
        fault->at = random_below(random, (uint32_t)config->heal_at);
        fault->peer = (uint16_t)random_below(random, peers);
        fault->other = (uint16_t)random_below(random, peers);
        fault->length = 1000 + random_below(random, 100000);
        fault->detail = random_below(random, 1u << 20);
        if (fault->kind == FAULT_RANK_CRASH || fault->kind == FAULT_RANK_STOP) {
            fault->peer = (uint16_t)random_below(random, config->replicas);
            fault->other = (uint16_t)random_below(random, config->ranks);
        }
    }
}

// Few acceptors, leaders that meet, and much that is lost or late: what is rare
// otherwise.
static void make_duels(struct random *random, struct config *config)
{
    bool late = random_below(random, 2) == 0;

    config->replicas = (uint16_t)(2 + random_below(random, 2));
    config->ranks = 1;
    config->witness = config->replicas == 2;
    config->acceptors = 3;
    config->minimum = 1;
    config->hasty = true;
    config->jitter_us =
        late ? 500 + random_below(random, 4000) : random_below(random, 1500);
    config->loss_ppm = late ? 100000 + random_below(random, 400000)
                            : 300000 + random_below(random, 300000);
    config->duplicate_ppm = late ? 100000 : 0;
    config->heal_at = 50000 + random_below(random, 100000);
}

void config_from_seed(uint64_t seed, struct config *config)
{
    struct random random = random_seeded(seed);

    memset(config, 0, sizeof(*config));
    config->seed = seed;
    choose_size(&random, config);
    config->provider = random_below(&random, 5) != 0;
    config->records = 1 + random_below(&random, SIM_RECORDS);
    config->minimum =
        config->replicas > 2 && random_below(&random, 4) == 0 ? 2 : 1;
    config->loss_ppm =
        random_below(&random, 3) == 0 ? random_below(&random, 100000) : 0;
    config->duplicate_ppm =
        random_below(&random, 3) == 0 ? random_below(&random, 100000) : 0;
    config->delay_us = 20 + random_below(&random, 500);
    config->jitter_us =
        random_below(&random, 2) == 0 ? 0 : random_below(&random, 2000);
    config->drift_ppm = random_below(&random, 3) == 0 ? 1000 : 0;
    config->heal_at = 50000 + random_below(&random, 300000);
    if (random_below(&random, 2) == 0) {
        config->hasty = true;
        config->jitter_us = 500 + random_below(&random, 6000);
        config->loss_ppm = 50000 + random_below(&random, 300000);
        config->heal_at = 50000 + random_below(&random, 100000);
    }
    if (seed >= SIM_DUELS)
        make_duels(&random, config);
    config->end_at = config->heal_at + JUDGE_AFTER_US + END_AFTER_US;
    choose_faults(&random, config);
}

void config_print(const struct config *config, FILE *out)
{
    fprintf(out,
            "seed %lu: %u replicas x %u ranks, %u acceptors%s, minimum %u, "
            "%s%s; loss %u ppm, duplicates %u ppm, delay %ld + %ld us, "
            "drift %d ppm, heals at %.1f ms\n",
            config->seed, config->replicas, config->ranks, config->acceptors,
            config->witness ? " (a witness)" : "", config->minimum,
            config->provider ? "provider" : "static",
            config->hasty ? ", hasty leaders" : "", config->loss_ppm,
            config->duplicate_ppm, config->delay_us, config->jitter_us,
            config->drift_ppm, (double)config->heal_at / 1000);
    for (size_t i = 0; i < config->fault_count; i++) {
        const struct fault *fault = &config->faults[i];
        if (!fault->off)
            fprintf(out, "  at %9.3f ms  %-18s p%u, %u; %.1f ms, %u\n",
                    (double)fault->at / 1000, fault_name(fault->kind),
                    fault->peer, fault->other, (double)fault->length / 1000,
                    fault->detail);
    }
}

static void cut(struct world *world, uint16_t from, uint16_t to, int64_t length)
{
    if (from != to)
        world->cut_until[from][to] = world->now + length;
}

static void strike_process(struct world *world, const struct fault *fault)
{
    struct process *of = &world->processes[fault->peer];

    switch (fault->kind) {
    case FAULT_CRASH:
        of->crash_armed = true;
        of->crash_after = fault->detail % 5 == 0 ? 100 : fault->detail % 7;
        break;
    case FAULT_STOP:
        of->stopped_until = world->now + fault->length;
        break;
    case FAULT_SLOW:
        of->slow_until = world->now + fault->length;
        break;
    case FAULT_CLOCK:
        of->clock_offset += fault->length;
        if (of->alive)
            world_rearm(world, fault->peer);
        break;
    case FAULT_VETO:
        of->veto = true;
        break;
    default:
        break;
    }
}

// An operator lists who is there; one of them may crash on its next message,
// which may be the one that asks it to seal.
static void force(struct world *world, const struct fault *fault)
{
    if (!world->config->provider)
        return;
    provider_force(world, fault->detail | replica_bit(fault->peer));
    if (fault->detail % 3 != 0)
        return;
    world->processes[fault->other].crash_armed = true;
    world->processes[fault->other].crash_after = fault->detail % 2;
}

static void strike(struct world *world, const struct fault *fault)
{
    struct shards *shards = &world->shards[fault->peer];

    world_trace(world, "fault: %s of p%u, %u, %.1f ms", fault_name(fault->kind),
                fault->peer, fault->other, (double)fault->length / 1000);
    world->tally.faults[fault->kind]++;
    switch (fault->kind) {
    case FAULT_RANK_CRASH:
        if (fault->other == 0)
            world_schedule(world, 0, HAPPENS_DIES, fault->peer);
        else
            trainer_rank_lost(world, fault->peer, fault->other);
        break;
    case FAULT_RANK_STOP:
        shards->ranks[fault->other].stopped_until = world->now + fault->length;
        break;
    case FAULT_CUT:
        cut(world, fault->peer, fault->other, fault->length);
        break;
    case FAULT_ISOLATE:
        for (uint16_t other = 0; other < world->peers; other++) {
            cut(world, fault->peer, other, fault->length);
            cut(world, other, fault->peer, fault->length);
        }
        break;
    case FAULT_LOSS:
        world->loss_until = world->now + fault->length;
        break;
    case FAULT_SUSPECT:
        world->suspected_until[fault->peer] = world->now + fault->length;
        break;
    case FAULT_LEASE:
        world->lease_lost_until[fault->peer] = world->now + fault->length;
        break;
    case FAULT_FORCE:
        force(world, fault);
        break;
    default:
        strike_process(world, fault);
        break;
    }
}

// From here on there are no faults.
static void heal(struct world *world)
{
    world_trace(world, "the network heals");
    world->healed = true;
    world->loss_until = 0;
    memset(world->cut_until, 0, sizeof(world->cut_until));
    memset(world->suspected_until, 0, sizeof(world->suspected_until));
    memset(world->lease_lost_until, 0, sizeof(world->lease_lost_until));
    for (uint16_t i = 0; i < 2 * SIM_PEERS; i++) {
        struct process *of = &world->processes[i];
        of->crash_armed = false;
        of->slow_until = 0;
    }
}

struct world *world_create(void)
{
    struct world *world = calloc(1, sizeof(*world));

    assert(world != NULL);
    world->log_pool = calloc(LOGS_MAX, sizeof(world->log_pool[0]));
    assert(world->log_pool != NULL);
    world->log_room = LOGS_MAX;
    for (int i = 0; i < 2 * SIM_PEERS; i++) {
        world->processes[i].node = calloc(1, replica_memory());
        assert(world->processes[i].node != NULL);
    }
    return world;
}

static void forget(struct world *world)
{
    struct happening happening;

    while (world->heap_count > 0) {
        happening = world->heap[--world->heap_count];
        free(happening.bytes);
    }
}

void world_destroy(struct world *world)
{
    forget(world);
    for (int i = 0; i < 2 * SIM_PEERS; i++)
        free(world->processes[i].node);
    free(world->heap);
    free(world->log_pool);
    free(world);
}

static void reset(struct world *world, const struct config *config, FILE *trace)
{
    struct world kept;

    forget(world);
    kept.heap = world->heap;
    kept.heap_room = world->heap_room;
    kept.log_pool = world->log_pool;
    for (int i = 0; i < 2 * SIM_PEERS; i++)
        kept.processes[i].node = world->processes[i].node;
    memset(world, 0, offsetof(struct world, epochs));
    memset(world->logs, 0, sizeof(*world) - offsetof(struct world, logs));
    world->heap = kept.heap;
    world->heap_room = kept.heap_room;
    world->log_pool = kept.log_pool;
    world->log_room = LOGS_MAX;
    for (int i = 0; i < 2 * SIM_PEERS; i++)
        world->processes[i].node = kept.processes[i].node;
    world->config = config;
    world->random = random_seeded(config->seed ^ 0x5eed);
    world->trace = trace;
    world->peers = config->replicas + config->witness;
}

static void begin(struct world *world)
{
    const struct config *config = world->config;
    struct replica_position initial;

    provider_begin(world);
    initial = world_initial(world);
    for (uint16_t peer = 0; peer < world->peers; peer++)
        world_start(world, peer, &initial);
    for (size_t i = 0; i < config->fault_count; i++)
        if (!config->faults[i].off)
            world_schedule(world, config->faults[i].at, HAPPENS_FAULT,
                           SIM_NOBODY)
                ->rank = (uint16_t)i;
    world_schedule(world, config->heal_at, HAPPENS_HEAL, SIM_NOBODY);
    world_schedule(world, config->heal_at + JUDGE_AFTER_US, HAPPENS_JUDGE,
                   SIM_NOBODY);
}

bool run(struct world *world, const struct config *config, FILE *trace)
{
    struct happening happening;

    reset(world, config, trace);
    begin(world);
    while (world->violation[0] == '\0' && world_take(world, &happening)) {
        if (happening.at > config->end_at ||
            (world->must_progress &&
             world->furthest > world->furthest_judged + 3)) {
            free(happening.bytes);
            break;
        }
        world->now = happening.at;
        world->tally.events++;
        if (happening.kind == HAPPENS_FAULT)
            strike(world, &config->faults[happening.rank]);
        else if (happening.kind == HAPPENS_HEAL)
            heal(world);
        else if (happening.kind == HAPPENS_JUDGE)
            check_judge(world);
        else
            world_happens(world, &happening);
        free(happening.bytes);
    }
    check_end(world);
    return world->violation[0] == '\0';
}

// Whatever can be left out while some invariant still breaks, is.
void shrink(struct world *world, struct config *config)
{
    bool smaller = true;

    while (smaller) {
        smaller = false;
        for (size_t i = 0; i < config->fault_count; i++) {
            if (config->faults[i].off)
                continue;
            config->faults[i].off = true;
            if (run(world, config, NULL))
                config->faults[i].off = false;
            else
                smaller = true;
        }
    }
    uint32_t *rates[] = {&config->loss_ppm, &config->duplicate_ppm};
    for (size_t i = 0; i < 2; i++) {
        uint32_t rate = *rates[i];
        *rates[i] = 0;
        if (run(world, config, NULL))
            *rates[i] = rate;
    }
    int64_t jitter = config->jitter_us;
    config->jitter_us = 0;
    if (run(world, config, NULL))
        config->jitter_us = jitter;
    int32_t drift = config->drift_ppm;
    config->drift_ppm = 0;
    if (run(world, config, NULL))
        config->drift_ppm = drift;
    uint16_t ranks = config->ranks;
    config->ranks = 1;
    if (run(world, config, NULL))
        config->ranks = ranks;
}

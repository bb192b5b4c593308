// SPDX-License-Identifier: BSD-3-Clause
// Runs seeds of the replica simulator, in as many processes as there are
// processors, and says what was seen; a seed that breaks an invariant is run
// again, shrunk, and printed as a schedule.
//     sim_replica [--seeds N] [--from SEED] [--jobs N] [--table] [--brief]
//     sim_replica --seed SEED          that one, with its whole schedule
#include "sim.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct totals {
    struct tally_of_run tally;
    uint64_t seeds;
    uint64_t violations;
    uint64_t first; // seed that broke an invariant
};

static void add(struct totals *totals, const struct tally_of_run *tally)
{
    const uint64_t *from = (const uint64_t *)(const void *)tally;
    uint64_t *to = (uint64_t *)(void *)&totals->tally;

    for (size_t i = 0; i < sizeof(*tally) / sizeof(*to); i++)
        to[i] += from[i];
}

// Until one of the jobs has found something.
static void run_share(uint64_t from, uint64_t count, uint64_t step,
                      _Atomic bool *found, struct totals *totals)
{
    struct world *world = world_create();
    struct config config;

    for (uint64_t seed = from; seed < from + count && !*found; seed += step) {
        config_from_seed(seed, &config);
        bool held = run(world, &config, NULL);
        totals->seeds++;
        add(totals, &world->tally);
        if (held)
            continue;
        fprintf(stderr, "seed %lu: %s\n", seed, world->violation);
        *found = true;
        totals->violations = 1;
        totals->first = seed;
        break; // one is enough to look at
    }
    world_destroy(world);
}

static void show(uint64_t seed)
{
    struct world *world = world_create();
    struct config config;

    config_from_seed(seed, &config);
    if (run(world, &config, NULL)) {
        run(world, &config, stdout);
    } else {
        printf("%s\nshrinking\n", world->violation);
        shrink(world, &config);
        run(world, &config, stdout);
        printf("\n%s\n", world->violation);
    }
    config_print(&config, stdout);
    world_destroy(world);
}

static void print_table(const struct totals *totals)
{
    const struct tally_of_run *tally = &totals->tally;

    printf("| what | how many |\n|---|---|\n");
    printf("| seeds | %lu |\n", totals->seeds);
    printf("| events | %lu |\n", tally->events);
    printf("| messages | %lu |\n", tally->messages);
    printf("| decisions COUNT, ABORT | %lu, %lu |\n",
           tally->decided[REPLICA_COUNT], tally->decided[REPLICA_ABORT]);
    printf("| decisions APPLY, RETRY, DISCARD | %lu, %lu, %lu |\n",
           tally->decided[REPLICA_APPLY], tally->decided[REPLICA_RETRY],
           tally->decided[REPLICA_DISCARD]);
    printf("| of all these by the slow path | %lu |\n", tally->slow);
    printf("| epochs decided, lineages forced | %lu, %lu |\n", tally->epochs,
           tally->lineages);
    printf("| optimizer steps of a replica | %lu |\n", tally->applied);
    printf("| slots ended by their deadline | %lu |\n", tally->expired);
    printf("| takeovers, restores | %lu, %lu |\n", tally->takeovers,
           tally->restores);
    printf("| runs held to progress (8) | %lu |\n", tally->judged);
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        printf("| fault: %s | %lu |\n", fault_name((enum fault_kind)kind),
               tally->faults[kind]);
    printf("| violations | %lu |\n", totals->violations);
}

static void print_line(const struct totals *totals)
{
    uint64_t faults = 0;

    for (int kind = 0; kind < FAULT_KINDS; kind++)
        faults += totals->tally.faults[kind];
    printf("%lu seeds, %lu events, %lu faults, %lu violations\n", totals->seeds,
           totals->tally.events, faults, totals->violations);
}

// Each job has every jobs-th seed.
static struct totals run_jobs(uint64_t from, uint64_t count, long jobs)
{
    struct totals totals = {0};
    int pipes[64][2];
    _Atomic bool *found = mmap(NULL, sizeof(*found), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (found == MAP_FAILED)
        exit(1);

    for (long job = 0; job < jobs; job++) {
        struct totals share = {0};
        if (pipe(pipes[job]) != 0)
            exit(1);
        pid_t child = fork();
        if (child < 0)
            exit(1);
        if (child > 0)
            continue;
        run_share(from + (uint64_t)job, count - (uint64_t)job, (uint64_t)jobs,
                  found, &share);
        ssize_t written = write(pipes[job][1], &share, sizeof(share));
        exit(written == (ssize_t)sizeof(share) ? 0 : 1);
    }
    for (long job = 0; job < jobs; job++) {
        struct totals share = {0};
        int status;
        close(pipes[job][1]);
        if (read(pipes[job][0], &share, sizeof(share)) !=
            (ssize_t)sizeof(share)) {
            fprintf(stderr, "a job broke off\n");
            totals.violations++;
        }
        wait(&status);
        add(&totals, &share.tally);
        totals.seeds += share.seeds;
        if (share.violations > 0 &&
            (totals.violations == 0 || share.first < totals.first))
            totals.first = share.first;
        totals.violations += share.violations;
    }
    return totals;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},
        {"jobs", required_argument, NULL, 'j'},
        {"table", no_argument, NULL, 't'},
        {"brief", no_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seeds = 1000;
    uint64_t from = 1;
    long jobs = sysconf(_SC_NPROCESSORS_ONLN);
    bool table = false;
    bool brief = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            seeds = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            from = strtoull(optarg, NULL, 10);
            break;
        case 's':
            show(strtoull(optarg, NULL, 10));
            return 0;
        case 'j':
            jobs = strtol(optarg, NULL, 10);
            break;
        case 't':
            table = true;
            break;
        case 'b':
            brief = true;
            break;
        default:
            return 2;
        }
    }
    jobs = jobs > 64 ? 64 : jobs;
    jobs = (uint64_t)jobs > seeds ? (long)seeds : jobs;
    struct totals totals = run_jobs(from, seeds, jobs);
    if (table)
        print_table(&totals);
    else
        print_line(&totals);
    fflush(stdout);
    if (totals.violations > 0 && totals.first > 0 && !brief)
        show(totals.first);
    return totals.violations == 0 ? 0 : 1;
}

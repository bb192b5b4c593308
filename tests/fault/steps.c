// SPDX-License-Identifier: BSD-3-Clause
// A rank that does steps and, at one of them, something bad: for tests of what
// the others see. It prints one line for each thing that the tests look for.
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fault/small_job.h"

struct act {
    const char *name; // "die", "stop", "leave", "idle", or NULL
    int rank;
    int step;
};

static int usage(void)
{
    fprintf(stderr, "usage: steps STEPS [die|stop|leave|idle RANK STEP]\n");
    return 2;
}

static int failed(const char *what)
{
    printf("%s: %s\n", what, tally_last_error());
    return 1;
}

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Returns whether this rank is to go on.
static bool do_act(const struct act *act)
{
    if (strcmp(act->name, "die") == 0)
        raise(SIGKILL);
    if (strcmp(act->name, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(act->name, "idle") == 0)
        sleep(30);
    return strcmp(act->name, "leave") != 0;
}

static int run(const struct act *act, int steps)
{
    struct small_job job = {0};

    if (small_job_open(&job) != TALLY_OK)
        return failed("open");
    for (int i = 1; i <= steps; i++) {
        if (act->name != NULL && act->rank == job.rank && act->step == i &&
            !do_act(act))
            break;
        double begin = seconds_now();
        if (small_job_step(&job, 1 + job.rank) != TALLY_OK) {
            printf("step %d failed within %.0f s: %s\n", i,
                   seconds_now() - begin + 0.5, tally_last_error());
            break;
        }
    }
    if (small_job_close(&job) != TALLY_OK)
        return failed("close");
    printf("closed\n");
    return 0;
}

int main(int argc, char **argv)
{
    struct act act = {0};

    if (argc != 2 && argc != 5)
        return usage();
    if (argc == 5)
        act = (struct act){argv[2], atoi(argv[3]), atoi(argv[4])};
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(&act, atoi(argv[1]));
}

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
    const char *name; // NULL: none
    int rank;
    int step;
    bool again; // ranks below it do steps in a new group when this one is dead
};

static int usage(void)
{
    fprintf(stderr,
            "usage: steps STEPS [ACT RANK STEP [again]]\n"
            "ACT: die, stop, leave, idle, or a command for the shell\n");
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
    if (strcmp(act->name, "leave") == 0)
        return false;
    if (strcmp(act->name, "idle") == 0)
        sleep(10); // twice the deadline of the others
    else if (strcmp(act->name, "stop") != 0)
        printf("%s: %d\n", act->name, system(act->name));
    return true;
}

static bool counts_all(tally_step_t *step, int64_t tokens)
{
    tally_channel_result_t total = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    result.channels = &total;
    result.channel_capacity = 1;
    return tally_step_result(step, 0, TALLY_RESULT_WAIT, &result) == TALLY_OK &&
           total.count == tokens;
}

// Those below `end` go on without the others.
static int go_on(struct small_job *job, int32_t end, int steps)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    int32_t ranks[64];
    int64_t tokens = 0;

    for (int32_t i = 0; i < end; i++) {
        ranks[i] = i;
        tokens += 1 + i;
    }
    params.ranks = ranks;
    params.rank_count = end;
    params.key = "again";
    if (small_job_leave(job) != TALLY_OK)
        return failed("free");
    if (small_job_enter(job, &params) != TALLY_OK)
        return failed("again");
    for (int i = 1; i <= steps; i++)
        if (small_job_step(job, 1 + job->rank) != TALLY_OK ||
            !counts_all(job->step, tokens))
            return failed("again");
    printf("again: %d ranks did %d steps\n", (int)end, steps);
    return 0;
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
    if (act->again && job.rank < act->rank && act->rank <= 64 &&
        go_on(&job, act->rank, steps) != 0)
        return 1;
    if (small_job_close(&job) != TALLY_OK)
        return failed("close");
    printf("closed\n");
    return 0;
}

int main(int argc, char **argv)
{
    struct act act = {0};

    if (argc != 2 && argc != 5 && argc != 6)
        return usage();
    if (argc > 2)
        act = (struct act){argv[2], atoi(argv[3]), atoi(argv[4]), argc == 6};
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(&act, atoi(argv[1]));
}

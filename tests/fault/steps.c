// SPDX-License-Identifier: BSD-3-Clause
// A rank that does steps and, at one of them, something bad: for tests of what
// the others see. It prints one line for each thing that the tests look for.
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>
#include <time.h>
#include <unistd.h>

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
        sleep(30);
    else if (strcmp(act->name, "stop") != 0)
        printf("%s: %d\n", act->name, system(act->name));
    return true;
}

static tally_status_t one_step(tally_step_t *step, int64_t tokens)
{
    static const int32_t values[64] = {0};
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    tally_status_t status;

    labels.type = TALLY_I32;
    labels.values = values;
    labels.tokens = tokens;
    status = tally_step_begin(step, 1, NULL);
    if (status == TALLY_OK)
        status = tally_step_count(step, 0, &labels, NULL);
    if (status == TALLY_OK)
        status = tally_step_reduce(step, NULL);
    if (status == TALLY_OK)
        status = tally_step_end(step, NULL);
    return status;
}

static tally_status_t create_step(tally_group_t *group, tally_step_t **out)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);

    channel.vocab = 1;
    params.channels = &channel;
    params.channel_count = 1;
    return tally_step_create(group, &params, out);
}

static int free_all(tally_group_t *group, tally_step_t *step)
{
    if (tally_step_free(step) != TALLY_OK ||
        tally_group_free(group) != TALLY_OK)
        return failed("free");
    return 0;
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
static int go_on(tally_t *tally, int32_t rank, int32_t end, int steps)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    int32_t ranks[64];
    tally_group_t *group;
    tally_step_t *step;
    int64_t tokens = 0;

    for (int32_t i = 0; i < end; i++) {
        ranks[i] = i;
        tokens += 1 + i;
    }
    params.ranks = ranks;
    params.rank_count = end;
    params.key = "again";
    if (tally_group_create(tally, &params, &group) != TALLY_OK)
        return failed("again");
    if (create_step(group, &step) != TALLY_OK)
        return failed("again");
    for (int i = 1; i <= steps; i++)
        if (one_step(step, 1 + rank) != TALLY_OK || !counts_all(step, tokens))
            return failed("again");
    printf("again: %d ranks did %d steps\n", (int)end, steps);
    return free_all(group, step);
}

static int run(const struct act *act, int steps)
{
    tally_group_t *group;
    tally_step_t *step;
    tally_t *tally;
    int32_t rank, ranks;

    if (tally_open(NULL, &tally) != TALLY_OK)
        return failed("open");
    if (tally_group_create(tally, NULL, &group) != TALLY_OK)
        return failed("group");
    if (create_step(group, &step) != TALLY_OK)
        return failed("step");
    tally_rank(tally, &rank, &ranks);
    for (int i = 1; i <= steps; i++) {
        if (act->name != NULL && act->rank == rank && act->step == i &&
            !do_act(act))
            break;
        double begin = seconds_now();
        if (one_step(step, 1 + rank) != TALLY_OK) {
            printf("step %d failed within %.0f s: %s\n", i,
                   seconds_now() - begin + 0.5, tally_last_error());
            break;
        }
    }
    if (free_all(group, step) != 0)
        return 1;
    if (act->again && rank < act->rank && act->rank <= 64 &&
        go_on(tally, rank, act->rank, steps) != 0)
        return 1;
    if (tally_close(tally) != TALLY_OK)
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

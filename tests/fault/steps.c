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

static int close_all(tally_t *tally, tally_group_t *group, tally_step_t *step)
{
    if (tally_step_free(step) != TALLY_OK)
        return failed("free");
    if (tally_group_free(group) != TALLY_OK)
        return failed("free");
    if (tally_close(tally) != TALLY_OK)
        return failed("close");
    printf("closed\n");
    return 0;
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

static int run(const struct act *act, int steps)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_group_t *group;
    tally_step_t *step;
    tally_t *tally;
    int32_t rank, ranks;

    if (tally_open(NULL, &tally) != TALLY_OK)
        return failed("open");
    if (tally_group_create(tally, NULL, &group) != TALLY_OK)
        return failed("group");
    channel.vocab = 1;
    params.channels = &channel;
    params.channel_count = 1;
    if (tally_step_create(group, &params, &step) != TALLY_OK)
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
    return close_all(tally, group, step);
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

// SPDX-License-Identifier: BSD-3-Clause
// A rank that forks children, as a trainer with data-loading workers does, and
// children that execute another program. It prints a line where something is
// not as it should be, and the lines that tests of a death look for.
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/small_job.h"

#define DESCRIPTORS 1024
#define STEPS 20
// A child that is forgotten ends by itself.
#define CHILD_SECONDS 60

static int failed(const char *what)
{
    printf("%s: %s\n", what, tally_last_error());
    return 1;
}

static bool steps(struct small_job *job, const char *when)
{
    for (int i = 0; i < STEPS; i++)
        if (small_job_step(job, 1 + job->rank) != TALLY_OK)
            return failed(when) == 0;
    return true;
}

// ---------------------------------------------------------------------- exec

// What a program that is executed would get; the caller's set.
static void list_inherited(bool *inherited)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        int flags = fcntl(fd, F_GETFD);

        inherited[fd] = flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
}

// In the program that was executed: whether it has no others than named.
static int check_inherited(const char *named)
{
    int extra = 0;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && named[fd] != '1') {
            char path[32], target[128] = "";

            snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
            (void)!readlink(path, target, sizeof(target) - 1);
            printf("an executed program has descriptor %d, %s\n", fd, target);
            extra++;
        }
    return extra;
}

static bool exec_is_clean(const bool *before)
{
    char named[DESCRIPTORS + 1] = "";
    int status;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        named[fd] = before[fd] ? '1' : '0';
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "forks", "inherited", named, (char *)NULL);
        _exit(127);
    }
    return waitpid(child, &status, 0) == child && status == 0;
}

// --------------------------------------------------------------------- forks

enum ending { EXITS, EXITS_AT_ONCE, IS_KILLED, ENDINGS };

static pid_t start_child(enum ending ending)
{
    pid_t child = fork();

    if (child != 0)
        return child;
    alarm(CHILD_SECONDS);
    if (ending == EXITS)
        exit(0);
    if (ending == EXITS_AT_ONCE)
        _exit(0);
    for (;;)
        pause();
}

static bool end_child(pid_t child, enum ending ending)
{
    int status;

    if (ending == IS_KILLED)
        kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child)
        return false;
    return ending == IS_KILLED ? WIFSIGNALED(status) : status == 0;
}

static bool forks_do_no_harm(struct small_job *job)
{
    for (enum ending ending = EXITS; ending < ENDINGS; ending++) {
        pid_t child = start_child(ending);

        if (!steps(job, "beside a child"))
            return false;
        if (!end_child(child, ending)) {
            printf("child %d did not end well\n", (int)ending);
            return false;
        }
        if (!steps(job, "after a child"))
            return false;
    }
    return true;
}

// Children from before and after the open, and programs.
static int work(void)
{
    struct small_job job = {0};
    bool before[DESCRIPTORS];
    pid_t early = start_child(IS_KILLED);

    list_inherited(before);
    if (small_job_open(&job) != TALLY_OK)
        return failed("open");
    if (!steps(&job, "steps") || !exec_is_clean(before) ||
        !forks_do_no_harm(&job) || !end_child(early, IS_KILLED))
        return 1;
    return small_job_close(&job) == TALLY_OK ? 0 : failed("close");
}

// A rank dies whose child lives on.
static int die(int rank)
{
    struct small_job job = {0};

    if (small_job_open(&job) != TALLY_OK)
        return failed("open");
    if (!steps(&job, "steps"))
        return 1;
    if (job.rank == rank) {
        start_child(IS_KILLED);
        raise(SIGKILL);
    }
    if (small_job_step(&job, 1) != TALLY_OK)
        failed("step");
    if (small_job_close(&job) != TALLY_OK)
        return failed("close");
    printf("closed\n");
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "inherited") == 0)
        return check_inherited(argv[2]);
    if (argc == 3 && strcmp(argv[1], "die") == 0)
        return die(atoi(argv[2]));
    if (argc == 2 && strcmp(argv[1], "work") == 0)
        return work();
    fprintf(stderr, "usage: forks work | die RANK\n");
    return 2;
}

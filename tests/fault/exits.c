// SPDX-License-Identifier: BSD-3-Clause
// A rank whose process exits without tally_close, in the midst of something,
// and lingers when the libraries' destructors have run: nothing of Tally's may
// run then.
//     exits HOW LIBRARY
// LIBRARY's destructor lingers (lingering.c). Its exit status is EXIT_MEANT.
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fault/small_job.h"

#define EXIT_MEANT 43
#define EXIT_CALLED 91  // the log was called when it was gone
#define EXIT_RUNNING 92 // a thread did something after exit's handlers
#define EXIT_NOT_ENDED 93
#define AT_MOST_MS 20
#define STILL_MS 50
#define LOOKS 50
#define LATE_MS 40 // a destructor lingers by then

static struct small_job job;
static pthread_t exiting;
static atomic_bool gone; // the host program
static atomic_bool late; // libraries go

static void nap_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

// The first instants are where most goes on.
static void nap_at_random(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    srand((unsigned)now.tv_nsec ^ (unsigned)getpid());
    nap_ms(rand() % AT_MOST_MS);
}

// ------------------------------------------------------------- after the exit

// How often the thread was given a processor; 0: it is not one of Tally's.
static long switches(const char *thread)
{
    char path[320], line[128], name[32] = "";
    long sum = 0, value;

    snprintf(path, sizeof(path), "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "Name: %31s", name) == 1)
            continue;
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &value) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %ld", &value) == 1)
            sum += value;
    }
    fclose(file);
    return strncmp(name, "tally-", 6) == 0 ? sum : 0;
}

static long all_switches(void)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    long sum = 0;

    if (folder == NULL)
        abort();
    while ((entry = readdir(folder)) != NULL)
        if (atoi(entry->d_name) != gettid())
            sum += switches(entry->d_name);
    closedir(folder);
    return sum;
}

// The last steps of who lies down may take a while.
static bool all_stand_still(void)
{
    for (int i = 0; i < LOOKS; i++) {
        long before = all_switches();

        nap_ms(STILL_MS);
        if (all_switches() == before)
            return true;
    }
    return false;
}

// Registered before the library's own handler, so called after it.
static void host_goes(void)
{
    exiting = pthread_self();
    atomic_store(&gone, true);
    if (!all_stand_still())
        _exit(EXIT_RUNNING);
    atomic_store(&late, true);
}

static void host_closes(void)
{
    if (small_job_close(&job) == TALLY_OK)
        return;
    printf("close: %s\n", tally_last_error());
    fflush(stdout);
    _exit(EXIT_NOT_ENDED);
}

// ------------------------------------------------------------------ the ranks

static void take_line(void *context, tally_log_level_t level, const char *line)
{
    const bool *exits = context;

    (void)level;
    (void)line;
    if (atomic_load(&gone) && !pthread_equal(pthread_self(), exiting))
        _exit(EXIT_CALLED);
    if (*exits && !pthread_equal(pthread_self(), exiting))
        exit(EXIT_MEANT);
}

// A reduction for which rank 0 does not come.
static void post(void)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I32;
    if (job.rank > 0 && (tally_step_begin(job.step, 1, NULL) != TALLY_OK ||
                         tally_step_count(job.step, 0, &labels, NULL) != 0 ||
                         tally_step_reduce(job.step, NULL) != TALLY_OK))
        exit(1);
}

static void *go_on(void *argument)
{
    while (small_job_step(&job, 1) == TALLY_OK)
        ;
    return argument;
}

static void *wait_for_reduction(void *argument)
{
    if (job.rank > 0)
        tally_step_wait(job.step, NULL);
    return argument;
}

static void *close_job(void *argument)
{
    small_job_step(&job, 1);
    small_job_close(&job);
    return argument;
}

static void *close_late(void *argument)
{
    while (!atomic_load(&late))
        nap_ms(1);
    nap_ms(LATE_MS);
    return close_job(argument);
}

static void begin_beside(void *(*body)(void *argument))
{
    pthread_t beside;

    if (pthread_create(&beside, NULL, body, NULL) != 0 ||
        pthread_detach(beside) != 0)
        exit(1);
}

static void pend(void)
{
    post();
}

static void step(void)
{
    begin_beside(go_on);
}

static void wait_beside(void)
{
    post();
    begin_beside(wait_for_reduction);
}

static void close_beside(void)
{
    begin_beside(close_job);
}

static void close_too_late(void)
{
    post();
    begin_beside(close_late);
}

// The deadline passes: the progress thread says so, and exits.
static void exit_in_log(void)
{
    post();
    if (job.rank > 0)
        for (;;)
            pause();
    nap_ms(1000);
}

struct way {
    const char *name;
    void (*goes)(void);
    void (*at_exit)(void); // registered before tally_open, or between it
    bool after_open;       // and tally_group_create
    bool exits_in_log;
};

static const struct way ways[] = {
    {"pending", pend, host_goes, false, false},
    {"opened", pend, host_goes, true, false},
    {"stepping", step, host_goes, false, false},
    {"waiting", wait_beside, host_goes, false, false},
    {"closing", close_beside, host_goes, false, false},
    {"late", close_too_late, host_goes, false, false},
    {"log", exit_in_log, host_goes, false, true},
    {"closes", pend, host_closes, false, false},
};

static int failed(const char *what)
{
    printf("%s: %s\n", what, tally_last_error());
    return 1;
}

static int run(const struct way *way, const char *library)
{
    static bool exits_in_log;
    tally_host_t host = TALLY_INIT(tally_host_t);

    exits_in_log = way->exits_in_log;
    exiting = pthread_self();
    host.log = take_line;
    host.context = &exits_in_log;
    if (!way->after_open)
        atexit(way->at_exit);
    if (tally_open(&host, &job.tally) != TALLY_OK ||
        tally_rank(job.tally, &job.rank, &job.ranks) != TALLY_OK)
        return failed("open");
    if (way->after_open)
        atexit(way->at_exit);
    if (small_job_enter(&job, NULL) != TALLY_OK)
        return failed("group");
    // After those of the transports, and so it lingers when they are gone.
    if (dlopen(library, RTLD_NOW) == NULL)
        return failed(dlerror());
    way->goes();
    nap_at_random();
    return EXIT_MEANT;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            return run(&ways[i], argv[2]);
    fprintf(stderr, "usage: exits HOW LIBRARY\n");
    return 2;
}

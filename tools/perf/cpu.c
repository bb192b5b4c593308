// SPDX-License-Identifier: BSD-3-Clause
// See cpu.h.
#include "perf/cpu.h"

#include <math.h>
#include <time.h>

#include "perf/measure.h"

#define IDLE_S 2
#define LATE_S 1

// What the process has used, and the time of it.
struct usage {
    int64_t cpu_ns;
    int64_t time_ns;
};

static struct usage usage_now(void)
{
    struct timespec cpu;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return (struct usage){
        .cpu_ns = (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec,
        .time_ns = samples_now_ns(),
    };
}

static double cost_since(const struct usage *before)
{
    struct usage now = usage_now();

    return (double)(now.cpu_ns - before->cpu_ns) /
           (double)(now.time_ns - before->time_ns);
}

static void sleep_s(time_t seconds)
{
    struct timespec left = {seconds, 0};

    while (nanosleep(&left, &left) != 0)
        ;
}

// One step without tokens; the cost of its wait.
static tally_status_t step_once(tally_step_t *step, double *cost)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I32;
    tally_status_t status = tally_step_begin(step, 1, NULL);
    if (status == TALLY_OK)
        status = tally_step_count(step, 0, &labels, NULL);
    if (status == TALLY_OK)
        status = tally_step_reduce(step, NULL);
    if (status != TALLY_OK)
        return status;
    struct usage before = usage_now();
    status = tally_step_wait(step, NULL);
    *cost = cost_since(&before);
    if (status != TALLY_OK)
        return status;
    return tally_step_end(step, NULL);
}

static tally_status_t measure(tally_step_t *step, bool late,
                              struct cpu_cost *out)
{
    tally_status_t status = step_once(step, &out->waiting);

    if (status != TALLY_OK)
        return status;
    struct usage before = usage_now();
    sleep_s(IDLE_S);
    out->idle = cost_since(&before);
    status = step_once(step, &out->waiting);
    if (status != TALLY_OK)
        return status;
    if (late)
        sleep_s(LATE_S);
    return step_once(step, &out->waiting);
}

tally_status_t cpu_measure(tally_t *tally, int32_t rank, int32_t ranks,
                           struct cpu_cost *out)
{
    struct measure_step opened;
    tally_status_t status =
        measure_step_open(tally, "perf.cpu", ranks, 1, &opened);

    if (status != TALLY_OK)
        return status;
    status = measure(opened.step, rank == ranks - 1, out);
    measure_step_close(&opened);
    if (ranks == 1)
        out->waiting = NAN;
    return status;
}

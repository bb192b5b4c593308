// SPDX-License-Identifier: BSD-3-Clause
// The ranks of a job in one process, each a node of its own, that all-reduce
// over a simulated network by the code that ships (collective/allreduce.h). How
// ranks find each other is not simulated: addresses, topology and plan are made
// once and shared, so that a hundred thousand ranks find room.
#ifndef TRANSPORT_SIM_JOB_H
#define TRANSPORT_SIM_JOB_H

#include "collective/allreduce.h"
#include "transport/sim/sim.h"

struct sim_job;

struct sim_job_params {
    int32_t size;
    struct sim_options network;
    uint32_t records;
    uint32_t max_lanes;
    uint32_t radix;                   // as in allreduce_params
    const struct schedule_plan *plan; // used by create only; NULL: by radix
};

tally_status_t sim_job_create(const struct sim_job_params *params,
                              struct sim_job **out);
void sim_job_free(struct sim_job *job);

// To change or cut. What it says of time goes on from run to run.
struct sim_network *sim_job_network(struct sim_job *job);

// Reductions of all ranks, each rank's back to back.
struct sim_job_run {
    uint64_t reductions;
    // What a rank gives to its reduction `sequence`: 1, 2, ... since create.
    void (*fill)(void *context, int32_t rank, uint64_t sequence,
                 int64_t *lanes);
    // What it got. NULL: nobody asks.
    void (*done)(void *context, int32_t rank, uint64_t sequence,
                 const int64_t *total);
    void *context;
    int32_t late; // a rank that begins after the others; SIM_NOBODY
    int64_t late_ns;
    int64_t timeout_ns; // of one reduction at a rank, from when it begins it
};

struct sim_job_result {
    int32_t failed;  // ranks
    int64_t time_ns; // from when ranks begin until the last one is done
};

// Returns when every rank is done or has failed.
struct sim_job_result sim_job_run(struct sim_job *job,
                                  const struct sim_job_run *run);

// How a rank fares: OK, or how it failed, for which it takes no part any more.
tally_status_t sim_job_status(const struct sim_job *job, int32_t rank);

// The rank that it waited for when it failed; -1: not known.
int32_t sim_job_awaited(const struct sim_job *job, int32_t rank);

#endif

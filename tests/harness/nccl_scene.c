// SPDX-License-Identifier: BSD-3-Clause
// See nccl_scene.h.
#include "harness/nccl_scene.h"

#include <check.h>
#include <dlfcn.h>
#include <limits.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "core/stream.h"

#define TRAINERS 15 // number of the trainer's communicators
#define ROUNDS 20

struct nccl_scene nccl_scene;
const struct nccl_setup nccl_own = {.transport = "nccl"};
const struct nccl_setup nccl_adopting = {.transport = "nccl",
                                         .adopts = {true, true, true}};

static void *load(const char *file)
{
    void *library;
    char path[PATH_MAX];

    snprintf(path, sizeof(path), BUILD_FOLDER "/tests/harness/nccl/.libs/%s",
             file);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    return library;
}

void nccl_scene_load(void)
{
    nccl_scene.cuda = dlsym(load("libcuda.so.1"), MADE_UP_CUDA);
    nccl_scene.nccl = dlsym(load("libnccl.so.2"), MADE_UP_NCCL);
    ck_assert(nccl_scene.cuda != NULL && nccl_scene.nccl != NULL);
}

// A communicator as a trainer makes one. It is not counted as Tally's.
static void *trainers_communicator(int rank, int ranks)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
    __typeof__(ncclCommInitRankConfig) *init;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    const int number = TRAINERS;
    ncclUniqueId id;
    ncclComm_t comm;

    config.blocking = 0;
    memset(&id, 0, sizeof(id));
    memcpy(id.internal, &number, sizeof(number));
    *(void **)&init = dlsym(library, "ncclCommInitRankConfig");
    ck_assert_int_eq(init(&comm, ranks, id, rank, &config), ncclInProgress);
    atomic_fetch_sub(&nccl_scene.nccl->inits, 1);
    dlclose(library);
    return comm;
}

void nccl_scene_open(struct job *job, struct ranks_member *member,
                     const struct nccl_setup *setup)
{
    const char *settings[] = {"TALLY_TRANSPORT",
                              setup->transport,
                              "TALLY_PLUGIN_PATH",
                              BUILD_FOLDER "/.libs",
                              "TALLY_TIMEOUT",
                              "2",
                              "TALLY_LOG",
                              "info",
                              "TALLY_BOOTSTRAP_TIMEOUT",
                              setup->timeout != NULL ? setup->timeout : "120",
                              NULL};

    job_open(job, member, settings);
    if (setup->adopts[member->rank])
        job->group->nccl_comm = trainers_communicator(
            setup->turned ? NCCL_SCENE_RANKS - 1 - member->rank : member->rank,
            member->size);
}

static void wait_done(struct made_up_stream *stream)
{
    const struct timespec nap = {0, 100000};

    while (atomic_load(&stream->pending) > 0)
        nanosleep(&nap, NULL);
}

static void reduce(struct job *job, int32_t rank, int32_t round)
{
    struct made_up_stream stream = {.pending = 0};
    int64_t lanes[NCCL_SCENE_LANES];

    for (int k = 0; k < NCCL_SCENE_LANES; k++)
        lanes[k] = (int64_t)(k + round) * (rank + 1);
    ck_assert_int_eq(stream_reduce(job->group, lanes, NCCL_SCENE_LANES - 1, 1,
                                   (void *)&stream),
                     TALLY_OK);
    wait_done(&stream);
    for (int k = 0; k < NCCL_SCENE_LANES - 1; k++)
        ck_assert_int_eq(lanes[k],
                         (int64_t)(k + round) *
                             (NCCL_SCENE_RANKS * (NCCL_SCENE_RANKS + 1) / 2));
    ck_assert_int_eq(lanes[NCCL_SCENE_LANES - 1],
                     (int64_t)(NCCL_SCENE_LANES - 1 + round) *
                         NCCL_SCENE_RANKS);
}

void nccl_scene_reduce(struct ranks_member *member)
{
    const struct nccl_setup *setup = member->argument;
    tally_group_info_t info = TALLY_INIT(tally_group_info_t);
    struct job job;

    nccl_scene_open(&job, member, setup);
    ck_assert_msg(stream_join(job.group) == TALLY_OK, "%s", core_error_text());
    ck_assert_int_eq(stream_join(job.group), TALLY_OK); // it has one
    ck_assert_int_eq(tally_group_describe(job.group, &info), TALLY_OK);
    ck_assert_str_eq(info.transport, "nccl");
    for (int32_t round = 0; round < ROUNDS; round++)
        reduce(&job, member->rank, round);
    // So that nobody takes a communicator away that others still use.
    ranks_barrier(member);
    job_close(&job);
}

void nccl_scene_check(int open)
{
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->violations), 0);
    ck_assert_int_eq(atomic_load(&nccl_scene.nccl->open), open);
    ck_assert_int_eq(atomic_load(&nccl_scene.cuda->open), 0);
}

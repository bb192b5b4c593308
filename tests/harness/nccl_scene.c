// SPDX-License-Identifier: BSD-3-Clause
// See nccl_scene.h.
#include "harness/nccl_scene.h"

#include <check.h>
#include <dlfcn.h>
#include <limits.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

static void *load(const char *build, const char *file)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/tests/harness/nccl/.libs/%s", build, file);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    return library;
}

struct nccl_scene nccl_scene_load(const char *build)
{
    struct nccl_scene scene = {
        dlsym(load(build, "libcuda.so.1"), MADE_UP_CUDA),
        dlsym(load(build, "libnccl.so.2"), MADE_UP_NCCL),
    };

    ck_assert(scene.cuda != NULL && scene.nccl != NULL);
    return scene;
}

void *nccl_scene_communicator(const struct nccl_scene *scene, int number,
                              int rank, int ranks)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
    __typeof__(ncclCommInitRankConfig) *init;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    ncclComm_t comm;

    config.blocking = 0;
    memset(&id, 0, sizeof(id));
    memcpy(id.internal, &number, sizeof(number));
    *(void **)&init = dlsym(library, "ncclCommInitRankConfig");
    ck_assert_int_eq(init(&comm, ranks, id, rank, &config), ncclInProgress);
    atomic_fetch_sub(&scene->nccl->inits, 1);
    dlclose(library);
    return comm;
}

void nccl_scene_check(const struct nccl_scene *scene, int open)
{
    ck_assert_int_eq(atomic_load(&scene->nccl->violations), 0);
    ck_assert_int_eq(atomic_load(&scene->nccl->open), open);
    ck_assert_int_eq(atomic_load(&scene->cuda->open), 0);
}

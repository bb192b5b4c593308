// SPDX-License-Identifier: BSD-3-Clause
// The trainer's NCCL in tests of steps, by dlopen and without its header.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/steps.h"

#define NCCL_SUCCESS 0

typedef struct {
    char internal[128];
} unique_id;

#define NCCL_FUNCTIONS(F)                                                      \
    F(ncclGetUniqueId, (unique_id *))                                          \
    F(ncclCommInitRank, (void **, int, unique_id, int))                        \
    F(ncclCommAbort, (void *))                                                 \
    F(ncclCommDestroy, (void *))

static struct {
    void *library;
#define MEMBER(name, parameters) int(*name) parameters;
    NCCL_FUNCTIONS(MEMBER)
#undef MEMBER
} nccl;

static void load(void)
{
    nccl.library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    EXPECT(nccl.library != NULL);
#define FIND(name, parameters)                                                 \
    {                                                                          \
        void *symbol = dlsym(nccl.library, #name);                             \
        EXPECT(symbol != NULL);                                                \
        memcpy(&nccl.name, &symbol, sizeof(symbol));                           \
    }
    NCCL_FUNCTIONS(FIND)
#undef FIND
}

bool nccl_reduces(void)
{
    const char *transport = getenv("TALLY_TRANSPORT");

    return transport != NULL && strcmp(transport, "nccl") == 0;
}

bool nccl_is_trainers(void)
{
    return nccl_reduces() && getenv("ADOPT") != NULL;
}

void *nccl_open(struct processes_member *member)
{
    unique_id ids[PROCESSES_MAX];
    unique_id id;
    void *comm = NULL;

    load();
    EXPECT(nccl.ncclGetUniqueId(&id) == NCCL_SUCCESS);
    processes_exchange(member, &id, ids, sizeof(id));
    EXPECT(nccl.ncclCommInitRank(&comm, member->size, ids[0], member->rank) ==
           NCCL_SUCCESS);
    return comm;
}

void nccl_abort(void *comm)
{
    EXPECT(nccl.ncclCommAbort(comm) == NCCL_SUCCESS);
}

void nccl_close(void *comm)
{
    EXPECT(nccl.ncclCommDestroy(comm) == NCCL_SUCCESS);
}

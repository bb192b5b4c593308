// SPDX-License-Identifier: BSD-3-Clause
// See gpu_work.h.
#include "bench/gpu_work.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/driver.h"

// nccl.h
#define NCCL_INT64 4
#define NCCL_SUM 0

// The driver compiles it.
static const char spin_ptx[] = ".version 7.0\n"
                               ".target sm_70\n"
                               ".address_size 64\n"
                               ".visible .entry spin(.param .u64 ns)\n"
                               "{\n"
                               "    .reg .pred %again;\n"
                               "    .reg .b64 %ns, %begin, %now;\n"
                               "    ld.param.u64 %ns, [ns];\n"
                               "    mov.u64 %begin, %globaltimer;\n"
                               "LOOK:\n"
                               "    mov.u64 %now, %globaltimer;\n"
                               "    sub.u64 %now, %now, %begin;\n"
                               "    setp.lt.u64 %again, %now, %ns;\n"
                               "    @%again bra LOOK;\n"
                               "    ret;\n"
                               "}\n";

#define WORK_FUNCTIONS(F)                                                      \
    F(cuModuleLoadData, (CUmodule *, const void *))                            \
    F(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))             \
    F(cuLaunchKernelEx,                                                        \
      (const CUlaunchConfig *, CUfunction, void **, void **))                  \
    F(cuEventCreate, (void **, unsigned int))                                  \
    F(cuEventRecord, (void *, CUstream))                                       \
    F(cuEventElapsedTime, (float *, void *, void *))

static struct {
    void *library;
    CUfunction spin;
    void *marks[2];
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define MEMBER(name, parameters) CUresult(*name) parameters;
    WORK_FUNCTIONS(MEMBER)
#undef MEMBER
} work;

static void must(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: error %d\n", what, error);
    exit(3);
}

static void *symbol(void *library, const char *name)
{
    void *found = library != NULL ? dlsym(library, name) : NULL;

    must(found == NULL, name);
    return found;
}

static void load(void)
{
    CUmodule module;

    if (work.library != NULL)
        return;
    work.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
#define FIND(name, parameters)                                                 \
    {                                                                          \
        void *found = symbol(work.library, #name);                             \
        memcpy(&work.name, &found, sizeof(found));                             \
    }
    WORK_FUNCTIONS(FIND)
#undef FIND
    must(work.cuModuleLoadData(&module, spin_ptx), "cuModuleLoadData");
    must(work.cuModuleGetFunction(&work.spin, module, "spin"), "spin");
    must(work.cuEventCreate(&work.marks[WORK_BEGIN], 0), "cuEventCreate");
    must(work.cuEventCreate(&work.marks[WORK_END], 0), "cuEventCreate");
}

void work_enqueue(tally_stream_t stream, uint64_t ns)
{
    const CUlaunchConfig config = {.gridDimX = 1,
                                   .gridDimY = 1,
                                   .gridDimZ = 1,
                                   .blockDimX = 1,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .hStream = stream};
    void *parameters[] = {&ns};

    load();
    must(work.cuLaunchKernelEx(&config, work.spin, parameters, NULL), "spin");
}

void work_mark(tally_stream_t stream, enum work_mark which)
{
    load();
    must(work.cuEventRecord(work.marks[which], stream), "cuEventRecord");
}

int64_t work_between_ns(void)
{
    float ms;

    must(work.cuEventElapsedTime(&ms, work.marks[WORK_BEGIN],
                                 work.marks[WORK_END]),
         "cuEventElapsedTime");
    return (int64_t)((double)ms * 1e6);
}

void work_all_reduce(void *lanes, size_t count, void *comm,
                     tally_stream_t stream)
{
    static int (*all_reduce)(const void *, void *, size_t, int, int, void *,
                             tally_stream_t);

    if (all_reduce == NULL) {
        void *found = symbol(dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL),
                             "ncclAllReduce");
        memcpy(&all_reduce, &found, sizeof(found));
    }
    must(all_reduce(lanes, lanes, count, NCCL_INT64, NCCL_SUM, comm, stream),
         "ncclAllReduce");
}

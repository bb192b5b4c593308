// SPDX-License-Identifier: BSD-3-Clause
// See steps.h.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda/driver.h"
#include "gpu/steps.h"

// What a trainer calls beside Tally.
#define TRAINER_FUNCTIONS(F)                                                   \
    F(cuInit, (unsigned int))                                                  \
    F(cuDeviceGetCount, (int *))                                               \
    F(cuDeviceGet, (CUdevice *, int))                                          \
    F(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                       \
    F(cuCtxSetCurrent, (CUcontext))                                            \
    F(cuCtxGetDevice, (CUdevice *))                                            \
    F(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                  \
    F(cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t))                    \
    F(cuMemcpyDtoH_v2, (void *, CUdeviceptr, size_t))                          \
    F(cuStreamCreate, (CUstream *, unsigned int))                              \
    F(cuStreamSynchronize, (CUstream))                                         \
    F(cuLaunchHostFunc, (CUstream, CUhostFn, void *))                          \
    F(cuStreamBeginCapture_v2, (CUstream, int))                                \
    F(cuStreamEndCapture, (CUstream, void **))                                 \
    F(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long))      \
    F(cuGraphLaunch, (void *, CUstream))                                       \
    F(cuGraphDestroy, (void *))                                                \
    F(cuGraphExecDestroy, (void *))

static struct {
    void *library;
#define MEMBER(name, parameters) CUresult(*name) parameters;
    TRAINER_FUNCTIONS(MEMBER)
#undef MEMBER
} gpu;

static bool load(void)
{
    gpu.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (gpu.library == NULL)
        return false;
#define FIND(name, parameters)                                                 \
    {                                                                          \
        void *symbol = dlsym(gpu.library, #name);                              \
        EXPECT(symbol != NULL);                                                \
        memcpy(&gpu.name, &symbol, sizeof(symbol));                            \
    }
    TRAINER_FUNCTIONS(FIND)
#undef FIND
    return true;
}

int gpu_count(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        int count = 0;
        if (load() && gpu.cuInit(0) == CUDA_SUCCESS)
            gpu.cuDeviceGetCount(&count);
        _exit(count < 255 ? count : 255);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status)
               ? WEXITSTATUS(status)
               : 0;
}

static void must(CUresult error, const char *what)
{
    if (error == CUDA_SUCCESS)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, error);
    _exit(3);
}

int gpu_open(int number)
{
    CUcontext context;
    CUdevice device;
    int count = 0;

    if (gpu.library == NULL)
        EXPECT(load());
    must(gpu.cuInit(0), "cuInit");
    must(gpu.cuDeviceGetCount(&count), "cuDeviceGetCount");
    must(gpu.cuDeviceGet(&device, number % count), "cuDeviceGet");
    must(gpu.cuDevicePrimaryCtxRetain(&context, device), "context");
    must(gpu.cuCtxSetCurrent(context), "context");
    return count;
}

int gpu_number(void)
{
    CUdevice device;

    must(gpu.cuCtxGetDevice(&device), "cuCtxGetDevice");
    return device;
}

void *gpu_take(size_t bytes, const void *contents)
{
    CUdeviceptr memory;

    must(gpu.cuMemAlloc_v2(&memory, bytes), "cuMemAlloc");
    if (contents != NULL)
        gpu_put((void *)(uintptr_t)memory, contents, bytes);
    return (void *)(uintptr_t)memory;
}

void gpu_put(void *to, const void *from, size_t bytes)
{
    must(gpu.cuMemcpyHtoD_v2((CUdeviceptr)(uintptr_t)to, from, bytes),
         "cuMemcpyHtoD");
    // It returns when the bytes have left `from`, on their way in the legacy
    // stream, which streams that do not block do not wait for.
    gpu_synchronize(NULL);
}

void gpu_get(void *to, const void *from, size_t bytes)
{
    must(gpu.cuMemcpyDtoH_v2(to, (CUdeviceptr)(uintptr_t)from, bytes),
         "cuMemcpyDtoH");
}

tally_stream_t gpu_stream(void)
{
    const unsigned int non_blocking = 1;
    CUstream stream;

    must(gpu.cuStreamCreate(&stream, non_blocking), "cuStreamCreate");
    return stream;
}

void gpu_synchronize(tally_stream_t stream)
{
    must(gpu.cuStreamSynchronize(stream), "cuStreamSynchronize");
}

void gpu_call(tally_stream_t stream, void (*function)(void *), void *argument)
{
    must(gpu.cuLaunchHostFunc(stream, function, argument), "cuLaunchHostFunc");
}

void gpu_capture_begin(tally_stream_t stream)
{
    const int any_unsafe_call_fails = 0; // CU_STREAM_CAPTURE_MODE_GLOBAL

    must(gpu.cuStreamBeginCapture_v2(stream, any_unsafe_call_fails),
         "cuStreamBeginCapture");
}

void *gpu_capture_end(tally_stream_t stream)
{
    void *graph, *executable;

    must(gpu.cuStreamEndCapture(stream, &graph), "cuStreamEndCapture");
    must(gpu.cuGraphInstantiateWithFlags(&executable, graph, 0),
         "cuGraphInstantiate");
    must(gpu.cuGraphDestroy(graph), "cuGraphDestroy");
    return executable;
}

void gpu_replay(void *graph, tally_stream_t stream)
{
    must(gpu.cuGraphLaunch(graph, stream), "cuGraphLaunch");
}

void gpu_forget(void *graph)
{
    must(gpu.cuGraphExecDestroy(graph), "cuGraphExecDestroy");
}

static int allgather(void *context, const void *send, void *recv, size_t bytes)
{
    processes_exchange(context, send, recv, bytes);
    return 0;
}

int rank_open(struct rank *rank, struct processes_member *member)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    char id[32];

    // NCCL lets ranks share a GPU only if it takes them for different hosts.
    snprintf(id, sizeof(id), "rank%d", (int)member->rank);
    const int gpus = gpu_open(member->rank);
    if (gpus < member->size)
        setenv("NCCL_HOSTID", id, 1);
    rank->comm = nccl_is_trainers() ? nccl_open(member) : NULL;
    params.nccl_comm = rank->comm;
    rank->on_stream = false;
    rank->member = member;
    rank->stream = gpu_stream();
    host.context = member;
    host.allgather = allgather;
    host.rank = member->rank;
    host.world_size = member->size;
    EXPECT(tally_open(&host, &rank->tally) == TALLY_OK);
    EXPECT(tally_group_create(rank->tally, &params, &rank->group) == TALLY_OK);
    return gpus;
}

void rank_abort(struct rank *rank)
{
    if (rank->comm != NULL)
        nccl_abort(rank->comm);
    rank->comm = NULL;
}

void rank_close(struct rank *rank)
{
    EXPECT(tally_group_free(rank->group) == TALLY_OK);
    EXPECT(tally_close(rank->tally) == TALLY_OK);
    gpu_synchronize(rank->stream);
    if (rank->comm != NULL)
        nccl_close(rank->comm);
}

tally_status_t rank_try_step(const struct rank *rank, tally_order_t order,
                             uint32_t max_lanes, tally_device_t device,
                             tally_step_t **step)
{
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);

    channel.vocab = 1000;
    params.order = order;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = &channel;
    params.channel_count = 1;
    params.max_lanes = max_lanes;
    params.device = device;
    return tally_step_create(rank->group, &params, step);
}

tally_step_t *rank_step(struct rank *rank, tally_order_t order,
                        tally_device_t device)
{
    tally_group_info_t info = TALLY_INIT(tally_group_info_t);
    tally_step_t *step;

    EXPECT(rank_try_step(rank, order, 1, device, &step) == TALLY_OK);
    EXPECT(tally_group_describe(rank->group, &info) == TALLY_OK);
    EXPECT(
        (strcmp(info.transport, "nccl") == 0) ==
        (rank->on_stream || (nccl_reduces() && device == TALLY_DEVICE_CUDA)));
    rank->on_stream = strcmp(info.transport, "nccl") == 0;
    return step;
}

tally_labels_t labels_at(const void *values, int64_t tokens)
{
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    labels.type = TALLY_I64;
    labels.values = values;
    labels.tokens = tokens;
    return labels;
}

struct body {
    void (*run)(struct processes_member *, const void *);
    const void *argument;
};

static void run_body(struct processes_member *member)
{
    const struct body *body = member->argument;

    body->run(member, body->argument);
}

void must_end(int32_t ranks,
              void (*run)(struct processes_member *, const void *),
              const void *argument, const enum processes_end *ends)
{
    const struct body body = {run, argument};

    if (processes_run(ranks, run_body, &body, ends) != 0)
        exit(1);
}

void must_return(int32_t ranks,
                 void (*run)(struct processes_member *, const void *),
                 const void *argument)
{
    must_end(ranks, run, argument, NULL);
}

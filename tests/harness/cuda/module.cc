// SPDX-License-Identifier: BSD-3-Clause
// Modules and launches. Whatever the image, a module has the kernels of
// kernels/tally.cu, which run on the emulator, and bench/gpu_work.c's.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/cuda/double.h"
#include "kernels/gpu.h"
#include "kernels/simt/simt.h"

namespace
{

struct kernel {
    const char *name;
    unsigned threads; // at most
    size_t params;
    void (*run)(const void *params);
};

// By name; made before main.
std::map<std::string, struct kernel> &kernels()
{
    static auto &map = *new std::map<std::string, struct kernel>;

    return map;
}

template <auto entry> struct named;
template <class P, void (*entry)(P)> struct named<entry> {
    static void run(const void *params)
    {
        entry(*(const P *)params);
    }
    named(const char *name, unsigned threads)
    {
        kernels()[name] = {name, threads, sizeof(P), run};
    }
};

// Every kernel of the file enters itself under its name.
#undef GPU_KERNEL
#define GPU_KERNEL(threads, blocks, name, params)                              \
    void name(const params);                                                   \
    const struct named<name> name##_named(#name, threads);                     \
    void name(const params)
#include "kernels/tally.cu"

void spin(const uint64_t ns)
{
    const struct timespec nap = {(time_t)(ns / 1000000000),
                                 (long)(ns % 1000000000)};

    nanosleep(&nap, NULL);
}
const struct named<spin> spin_named("spin", 1);

} // namespace

using namespace cuda_double;

#define FATBIN_MAGIC 0xba55ed50u
#define SHARED_BYTES (48 << 10) // without asking for more

struct CUmod_st {
    CUcontext context;
};

struct CUfunc_st {
    CUmodule module;
    struct kernel kernel;
};

static void module_delete(CUmodule module)
{
    for (auto at = all.functions.begin(); at != all.functions.end();)
        if ((*at)->module == module) {
            delete *at;
            at = all.functions.erase(at);
        } else {
            at++;
        }
    all.modules.erase(module);
    delete module;
}

void cuda_double::modules_end(CUcontext context)
{
    const std::set<CUmodule> modules = all.modules;

    for (CUmodule module : modules)
        if (module->context == context)
            module_delete(module);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    uint32_t magic;

    if (image == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&magic, image, sizeof(magic));
    if (magic != FATBIN_MAGIC && memcmp(image, ".version", 8) != 0)
        return CUDA_ERROR_INVALID_IMAGE;
    *module = new CUmod_st{context_current()};
    all.modules.insert(*module);
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module)
{
    CALL(CALL_CONTEXT);
    if (all.modules.count(module) == 0)
        misused("%p is not a module, or no longer", (void *)module);
    module_delete(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module,
                             const char *name)
{
    CALL(CALL_CONTEXT);
    if (all.modules.count(module) == 0)
        misused("%p is not a module, or no longer", (void *)module);
    auto found = kernels().find(name);
    if (found == kernels().end())
        return CUDA_ERROR_NOT_FOUND;
    *function = new CUfunc_st{module, found->second};
    all.functions.insert(*function);
    return CUDA_SUCCESS;
}

static CUresult shape_of(const CUlaunchConfig *config, CUfunction function,
                         struct kernel_shape *out, bool *early)
{
    struct kernel_shape shape = {config->gridDimX, 1, config->blockDimX,
                                 config->sharedMemBytes};

    *early = false;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttribute *attribute = &config->attrs[i];
        if (attribute->id ==
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) {
            if (all.capability < 9 || all.version < 12030)
                misused("a kernel cannot be launched early here");
            *early = attribute->value.programmaticStreamSerializationAllowed;
            continue;
        }
        if (attribute->id ==
            CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE) {
            if (all.capability < 9 ||
                attribute->value.clusterSchedulingPolicyPreference < 0 ||
                attribute->value.clusterSchedulingPolicyPreference >
                    CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING)
                return CUDA_ERROR_INVALID_VALUE;
            continue;
        }
        if (attribute->id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            misused("launch attribute %d is unknown to the double",
                    attribute->id);
        if (attribute->value.clusterDim.y != 1 ||
            attribute->value.clusterDim.z != 1)
            return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        shape.cluster = attribute->value.clusterDim.x;
        if (all.capability < 9 || shape.cluster == 0 ||
            shape.cluster > KERNEL_CLUSTER_MAX ||
            shape.blocks % shape.cluster != 0)
            return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    }
    if (shape.blocks == 0 || config->gridDimY != 1 || config->gridDimZ != 1 ||
        shape.threads == 0 || shape.threads > function->kernel.threads ||
        config->blockDimY != 1 || config->blockDimZ != 1 ||
        shape.shared_bytes > SHARED_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    *out = shape;
    return CUDA_SUCCESS;
}

static CUresult kernel_run(const struct kernel &kernel,
                           const std::vector<char> &params,
                           const struct kernel_shape &shape, bool early)
{
    uint64_t seed;
    {
        guard held(all.lock);
        CUresult fault = kernel_fault(kernel.name);
        if (fault != CUDA_SUCCESS)
            return fault;
        seed = all.kernels++;
    }
    if (kernel.threads == 1) { // no warp of the emulator's
        kernel.run(params.data());
        return CUDA_SUCCESS;
    }
    simt_launch_early(early);
    simt_launch(kernel.run, params.data(), shape, seed);
    simt_launch_early(false);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function,
                          void **parameters, void **extra)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(config->hStream);
    struct kernel_shape shape;
    bool early;
    mark_ref mark;

    if (all.functions.count(function) == 0)
        misused("%p is not a function, or no longer", (void *)function);
    if (stream == NULL || function->module->context != stream->context)
        return CUDA_ERROR_INVALID_HANDLE;
    if (extra != NULL || parameters == NULL || parameters[0] == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult error = shape_of(config, function, &shape, &early);
    if (error != CUDA_SUCCESS)
        return error;
    const struct kernel kernel = function->kernel;
    const char *first = (const char *)parameters[0];
    const std::vector<char> params(first, first + kernel.params);
    error = stream_add(
        stream, [=] { return kernel_run(kernel, params, shape, early); },
        &mark);
    if (error != CUDA_SUCCESS || !all.blocking || mark == NULL)
        return error;
    return mark_wait(&held, stream->context, mark);
}

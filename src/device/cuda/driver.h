// SPDX-License-Identifier: BSD-3-Clause
// The functions of libcuda.so.1 that Tally calls, and no others: one table, by
// dlopen, with the names of the library's symbols. Types are cuda.h's in
// layout, so that a build needs no CUDA and a double can be put in its place.
#ifndef DEVICE_CUDA_DRIVER_H
#define DEVICE_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef unsigned long long CUdeviceptr;
typedef int CUdevice;
typedef int CUresult; // an enum there

#define CUDA_SUCCESS 0
#define CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT 16
#define CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR 75
#define CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS 122
#define CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION 4
#define CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE 5
#define CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING 2 // of an enum
#define CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION 6
#define CU_MEMHOSTALLOC_PORTABLE 1u
#define CU_MEMHOSTALLOC_DEVICEMAP 2u
#define CU_STREAM_PER_THREAD ((CUstream)0x2)
#define CU_STREAM_CAPTURE_STATUS_NONE 0
#define CU_STREAM_WAIT_VALUE_GEQ 0u

typedef struct CUlaunchAttribute_st {
    int id;
    char pad[4];
    union {
        char pad[64];
        struct {
            unsigned int x, y, z;
        } clusterDim;
        int clusterSchedulingPolicyPreference;
        int programmaticStreamSerializationAllowed;
    } value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig_st {
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    CUstream hStream;
    CUlaunchAttribute *attrs;
    unsigned int numAttrs;
} CUlaunchConfig;

typedef void (*CUhostFn)(void *userData);

// F(name, parameters): every function returns CUresult.
#define CUDA_DRIVER_FUNCTIONS(F)                                               \
    F(cuInit, (unsigned int flags))                                            \
    F(cuDriverGetVersion, (int *version))                                      \
    F(cuGetErrorName, (CUresult error, const char **text))                     \
    F(cuGetErrorString, (CUresult error, const char **text))                   \
    F(cuDeviceGet, (CUdevice * device, int ordinal))                           \
    F(cuDeviceGetCount, (int *count))                                          \
    F(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))      \
    F(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))        \
    F(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                         \
    F(cuCtxGetCurrent, (CUcontext * context))                                  \
    F(cuCtxGetDevice, (CUdevice * device))                                     \
    F(cuCtxPushCurrent_v2, (CUcontext context))                                \
    F(cuCtxPopCurrent_v2, (CUcontext * context))                               \
    F(cuCtxSynchronize, (void))                                                \
    F(cuModuleLoadData, (CUmodule * module, const void *image))                \
    F(cuModuleUnload, (CUmodule module))                                       \
    F(cuModuleGetFunction,                                                     \
      (CUfunction * function, CUmodule module, const char *name))              \
    F(cuMemAlloc_v2, (CUdeviceptr * memory, size_t bytes))                     \
    F(cuMemFree_v2, (CUdeviceptr memory))                                      \
    F(cuMemHostAlloc, (void **memory, size_t bytes, unsigned int flags))       \
    F(cuMemFreeHost, (void *memory))                                           \
    F(cuMemHostGetDevicePointer_v2,                                            \
      (CUdeviceptr * on_device, void *memory, unsigned int flags))             \
    F(cuMemsetD8_v2, (CUdeviceptr memory, unsigned char value, size_t bytes))  \
    F(cuLaunchKernelEx, (const CUlaunchConfig *config, CUfunction function,    \
                         void **parameters, void **extra))                     \
    F(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void *argument))  \
    F(cuStreamIsCapturing, (CUstream stream, int *status))                     \
    F(cuStreamWaitValue64_v2,                                                  \
      (CUstream stream, CUdeviceptr at, uint64_t value, unsigned int flags))

struct cuda_driver {
    void *library; // of dlopen
    int version;   // 13000: CUDA 13.0
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define CUDA_DRIVER_MEMBER(name, parameters) CUresult(*name) parameters;
    CUDA_DRIVER_FUNCTIONS(CUDA_DRIVER_MEMBER)
#undef CUDA_DRIVER_MEMBER
};

// Loads the driver, once a process; it stays loaded. Any thread.
// Errors: UNSUPPORTED: no libcuda.so.1, one that lacks a function, or no GPU.
tally_status_t cuda_driver_open(const struct cuda_driver **out);

// Of a call that failed: "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (out of
// memory)", as the thread's sentence. MEMORY for that one, else SYSTEM.
tally_status_t cuda_driver_fail(const struct cuda_driver *driver,
                                const char *what, CUresult error);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The driver's functions that the double has: those that Tally calls, as its
// table declares them, and those that a test or a trainer needs beside them.
#ifndef HARNESS_CUDA_API_H
#define HARNESS_CUDA_API_H

#include "device/cuda/driver.h"

typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

#define CUDA_ERROR_INVALID_VALUE 1
#define CUDA_ERROR_OUT_OF_MEMORY 2
#define CUDA_ERROR_NOT_INITIALIZED 3
#define CUDA_ERROR_NO_DEVICE 100
#define CUDA_ERROR_INVALID_DEVICE 101
#define CUDA_ERROR_INVALID_IMAGE 200
#define CUDA_ERROR_INVALID_CONTEXT 201
#define CUDA_ERROR_INVALID_HANDLE 400
#define CUDA_ERROR_NOT_FOUND 500
#define CUDA_ERROR_NOT_READY 600
#define CUDA_ERROR_LAUNCH_FAILED 719
#define CUDA_ERROR_NOT_PERMITTED 800
#define CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED 900
#define CUDA_ERROR_STREAM_CAPTURE_INVALIDATED 901
#define CUDA_ERROR_STREAM_CAPTURE_MERGE 902
#define CUDA_ERROR_STREAM_CAPTURE_UNMATCHED 903
#define CUDA_ERROR_STREAM_CAPTURE_UNJOINED 904
#define CUDA_ERROR_STREAM_CAPTURE_IMPLICIT 906
#define CUDA_ERROR_CAPTURED_EVENT 907
#define CUDA_ERROR_INVALID_CLUSTER_SIZE 912

#define CU_STREAM_NON_BLOCKING 1u
#define CU_STREAM_LEGACY ((CUstream)0x1)
#define CU_STREAM_CAPTURE_MODE_GLOBAL 0
#define CU_STREAM_CAPTURE_MODE_THREAD_LOCAL 1
#define CU_STREAM_CAPTURE_MODE_RELAXED 2
#define CU_STREAM_CAPTURE_STATUS_ACTIVE 1
#define CU_STREAM_CAPTURE_STATUS_INVALIDATED 2

#define CUDA_DOUBLE_FUNCTIONS(F)                                               \
    F(cuCtxSetCurrent, (CUcontext context))                                    \
    F(cuEventCreate, (CUevent * event, unsigned int flags))                    \
    F(cuEventDestroy_v2, (CUevent event))                                      \
    F(cuEventElapsedTime, (float *ms, CUevent from, CUevent to))               \
    F(cuEventQuery, (CUevent event))                                           \
    F(cuEventRecord, (CUevent event, CUstream stream))                         \
    F(cuEventSynchronize, (CUevent event))                                     \
    F(cuGraphDestroy, (CUgraph graph))                                         \
    F(cuGraphExecDestroy, (CUgraphExec exec))                                  \
    F(cuGraphInstantiateWithFlags,                                             \
      (CUgraphExec * exec, CUgraph graph, unsigned long long flags))           \
    F(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                      \
    F(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes))             \
    F(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))       \
    F(cuMemcpyDtoHAsync_v2,                                                    \
      (void *to, CUdeviceptr from, size_t bytes, CUstream stream))             \
    F(cuMemcpyHtoDAsync_v2,                                                    \
      (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))       \
    F(cuMemsetD8Async, (CUdeviceptr memory, unsigned char value, size_t bytes, \
                        CUstream stream))                                      \
    F(cuStreamBeginCapture_v2, (CUstream stream, int mode))                    \
    F(cuStreamCreate, (CUstream * stream, unsigned int flags))                 \
    F(cuStreamDestroy_v2, (CUstream stream))                                   \
    F(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                  \
    F(cuStreamQuery, (CUstream stream))                                        \
    F(cuStreamSynchronize, (CUstream stream))                                  \
    F(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags)) \
    F(cuStreamWriteValue64_v2,                                                 \
      (CUstream stream, CUdeviceptr at, uint64_t value, unsigned int flags))

#ifdef __cplusplus
extern "C" {
#endif
#define CUDA_DOUBLE_DECLARE(name, parameters)                                  \
    __attribute__((visibility("default"))) CUresult name parameters;
CUDA_DRIVER_FUNCTIONS(CUDA_DOUBLE_DECLARE)
CUDA_DOUBLE_FUNCTIONS(CUDA_DOUBLE_DECLARE)
#ifdef __cplusplus
}
#endif

#endif

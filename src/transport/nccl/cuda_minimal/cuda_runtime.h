// SPDX-License-Identifier: BSD-3-Clause
// What nccl.h takes from the CUDA runtime's headers, for a build on a host that
// has none of them. Nothing of the runtime is called.
#ifndef CUDA_MINIMAL_CUDA_RUNTIME_H
#define CUDA_MINIMAL_CUDA_RUNTIME_H

#include <stddef.h>

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#endif

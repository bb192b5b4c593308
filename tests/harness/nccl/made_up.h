// SPDX-License-Identifier: BSD-3-Clause
// An NCCL and a CUDA driver of the tests' own, for ranks that are threads of
// one process: reductions happen in memory of the host once all ranks have
// enqueued theirs. They fail, are late, or never end when they are told to, and
// count what is done to communicators. A test loads both before the backend.
#ifndef NCCL_MADE_UP_H
#define NCCL_MADE_UP_H

#include <stdatomic.h>
#include <stdbool.h>

// A CUstream: what NCCL has under way on it, and what went wrong on it.
struct made_up_stream {
    atomic_int pending;
    atomic_int error;
};

#define MADE_UP_CUDA "made_up_cuda"
struct made_up_cuda {
    int init_error; // of cuInit
    int devices;
    bool no_context;
    int memory_error; // of cuMemHostAlloc
    int stream_error; // of cuStreamQuery
    atomic_int open;  // streams and memory
};

#define MADE_UP_NCCL "made_up_nccl"
struct made_up_nccl {
    int version;
    // Tests write these; results are ncclResult_t.
    int init_error;
    atomic_int init_delay; // so many answers "in progress" after all have come
    atomic_bool absent;    // a rank never comes: no communicator gets ready
    atomic_int async_error;
    atomic_int reduce_error;
    atomic_bool in_progress; // the calls return so, and are done
    atomic_bool never_taken; // ... and are not
    atomic_bool stuck;       // reductions do not end
    atomic_bool graphs; // hold communicators: no call that ends one returns
    atomic_int wrong;   // is added to every sum

    atomic_int inits, finalizes, destroys, aborts, reductions;
    atomic_int open;       // communicators
    atomic_int violations; // of the rules: used after the end, blocking ones
};

#endif

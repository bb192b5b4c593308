// SPDX-License-Identifier: BSD-3-Clause
// What the double's files share. A stream is a thread with a queue; all state
// is under one lock, which is let go only while work runs.
#ifndef HARNESS_CUDA_DOUBLE_H
#define HARNESS_CUDA_DOUBLE_H

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "harness/cuda/api.h"
#include "harness/cuda/control.h"

namespace cuda_double
{

// How far a piece of work is.
struct mark {
    bool begun = false;
    bool done = false;
    std::chrono::steady_clock::time_point done_at;
};
typedef std::shared_ptr<struct mark> mark_ref;

struct work {
    std::function<CUresult()> run;
    std::vector<mark_ref> after; // done before this begins
    mark_ref before;             // begun before this begins
    mark_ref mark;
};

// What a capture has seen. Work is replayed in the order of the calls, which
// is one of those that the graph allows.
struct capture {
    int mode;
    std::thread::id thread;
    CUstream origin;
    bool valid = true;
    std::vector<std::function<CUresult()>> nodes;
    std::set<CUstream> unjoined; // beside the origin
};
typedef std::shared_ptr<struct capture> capture_ref;

struct allocation {
    CUcontext context;
    size_t bytes;
    char *mapped; // from here on
    size_t mapped_bytes;
    bool device;
};

struct state {
    std::mutex lock;
    std::condition_variable changed;
    bool environment = false; // has been read
    bool initialised = false;
    int devices = 1;
    int capability = 9;
    int version = 13000;
    bool blocking = false;          // CUDA_LAUNCH_BLOCKING
    bool one_queue = false;         // CUDA_DEVICE_MAX_CONNECTIONS
    mark_ref newest;                // of any stream
    std::vector<CUcontext> primary; // of each device
    std::set<CUstream> streams;
    std::set<CUevent> events;
    std::set<CUmodule> modules;
    std::set<CUfunction> functions;
    std::set<CUgraph> graphs;
    std::set<CUgraphExec> executables;
    std::set<capture_ref> captures;
    std::map<char *, struct allocation> memory;
    int running = 0; // pieces of work: device memory can be touched
    uint64_t kernels = 0;
};

// Never destroyed: threads may be at work when the process ends.
extern struct state &all;
typedef std::unique_lock<std::mutex> guard;

// A use that the driver does not survive, or not reliably.
[[noreturn]] void misused(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

// What a call needs, and does.
enum {
    CALL_ANYTIME = 0,
    CALL_INITIALISED = 1,
    CALL_CONTEXT = 2 | CALL_INITIALISED,
    CALL_UNSAFE = 4, // not while a stream captures
    CALL_WAITS = 8,
};
// Counts the call, and says whether it may go on.
CUresult call_begin(const char *name, int traits);
// Whether the kernel that begins now is to fail.
CUresult kernel_fault(const char *name);

#define MULTIPROCESSORS 6

#define CALL(traits)                                                           \
    guard held(all.lock);                                                      \
    do {                                                                       \
        CUresult refused = call_begin(__func__, traits);                       \
        if (refused != CUDA_SUCCESS)                                           \
            return refused;                                                    \
    } while (0)

extern thread_local std::vector<CUcontext> contexts; // of the thread
extern thread_local bool in_host_function;
CUcontext context_current();

// The stream that a handle means; NULL: of another context, or none.
CUstream stream_of(CUstream handle);
// To the end of the stream, or into the graph that it captures. `out`: where
// the host can wait; NULL where it need not, left alone under capture. `after`:
// what else must be done before.
CUresult stream_add(CUstream stream, std::function<CUresult()> run,
                    mark_ref *out, const mark_ref &after = NULL);
// The host waits.
CUresult mark_wait(guard *held, CUcontext context, const mark_ref &mark);
CUresult stream_drain(guard *held, CUstream stream);
void streams_end(guard *held, CUcontext context);
// Where captures forbid what the thread is about to do, they are spoilt.
bool captures_forbid();

// Of the live allocation around these bytes; NULL: there is none.
const struct allocation *memory_find(const void *at, size_t bytes);
// The bytes' place, or NULL where they are not of device or pinned memory.
char *memory_at(CUdeviceptr at, size_t bytes);
void memory_open();
void memory_close();
void memory_end(CUcontext context);
void modules_end(CUcontext context);

} // namespace cuda_double

struct CUctx_st {
    CUdevice device;
    int references;
    CUresult error; // of work that failed: every call's from then on
    CUstream legacy;
    std::map<std::thread::id, CUstream> per_thread;
};

struct CUstream_st {
    CUcontext context;
    bool legacy;
    bool blocking;
    bool ends;
    std::thread worker;
    std::deque<struct cuda_double::work> queue;
    cuda_double::mark_ref last;
    cuda_double::capture_ref capture;
};

struct CUevent_st {
    CUcontext context;
    cuda_double::mark_ref mark; // of the last record; NULL: none
    cuda_double::capture_ref capture;
    CUstream captured; // where
};

struct CUgraph_st {
    std::vector<std::function<CUresult()>> nodes;
};

struct CUgraphExec_st {
    std::shared_ptr<struct CUgraph_st> graph;
};

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a trainer calls: open and groups here; the step object is step.h, which
// this includes, as it does all that a trainer needs. It does not say how a
// transport is written (transport.h) nor how the library is loaded at run time
// (plugin.h).
//
// Conventions of these headers
//   status    every function that can fail returns a tally_status_t; outputs
//             are written only when it is TALLY_OK, unless said otherwise.
//             tally_last_error() has the sentence for the calling thread.
//   structs   begin with {size, abi}; fill them with TALLY_INIT. A caller built
//             against a smaller (older) struct works; one built against a newer
//             ABI is refused with a message that names both.
//   memory    "device" is the memory of the step's device. On the host device
//             that is ordinary memory.
//   stream    a CUstream. On the host device it is NULL: the calling thread is
//             the stream, so work is finished when the call returns, and what
//             "makes the stream wait" makes the calling thread wait.
//   threads   objects are not locked: one thread at a time for one tally_t and
//             all that was made from it, unless said otherwise. Different
//             tally_t may be used at the same time.
#ifndef TALLY_TALLY_H
#define TALLY_TALLY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TALLY_API __attribute__((visibility("default")))
#else
#define TALLY_API
#endif

// The ABI of the structs and functions below. It grows at the tail only.
#define TALLY_ABI 1u

#define TALLY_VERSION_STRING "0.1.0"

// Begins a struct, the rest being 0: tally_host_t h = TALLY_INIT(tally_host_t);
#define TALLY_INIT(type)                                                       \
    {                                                                          \
        .size = sizeof(type), .abi = TALLY_ABI                                 \
    }

typedef struct tally tally_t;
typedef struct tally_group tally_group_t;
typedef struct tally_step tally_step_t;

// A CUstream, or NULL for the host device.
typedef void *tally_stream_t;

typedef enum tally_status {
    TALLY_OK = 0,
    TALLY_NOT_YET = 1,           // not an error: ask again
    TALLY_ERR_INVALID = -1,      // an argument is wrong
    TALLY_ERR_MEMORY = -2,       // no memory, or no room in shared memory
    TALLY_ERR_SYSTEM = -3,       // a system call failed
    TALLY_ERR_CONFIG = -4,       // a TALLY_* variable is wrong
    TALLY_ERR_ABI = -5,          // built against an ABI that does not fit
    TALLY_ERR_TRANSPORT = -6,    // a transport is missing, refused or failed
    TALLY_ERR_BOOTSTRAP = -7,    // the ranks did not find each other
    TALLY_ERR_TIMEOUT = -8,      // the deadline passed (TALLY_TIMEOUT)
    TALLY_ERR_PEER = -9,         // another rank died, left or is unreachable
    TALLY_ERR_ORDER = -10,       // calls of a step out of order
    TALLY_ERR_MISMATCH = -11,    // ranks disagree on what must be equal
    TALLY_ERR_OVERFLOW = -12,    // a sum beyond 2^55
    TALLY_ERR_DEAD = -13,        // the group failed before
    TALLY_ERR_BUSY = -14,        // still in use
    TALLY_ERR_OVERWRITTEN = -15, // that epoch's result has left the ring
    TALLY_ERR_UNSUPPORTED = -16, // not built, or not possible here
    TALLY_ERR_REPLICA = -17      // this replica group is not counted
} tally_status_t;

// The text of a status: static, never NULL, any thread.
TALLY_API const char *tally_status_string(tally_status_t status);

// The sentence that explains the last error of the calling thread, "" if there
// was none. Valid until the thread's next failing call. Any thread.
TALLY_API const char *tally_last_error(void);

// The library's version ("0.1.0"), static. Any thread.
TALLY_API const char *tally_version(void);

typedef enum tally_log_level {
    TALLY_LOG_ERROR = 0,
    TALLY_LOG_WARN = 1,
    TALLY_LOG_INFO = 2,
    TALLY_LOG_DEBUG = 3
} tally_log_level_t;

// ---------------------------------------------------------------- open, close

// What the host program lends to Tally; each callback is optional. The struct
// is copied; `context` must live until tally_close.
typedef struct tally_host {
    size_t size;
    uint32_t abi;
    void *context;
    // Takes one line without newline. Called by any thread, with no lock of
    // Tally's held: so it may wait for a lock of its own, which its holder may
    // keep over calls on steps, but not over calls that open, create, free or
    // close. It must not call Tally. NULL: stderr.
    void (*log)(void *context, tally_log_level_t level, const char *line);
    // Looks up an environment variable; NULL if it is not set. NULL: getenv.
    // Called only within tally_open.
    const char *(*get_env)(void *context, const char *name);
    // Out-of-band all-gather of `bytes` bytes from each of world_size ranks
    // into recv[world_size][bytes], in the order of ranks; returns 0, or
    // anything else on failure; it blocks. Called by the thread that calls
    // tally_open, tally_group_create or tally_step_create. NULL: Tally's own
    // rendezvous over TCP, found by environment variables.
    int (*allgather)(void *context, const void *send, void *recv, size_t bytes);
    // With allgather only: who calls, of how many.
    int32_t rank;
    int32_t world_size;
} tally_host_t;

// Opens Tally, once a process (once a rank, where ranks are threads).
// host: NULL for all defaults. Blocks until all ranks of the job have come, at
// most TALLY_BOOTSTRAP_TIMEOUT. Registers a handler with atexit, which puts
// Tally's threads to rest, within a second, where exit() comes before
// tally_close; what is pending ends then, with DEAD.
// Errors: INVALID, ABI, CONFIG, BOOTSTRAP, TIMEOUT, MISMATCH, TRANSPORT,
// MEMORY, SYSTEM, UNSUPPORTED (TALLY_SECRET in a build without libcrypto).
TALLY_API tally_status_t tally_open(const tally_host_t *host, tally_t **out);

// Closes. All groups must be freed: otherwise BUSY, and nothing is closed.
// Blocks for at most the time to flush what was sent. NULL: nothing. Close when
// no rank makes groups or steps any more: Tally's own rendezvous is a tree of
// ranks under rank 0, and ranks that meet by one that closed get PEER. An exit
// handler of the host program may still free and close; only the thread that
// is in exit() is given log lines then.
TALLY_API tally_status_t tally_close(tally_t *tally);

// The rank and world size that tally_open found. NULL pointers are skipped.
TALLY_API tally_status_t tally_rank(const tally_t *tally, int32_t *rank,
                                    int32_t *world_size);

// --------------------------------------------------------------------- groups

// The ranks that share one optimizer step.
typedef struct tally_group_params {
    size_t size;
    uint32_t abi;
    // World ranks, ascending, the caller's among them; NULL: all.
    const int32_t *ranks;
    int32_t rank_count;
    // R of TALLY_GRADIENT_AVERAGE: how many ranks the framework averages over.
    // 0: rank_count. It differs where tensor-parallel duplicates are left out
    // of `ranks`.
    int32_t average_ranks;
    // Names the group, at most 31 bytes; groups that exist at the same time
    // with the same ranks need different keys. NULL: "".
    const char *key;
    // As tally_host.allgather, but over `ranks` in their order, for groups of
    // hosts that bring their own exchange. NULL: the way of tally_open.
    int (*allgather)(void *context, const void *send, void *recv, size_t bytes);
    void *context;
    // The trainer's communicator (ncclComm_t) over the same ranks in the same
    // order: steps in the memory of a CUDA device reduce over it, rather than
    // over one that Tally makes. Tally never aborts nor destroys it; its owner
    // does, after tally_group_free. At all ranks of the group, or at none; not
    // with `replica`: UNSUPPORTED. NULL: none.
    void *nccl_comm;
    // The group is one replica among several: its step (it has one) is decided
    // among them. The same at all its ranks. NULL: it is not.
    const struct tally_replica_params *replica; // replica.h
} tally_group_params_t;

// Collective over the ranks of the group: all must call it. params: NULL for
// all ranks. Blocks, at most TALLY_BOOTSTRAP_TIMEOUT.
// Errors: INVALID, ABI, MISMATCH, TRANSPORT, PEER, TIMEOUT, MEMORY, SYSTEM,
// CONFIG (a setting of replica groups is missing),
// BOOTSTRAP (the host's all-gather failed), UNSUPPORTED (a subset of ranks,
// where the host's all-gather spans all).
TALLY_API tally_status_t tally_group_create(tally_t *tally,
                                            const tally_group_params_t *params,
                                            tally_group_t **out);

// Frees. Its steps must be freed: otherwise BUSY. Not collective. NULL:
// nothing.
TALLY_API tally_status_t tally_group_free(tally_group_t *group);

// What a group is made of.
typedef struct tally_group_info {
    size_t size;
    uint32_t abi;
    int32_t rank;          // of the caller, in the group
    int32_t ranks;         // of the group
    int32_t nodes;         // sets of ranks that share memory
    int32_t local_ranks;   // ranks of the caller's node
    const char *transport; // between nodes: "ucx"; "shm" if one node holds all;
                           // "self" for one rank. Lives as long as the group.
} tally_group_info_t;

// Errors: INVALID, ABI.
TALLY_API tally_status_t tally_group_describe(const tally_group_t *group,
                                              tally_group_info_t *info);

#ifdef __cplusplus
}
#endif

#include <tally/step.h>

#include <tally/columns.h>
#include <tally/replica.h>
#include <tally/rows.h>

#endif

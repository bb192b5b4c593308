// SPDX-License-Identifier: BSD-3-Clause
// What one rank knows of itself: its environment, limits and devices. What is
// wrong with one rank alone is judged here, and travels as sentences; what is
// wrong between ranks is judged by the checks.
#ifndef FACTS_FACTS_H
#define FACTS_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bootstrap/identity.h"
#include "core/config.h"
#include "core/settings.h"
#include "core/transports.h"

// Kinds of what may be wrong with a rank alone; each is a row of the checks.
enum facts_kind {
    FACTS_REFUSED,   // values of variables
    FACTS_UNKNOWN,   // names of variables
    FACTS_LAUNCHERS, // variables of two launchers that contradict each other
    FACTS_FOREIGN,   // variables of UCX and libfabric
    FACTS_IDENTITY,  // which rank of how many, and where the root is
    FACTS_ROOT,      // whether the root can be reached
    FACTS_SHM,
    FACTS_FILES,
    FACTS_MEMLOCK,
    FACTS_NETWORK,
    FACTS_GPU,
    FACTS_TRANSPORT, // of those that TALLY_TRANSPORT names, none can be used
    FACTS_KINDS
};

#define FACTS_FOUND_BYTES 768
#define FACTS_FINE_BYTES 192

struct facts_transport {
    char name[256];  // as in struct transports_entry
    uint32_t wanted; // TALLY_TRANSPORT leaves it to be used
    uint32_t usable; // it opened
    char version[128];
    char reason[TRANSPORTS_REASON_BYTES]; // why it is not usable, ""
    char devices[512];                    // lines
};

// Travels through the exchange as it is, so it holds no pointers.
struct facts {
    int32_t rank, world_size; // -1, 0: not known
    int32_t local_size;       // as the launcher says; 0: unknown
    int32_t processors;
    uint32_t node_shm; // TALLY_NODE_SHM
    int32_t gpus;      // device files
    uint64_t boot;     // of the running kernel
    uint64_t shm_device;
    char version[32]; // of Tally
    char source[24];  // of rank and size
    char host[72];
    char kernel[136];
    char node_name[64];   // TALLY_NODE
    char settings[2048];  // lines NAME=value that must be equal
    char interfaces[512]; // lines
    char found[FACTS_KINDS][FACTS_FOUND_BYTES]; // lines: what is wrong
    char fine[FACTS_KINDS][FACTS_FINE_BYTES];   // said where nothing is
    struct facts_transport transports[TRANSPORTS_MAX];
};

// A rank by itself, and what the doctor goes on with.
struct self {
    struct facts facts;
    struct identity identity;
    bool identified;
    struct config *config; // values that are refused count as not set
    char *secret;
    struct transports *transports; // NULL: TALLY_TRANSPORT is refused
};

// Reads all but the root's. Loads and opens backends. Errors: MEMORY, SYSTEM.
tally_status_t self_open(struct self *self);
void self_close(struct self *self);

// The process's, for what looks variables up.
extern const struct identity_env facts_environment;

// NULL: the rank does not know it.
const struct facts_transport *facts_transport_find(const struct facts *facts,
                                                   const char *name);
bool facts_transport_usable(const struct facts *facts, const char *name);

// A sentence of a kind.
#define FACTS_FOUND(facts, kind, ...)                                          \
    note_add((facts)->found[kind], FACTS_FOUND_BYTES, __VA_ARGS__)

// env.c
void facts_env_read(struct self *self);

// limits.c: what was measured, and what is wrong with it.
struct facts_limits {
    int shm_errno; // why /dev/shm cannot be looked at; 0
    bool shm_read_only;
    bool shm_no_exec;
    uint64_t shm_bytes, shm_free;
    uint64_t shm_needed;
    char shm_segment[256];                    // why no segment can be made; ""
    uint64_t files, files_hard, files_needed; // UINT64_MAX: no limit
    uint64_t memlock;
    char rdma[128]; // devices: "mlx5_0 mlx5_1"; ""
};
void facts_limits_judge(const struct facts_limits *limits, struct facts *facts);
void facts_limits_read(struct self *self);

// devices.c
void facts_devices_read(struct self *self);

// root.c: whether the root's name is known; looked at before the ranks meet.
bool facts_root_resolve(struct self *self);
// Why the ranks did not meet there; blocks for a few seconds.
void facts_root_probe(struct self *self);

#endif

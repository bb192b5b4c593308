// SPDX-License-Identifier: BSD-3-Clause
// What a membership provider implements: static and callback within
// libtally.so, etcd in libtally-etcd.so, which exports the single symbol
// tallyQuorum_query. It moves bytes; what they mean is quorum.c's. It keeps no
// mutable global state, never calls getenv or printf, and is not a public ABI:
// `abi` must be equal.
//
// Threads: open, request and close come from any thread, one at a time, and do
// not wait (close: at most 2 s). The host's functions are called by the
// provider's own thread, between open and the end of close.
#ifndef QUORUM_PROVIDER_H
#define QUORUM_PROVIDER_H

#include "quorum/quorum.h"

#define QUORUM_PROVIDER_ABI 1u
#define QUORUM_PROVIDER_SYMBOL "tallyQuorum_query"
#define QUORUM_VALUE_MAX 8192

// Values that all processes share.
enum quorum_key { QUORUM_KEY_PROPOSAL, QUORUM_KEY_LINEAGE, QUORUM_KEYS };

struct quorum_value {
    uint64_t revision; // 0: there is none
    const void *bytes;
    size_t length;
};

// What quorum.c lends to a provider.
struct quorum_host_ops {
    void *context;
    const char *(*setting)(void *context, const char *name);
    void (*log)(void *context, tally_log_level_t level, const char *line);
    // The sentence for the calling thread; returns status.
    tally_status_t (*fail)(void *context, tally_status_t status,
                           const char *sentence);

    void (*registered)(void *context, uint64_t incarnation);
    void (*seen)(void *context, const struct quorum_member *member);
    void (*gone)(void *context, struct replica_name name);
    void (*fenced)(void *context, uint64_t incarnation);
    // The value as of a revision; older ones than told before are passed over.
    void (*value)(void *context, enum quorum_key key,
                  const struct quorum_value *value);
    // The end of a request: OK, MISMATCH (value() told what is there), or what
    // kept it: then a swap may have happened, or may yet.
    void (*done)(void *context, uint64_t token, tally_status_t status);
    // OK: it can be reached. The sentence is for people.
    void (*provider)(void *context, tally_status_t status,
                     const char *sentence);
};

// A read (bytes NULL: value() and then done()) or a swap of one key, if it is
// at `revision`. Both are linearizable.
struct quorum_request {
    uint64_t token;
    enum quorum_key key;
    uint64_t revision;
    const void *bytes; // copied
    size_t length;
};

struct quorum_provider;

struct quorum_provider_ops {
    uint32_t abi;
    const char *name;
    tally_status_t (*open)(const struct quorum_host_ops *host,
                           const struct quorum_params *params,
                           struct quorum_provider **out);
    // NULL: it has no values. Errors: MEMORY; else done() comes.
    tally_status_t (*request)(struct quorum_provider *provider,
                              const struct quorum_request *request);
    void (*close)(struct quorum_provider *provider);
};

typedef tally_status_t (*quorum_provider_query)(
    uint32_t abi, const struct quorum_provider_ops **out);

extern const struct quorum_provider_ops quorum_static;
extern const struct quorum_provider_ops quorum_callback;

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a provider of membership implements. Those within libtally.so are in
// quorum_providers; another is a file of its own, libtally-NAME.so, that
// exports tallyQuorum_query. It moves bytes, and knows nothing of epochs. It
// keeps no mutable global state, and never calls getenv or printf. Not a public
// ABI: `abi` must be equal.
//
// Threads: one call at a time on one object. A call that is given timeout_ms
// waits for no longer; the others do not wait.
#ifndef QUORUM_PROVIDER_H
#define QUORUM_PROVIDER_H

#include "quorum/quorum.h"

#define QUORUM_PROVIDER_ABI 1u
#define QUORUM_PROVIDER_SYMBOL "tallyQuorum_query"
#define QUORUM_VALUE_MAX 8192

// The register's value.
struct quorum_value {
    uint64_t revision; // 0: there is none
    size_t length;
    uint8_t bytes[QUORUM_VALUE_MAX];
};

// What a provider may call, within its own calls.
struct quorum_host {
    void *context;
    const char *(*setting)(void *context, const char *name);
    void (*log)(void *context, tally_log_level_t level, const char *line);
    // The sentence that goes with a status; returns status.
    tally_status_t (*fail)(void *context, tally_status_t status,
                           const char *sentence);
    // Every process that is there, this one or not; again as often as it likes.
    void (*seen)(void *context, const struct quorum_member *member);
    void (*gone)(void *context, uint16_t peer);
    void (*fenced)(void *context, uint64_t incarnation);
    void (*value)(void *context, const struct quorum_value *value);
    // Where there is a register: the operator says that this lineage is to end.
    void (*force)(void *context, uint32_t lineage);
};

struct quorum_provider;

struct quorum_provider_ops {
    uint32_t abi;
    const char *name;
    bool has_register; // of lineages: propose is there
    // Checks its settings. Params are borrowed until close. Errors: CONFIG, ...
    tally_status_t (*open)(const struct quorum_host *host,
                           const struct quorum_params *params,
                           struct quorum_provider **out);
    // Greater than at every start of the peer before.
    tally_status_t (*incarnation)(struct quorum_provider *provider,
                                  int timeout_ms, uint64_t *incarnation);
    // Makes `self` known, and is called until it returns OK. `self` is borrowed
    // until close.
    tally_status_t (*announce)(struct quorum_provider *provider, int timeout_ms,
                               const struct quorum_member *self);
    // Looks who is there, and what is in the register, and tells; keeps the
    // registration alive. An error: the provider cannot be reached.
    tally_status_t (*watch)(struct quorum_provider *provider, int timeout_ms);
    // Between looks: a descriptor of epoll, and what to do when it is ready.
    // NULL: there is none.
    int (*fd)(struct quorum_provider *provider);
    void (*serve)(struct quorum_provider *provider);
    // A linearizable read of the register, into value().
    tally_status_t (*read)(struct quorum_provider *provider, int timeout_ms);
    // Replaces the value, if it is of next->revision. OK; MISMATCH: it is not.
    // Others: it may have been replaced.
    tally_status_t (*propose)(struct quorum_provider *provider, int timeout_ms,
                              const struct quorum_value *next);
    // Takes the registration back.
    void (*close)(struct quorum_provider *provider, int timeout_ms);
};

typedef tally_status_t (*quorum_provider_query)(
    uint32_t abi, const struct quorum_provider_ops **out);

// What is within libtally.so; ends with NULL.
extern const struct quorum_provider_ops *const quorum_providers[];
extern const struct quorum_provider_ops quorum_callback;
extern const struct quorum_provider_ops quorum_folder;
extern const struct quorum_provider_ops quorum_static;

// The clock's time in nanoseconds since 1970.
uint64_t quorum_clock(void);

// quorum_load.c: finds a provider by its name; *library: of dlopen, or NULL.
tally_status_t quorum_load(const char *name, const char *plugin_path,
                           const struct quorum_provider_ops **out,
                           void **library);

#endif

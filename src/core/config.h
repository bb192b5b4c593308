// SPDX-License-Identifier: BSD-3-Clause
// The one table of TALLY_* variables, and the values in force. Backends' rows
// live here too, so the variables of an unloaded backend are known.
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

#include "bootstrap/identity.h"
#include "core/log.h"

enum config_key {
    CONFIG_TRANSPORT,
    CONFIG_PLUGIN_PATH,
    CONFIG_LIBRARY,
    CONFIG_NODE_SHM,
    CONFIG_NODE,
    CONFIG_TIMEOUT,
    CONFIG_BOOTSTRAP_TIMEOUT,
    CONFIG_RANK,
    CONFIG_WORLD_SIZE,
    CONFIG_LOCAL_SIZE,
    CONFIG_ROOT,
    CONFIG_JOB,
    CONFIG_SECRET,
    CONFIG_SECRET_FILE,
    CONFIG_HOST_THREADS,
    CONFIG_HOST_ISA,
    CONFIG_RADIX,
    CONFIG_SPIN_US,
    CONFIG_STREAM_WAIT,
    CONFIG_UCX_TLS,
    CONFIG_UCX_NET_DEVICES,
    CONFIG_OFI_PROVIDER,
    CONFIG_OFI_DOMAIN,
    CONFIG_NCCL_LIBRARY,
    CONFIG_REPLICA,
    CONFIG_REPLICAS,
    CONFIG_WITNESSES,
    CONFIG_REPLICA_MIN,
    CONFIG_REPLICA_ACCEPTORS,
    CONFIG_REPLICA_FOLDER,
    CONFIG_QUORUM,
    CONFIG_QUORUM_LIST,
    CONFIG_ETCD_ENDPOINTS,
    CONFIG_ETCD_PREFIX,
    CONFIG_ETCD_LEASE,
    CONFIG_ETCD_CA,
    CONFIG_ETCD_CERT,
    CONFIG_ETCD_KEY,
    CONFIG_RECORDER_FOLDER,
    CONFIG_REPLICA_TRANSPORT,
    CONFIG_REPLICA_DEADLINE,
    CONFIG_REPLICA_PATIENCE,
    CONFIG_REPLICA_GRADIENT_PATIENCE,
    CONFIG_REPLICA_FORCE,
    CONFIG_HEARTBEAT_US,
    CONFIG_HEARTBEAT_MISSES,
    CONFIG_LOG,
    CONFIG_STRICT_ENV,
    CONFIG_COUNT
};

enum config_type {
    CONFIG_TEXT,
    CONFIG_BOOL,
    CONFIG_INTEGER, // minimum..maximum
    CONFIG_SECONDS, // a decimal number
    CONFIG_CHOICE   // one of `type_text`, separated by '|'
};

struct config_row {
    const char *name;
    enum config_type type;
    const char *type_text; // for people
    const char *preset;
    const char *doc;
    int64_t minimum, maximum; // of CONFIG_INTEGER
    bool zero;                // 0 too, below the minimum
    bool job_wide;            // compared between ranks
    bool secret;              // its value is not shown
};

extern const struct config_row config_table[CONFIG_COUNT];

struct config {
    char *text[CONFIG_COUNT]; // never NULL
    bool from_environment[CONFIG_COUNT];
};

// Reads and checks every row. Errors: CONFIG, naming variable, value and what
// was expected.
tally_status_t config_load(const struct identity_env *env, struct config **out);
void config_free(struct config *config);

// Whether a row takes this value. Errors: CONFIG, as config_load.
tally_status_t config_check(enum config_key key, const char *text);

// Variables TALLY_* of the environment that no row knows: a warning with the
// nearest name for each; an error with strict.
tally_status_t config_check_names(const struct config *config,
                                  char *const *environment,
                                  const struct core_log *log);

// The row's key; CONFIG_COUNT if there is none.
enum config_key config_find(const char *name);

static inline const char *config_text(const struct config *config,
                                      enum config_key key)
{
    return config->text[key];
}

bool config_flag(const struct config *config, enum config_key key);
int64_t config_integer(const struct config *config, enum config_key key);
int64_t config_microseconds(const struct config *config, enum config_key key);
tally_log_level_t config_log_level(const struct config *config);

// The name in `names` (terminated by NULL) nearest to `name`, or NULL if none
// is near.
const char *config_nearest(const char *name, const char *const *names);

#endif

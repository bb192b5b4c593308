// SPDX-License-Identifier: BSD-3-Clause
// See identity.h. Each launcher is a row of a table; the innermost that is
// there wins: torchrun within srun, mpirun within an allocation of Slurm.
#include "bootstrap/identity.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/slurm.h"
#include "core/error.h"

// Where candidate ports are taken from: below the range that Linux gives to
// outgoing connections (32768).
#define PORT_FIRST 16384
#define PORT_COUNT 16000

struct launcher {
    const char *source;
    // Variables of rank, size and local size; the launcher is there if the
    // first two are set. The third may be NULL.
    const char *rank, *size, *local_size;
    // Fills job, host and local size; they may need more than the table says.
    tally_status_t (*complete)(const struct identity_env *env,
                               struct identity *identity);
};

static const char *variable(const struct identity_env *env, const char *name)
{
    const char *value = env->get(env->context, name);

    return value != NULL && *value != '\0' ? value : NULL;
}

static const char *variable_or(const struct identity_env *env, const char *name,
                               const char *otherwise)
{
    const char *value = variable(env, name);

    return value != NULL ? value : otherwise;
}

static tally_status_t read_integer(const struct identity_env *env,
                                   const char *name, int64_t minimum,
                                   int32_t *out)
{
    const char *text = variable(env, name);
    char *end;

    if (text == NULL)
        return core_fail(TALLY_ERR_CONFIG, "%s is not set", name);
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < minimum || value > INT32_MAX)
        return core_fail(TALLY_ERR_CONFIG,
                         "%s=%s: an integer of at least %d is expected", name,
                         text, (int)minimum);
    *out = (int32_t)value;
    return TALLY_OK;
}

// FNV-1a (Fowler, Noll, Vo), 64 bits, and a finish that spreads it.
static uint64_t digest(const char *text, uint64_t salt)
{
    uint64_t hash = 0xcbf29ce484222325u ^ salt;

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 33);
}

static bool has_port(const struct identity *identity, uint16_t port)
{
    for (int32_t i = 0; i < identity->port_count; i++)
        if (identity->ports[i] == port)
            return true;
    return false;
}

// Candidates that follow from the job's name, all different, never `avoid`.
static void hash_ports(struct identity *identity, uint16_t avoid)
{
    for (uint64_t salt = 0; identity->port_count < IDENTITY_PORTS_MAX; salt++) {
        uint16_t port =
            (uint16_t)(PORT_FIRST + digest(identity->job, salt) % PORT_COUNT);

        if (port != avoid && !has_port(identity, port))
            identity->ports[identity->port_count++] = port;
    }
}

// "host:port", "[address]:port".
static tally_status_t take_root(const char *text, struct identity *identity)
{
    const char *colon = strrchr(text, ':');
    const char *host = text;
    size_t bytes = colon != NULL ? (size_t)(colon - text) : 0;
    char *end;

    if (bytes >= 2 && text[0] == '[' && text[bytes - 1] == ']') {
        host++;
        bytes -= 2;
    } else if (bytes > 0 && memchr(text, ':', bytes) != NULL) {
        bytes = 0; // an IPv6 address without brackets
    }
    long port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;
    if (bytes == 0 || bytes >= sizeof(identity->host) || port < 1 ||
        port > UINT16_MAX || *end != '\0')
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_ROOT=%s: host:port is expected, an IPv6 "
                         "address in brackets",
                         text);
    memcpy(identity->host, host, bytes);
    identity->host[bytes] = '\0';
    identity->ports[0] = (uint16_t)port;
    identity->port_count = 1;
    return TALLY_OK;
}

static tally_status_t complete_own(const struct identity_env *env,
                                   struct identity *identity)
{
    if (variable(env, "TALLY_LOCAL_SIZE") == NULL)
        return TALLY_OK;
    return read_integer(env, "TALLY_LOCAL_SIZE", 1, &identity->local_size);
}

static tally_status_t complete_torchrun(const struct identity_env *env,
                                        struct identity *identity)
{
    const char *port = variable_or(env, "MASTER_PORT", "");

    snprintf(identity->host, sizeof(identity->host), "%s",
             variable_or(env, "MASTER_ADDR", ""));
    // A restart of the job is another job: its ports may still be in use.
    snprintf(identity->job, sizeof(identity->job), "torchrun %.60s %.20s %.20s",
             variable_or(env, "TORCHELASTIC_RUN_ID", "-"), port,
             variable_or(env, "TORCHELASTIC_RESTART_COUNT", "0"));
    hash_ports(identity, (uint16_t)strtol(port, NULL, 10));
    return TALLY_OK;
}

static tally_status_t complete_slurm(const struct identity_env *env,
                                     struct identity *identity)
{
    const char *nodes = variable(env, "SLURM_STEP_NODELIST");
    const char *tasks = variable_or(env, "SLURM_STEP_TASKS_PER_NODE", "");
    const char *node = variable_or(env, "SLURM_NODEID", "0");

    if (nodes == NULL)
        nodes = variable(env, "SLURM_JOB_NODELIST");
    if (nodes != NULL &&
        !slurm_first_host(nodes, identity->host, sizeof(identity->host)))
        return core_fail(TALLY_ERR_CONFIG,
                         "SLURM_STEP_NODELIST=%s is not a list of hosts",
                         nodes);
    identity->local_size = slurm_tasks_of_node(tasks, strtol(node, NULL, 10));
    snprintf(identity->job, sizeof(identity->job), "slurm %.40s.%.40s",
             variable_or(env, "SLURM_JOB_ID", "-"),
             variable_or(env, "SLURM_STEP_ID", "-"));
    hash_ports(identity, 0);
    return TALLY_OK;
}

static tally_status_t complete_mpi(const struct identity_env *env,
                                   struct identity *identity)
{
    snprintf(identity->job, sizeof(identity->job), "%s %.100s",
             identity->source, variable_or(env, "PMIX_NAMESPACE", "-"));
    // Where all ranks are on one host, that is the root's.
    if (identity->local_size == identity->world_size)
        snprintf(identity->host, sizeof(identity->host), "127.0.0.1");
    hash_ports(identity, 0);
    return TALLY_OK;
}

static const struct launcher launchers[] = {
    {"TALLY_RANK", "TALLY_RANK", "TALLY_WORLD_SIZE", NULL, complete_own},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", complete_torchrun},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE", complete_mpi},
    // srun only: in a batch script SLURM_PROCID is 0 and says nothing.
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", NULL, complete_slurm},
    // PMIx itself tells no size by environment.
    {"PMIx", "PMIX_RANK", "TALLY_WORLD_SIZE", NULL, complete_mpi},
};

#define LAUNCHERS (sizeof(launchers) / sizeof(launchers[0]))

static bool is_there(const struct identity_env *env,
                     const struct launcher *launcher)
{
    return variable(env, launcher->rank) != NULL &&
           (launcher == launchers || variable(env, launcher->size) != NULL);
}

static const struct launcher *find_launcher(const struct identity_env *env)
{
    for (size_t i = 0; i < LAUNCHERS; i++)
        if (is_there(env, &launchers[i]))
            return &launchers[i];
    return NULL;
}

bool identity_claim(const struct identity_env *env, size_t index,
                    struct identity_claim *out)
{
    for (size_t i = 0; i < LAUNCHERS; i++) {
        const struct launcher *launcher = &launchers[i];
        struct identity_claim claim = {launcher->source, launcher->rank,
                                       launcher->size, 0, 0};

        if (!is_there(env, launcher) ||
            read_integer(env, claim.rank_name, 0, &claim.rank) != TALLY_OK ||
            read_integer(env, claim.size_name, 1, &claim.world_size) !=
                TALLY_OK ||
            index-- > 0)
            continue;
        *out = claim;
        return true;
    }
    return false;
}

static tally_status_t take_launcher(const struct identity_env *env,
                                    const struct launcher *launcher,
                                    struct identity *identity)
{
    tally_status_t status;

    snprintf(identity->source, sizeof(identity->source), "%s",
             launcher->source);
    status = read_integer(env, launcher->rank, 0, &identity->rank);
    if (status != TALLY_OK)
        return status;
    status = read_integer(env, launcher->size, 1, &identity->world_size);
    if (status != TALLY_OK)
        return status;
    if (identity->rank >= identity->world_size)
        return core_fail(TALLY_ERR_CONFIG, "%s=%d is not below %s=%d",
                         launcher->rank, (int)identity->rank, launcher->size,
                         (int)identity->world_size);
    if (launcher->local_size != NULL &&
        variable(env, launcher->local_size) != NULL) {
        status =
            read_integer(env, launcher->local_size, 1, &identity->local_size);
        if (status != TALLY_OK)
            return status;
    }
    return launcher->complete(env, identity);
}

static tally_status_t take_root_and_job(const struct identity_env *env,
                                        struct identity *identity)
{
    const char *root = variable(env, "TALLY_ROOT");
    const char *job = variable(env, "TALLY_JOB");
    tally_status_t status;

    if (job != NULL)
        snprintf(identity->job, sizeof(identity->job), "%s", job);
    if (root != NULL) {
        status = take_root(root, identity);
        if (status != TALLY_OK)
            return status;
    }
    if (identity->world_size > 1 && identity->host[0] == '\0')
        return core_fail(TALLY_ERR_CONFIG,
                         "%s says that there are %d ranks, and nothing says "
                         "where rank 0 is: set TALLY_ROOT=host:port",
                         identity->source, (int)identity->world_size);
    return TALLY_OK;
}

tally_status_t identity_find(const struct identity_env *env,
                             struct identity *out)
{
    const struct launcher *launcher = find_launcher(env);
    struct identity identity = {.world_size = 1, .local_size = 1};
    tally_status_t status;

    if (launcher == NULL) {
        snprintf(identity.source, sizeof(identity.source), "single process");
        *out = identity;
        return TALLY_OK;
    }
    identity.local_size = 0;
    status = take_launcher(env, launcher, &identity);
    if (status != TALLY_OK)
        return status;
    status = take_root_and_job(env, &identity);
    if (status != TALLY_OK)
        return status;
    *out = identity;
    return TALLY_OK;
}

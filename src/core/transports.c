// SPDX-License-Identifier: BSD-3-Clause
// See transports.h.
#include "core/transports.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "transport/check.h"
#include "transport/descriptors.h"

#define ALIGNMENT_BYTES 64

const char *const transports_known[] = {"ucx", "ofi", "nccl", NULL};

static_assert(sizeof(transports_known) / sizeof(transports_known[0]) - 1 <=
                  TRANSPORTS_KNOWN_MAX,
              "room for all");

// The settings by which an operator says on which device a backend is opened.
static const struct {
    const char *backend;
    enum config_key key;
} device_settings[] = {
    {"ucx", CONFIG_UCX_NET_DEVICES},
    {"ofi", CONFIG_OFI_DOMAIN},
};

static const char *const words[] = {"auto", "shm", "ucx", "ofi", "nccl", NULL};

static void host_log(void *context, tally_log_level_t level, const char *line)
{
    const struct transports_opened *opened = context;

    core_log(opened->transports->log, level, "%s", line);
}

static tally_status_t host_fail(void *context, tally_status_t status,
                                const char *sentence)
{
    (void)context;
    return core_fail(status, "%s", sentence);
}

static const char *host_config(void *context, const char *name)
{
    const struct transports_opened *opened = context;
    enum config_key key = config_find(name);

    return key == CONFIG_COUNT ? NULL
                               : config_text(opened->transports->config, key);
}

static void *host_allocate(void *context, size_t bytes)
{
    size_t rounded =
        (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    void *memory =
        aligned_alloc(ALIGNMENT_BYTES, rounded > 0 ? rounded : ALIGNMENT_BYTES);

    (void)context;
    if (memory != NULL)
        memset(memory, 0, rounded);
    return memory;
}

static void host_release(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static void host_peer_lost(void *context, int32_t peer, const char *why)
{
    struct transports_opened *opened = context;
    const struct transports *transports = opened->transports;

    core_log(transports->log, opened->used ? TALLY_LOG_INFO : TALLY_LOG_DEBUG,
             "the transport lost rank %d: %s", (int)peer, why);
    if (opened->peer_lost != NULL)
        opened->peer_lost(opened->peer_lost_context, peer);
    else if (opened->used)
        health_report(transports->health, peer, HEALTH_LOST);
    else
        opened->lost = peer;
}

static void prepare(struct transports *transports,
                    struct transports_opened *opened)
{
    *opened = (struct transports_opened){
        .transports = transports,
        .host =
            {
                .size = sizeof(tally_transport_host_t),
                .abi = TALLY_TRANSPORT_ABI,
                .context = opened,
                .log = host_log,
                .fail = host_fail,
                .config = host_config,
                .allocate = host_allocate,
                .release = host_release,
                .peer_lost = host_peer_lost,
            },
        .lost = -1,
    };
}

// False: there is no room for its name.
static bool add_entry(struct transports *transports, const char *name,
                      size_t bytes)
{
    struct transports_entry *entry = &transports->entries[transports->count];

    for (int i = 0; i < transports->count; i++)
        if (strlen(transports->entries[i].name) == bytes &&
            strncmp(transports->entries[i].name, name, bytes) == 0)
            return true;
    if (bytes >= sizeof(entry->name))
        return false;
    memcpy(entry->name, name, bytes);
    entry->name[bytes] = '\0';
    for (int way = 0; way < TRANSPORTS_WORKERS; way++)
        prepare(transports, &entry->opened[way]);
    transports->count++;
    return true;
}

void transports_add_known(struct transports *transports)
{
    for (int i = 0; transports_known[i] != NULL; i++)
        (void)add_entry(transports, transports_known[i],
                        strlen(transports_known[i]));
}

static bool joins_nodes(const struct transports *transports)
{
    for (int i = 0; i < transports->count; i++)
        if (transports_may_be(&transports->entries[i], TALLY_TAGGED_P2P))
            return true;
    return false;
}

// False: more than there is room for.
static bool parse_list(struct transports *transports, const char *list)
{
    bool shm = false;
    bool fits = true;
    int named = 0;

    while (*list != '\0') {
        size_t bytes = strcspn(list, ",");
        if (bytes == 4 && strncmp(list, "auto", 4) == 0) {
            transports->automatic = true;
            transports_add_known(transports);
        } else if (bytes == 3 && strncmp(list, "shm", 3) == 0) {
            shm = true;
        } else if (bytes > 0) {
            fits = fits && ++named <= TRANSPORTS_NAMED_MAX &&
                   add_entry(transports, list, bytes);
            if (transports->count == 1)
                transports->stream_first = !shm && !joins_nodes(transports);
        }
        list += bytes + (list[bytes] == ',');
    }
    transports->shm_only = shm && transports->count == 0;
    transports->stream_only =
        !shm && transports->count > 0 && !joins_nodes(transports);
    // With "shm" in the list, a backend that does not load is no error yet.
    transports->automatic = transports->automatic || shm;
    return fits;
}

tally_status_t transports_create(const struct config *config,
                                 const struct core_log *log,
                                 struct health *health, int32_t rank,
                                 int32_t world_size, struct transports **out)
{
    struct transports *transports = calloc(1, sizeof(*transports));

    if (transports == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for transports");
    *transports = (struct transports){
        .config = config,
        .log = log,
        .health = health,
        .rank = rank,
        .world_size = world_size,
    };
    if (!parse_list(transports, config_text(config, CONFIG_TRANSPORT))) {
        free(transports);
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_TRANSPORT=%s: at most %d transports of at most "
                         "%zu bytes are possible",
                         config_text(config, CONFIG_TRANSPORT),
                         TRANSPORTS_NAMED_MAX,
                         sizeof(transports->entries[0].name) - 1);
    }
    if (transports->count == 0 && !transports->automatic) {
        free(transports);
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_TRANSPORT=%s names no transport",
                         config_text(config, CONFIG_TRANSPORT));
    }
    transports->group_count = transports->count;
    *out = transports;
    return TALLY_OK;
}

static bool is_known(const char *name)
{
    for (int i = 0; transports_known[i] != NULL; i++)
        if (strcmp(name, transports_known[i]) == 0)
            return true;
    return strchr(name, '/') != NULL;
}

bool transports_may_be(const struct transports_entry *entry,
                       tally_transport_kind_t kind)
{
    if (strcmp(entry->name, "nccl") == 0)
        return kind == TALLY_STREAM_COLLECTIVE;
    if (strcmp(entry->name, "ucx") == 0 || strcmp(entry->name, "ofi") == 0)
        return kind == TALLY_TAGGED_P2P;
    return true;
}

void transports_try(struct transports *transports,
                    struct transports_entry *entry)
{
    if (entry->tried)
        return;
    entry->tried = true;
    tally_status_t status = transport_load(
        entry->name, config_text(transports->config, CONFIG_PLUGIN_PATH),
        &entry->opened[TRANSPORTS_BY_ITSELF].host, &entry->backend);
    if (status == TALLY_OK) {
        core_log(transports->log, TALLY_LOG_INFO,
                 "loaded transport %s (%s; %s, ABI %u) from %s",
                 entry->backend->ops->name, entry->backend->version,
                 entry->backend->ops->version,
                 (unsigned)entry->backend->ops->abi, entry->backend->path);
        return;
    }
    entry->backend = NULL;
    snprintf(entry->reason, sizeof(entry->reason), "%s", core_error_text());
    if (!is_known(entry->name)) {
        const char *nearest = config_nearest(entry->name, words);
        size_t used = strlen(entry->reason);
        if (nearest != NULL)
            snprintf(entry->reason + used, sizeof(entry->reason) - used,
                     "; did you mean %s?", nearest);
    }
}

tally_status_t transports_load_named(struct transports *transports)
{
    if (transports->automatic)
        return TALLY_OK;
    for (int i = 0; i < transports->count; i++)
        transports_try(transports, &transports->entries[i]);
    for (int i = 0; i < transports->count; i++)
        if (transports->entries[i].backend != NULL)
            return TALLY_OK;
    return core_fail(TALLY_ERR_TRANSPORT, "TALLY_TRANSPORT=%s: %s",
                     config_text(transports->config, CONFIG_TRANSPORT),
                     transports->entries[0].reason);
}

static const char *device_setting(const struct transports *transports,
                                  const char *backend)
{
    size_t count = sizeof(device_settings) / sizeof(device_settings[0]);

    for (size_t i = 0; i < count; i++)
        if (strcmp(device_settings[i].backend, backend) == 0)
            return config_text(transports->config, device_settings[i].key);
    return NULL;
}

bool transports_has_interface(const struct transports *transports,
                              const struct transports_entry *entry)
{
    const char *device;

    if (entry->backend == NULL || transports->interface.name[0] == '\0')
        return false;
    device = device_setting(transports, entry->backend->ops->name);
    return device != NULL && device[0] == '\0';
}

static void abandon(const tally_transport_ops_t *ops,
                    tally_transport_t *transport)
{
    if (TRANSPORT_HAS(ops, abandon) && ops->abandon != NULL)
        ops->abandon(transport);
    else
        ops->close(transport);
}

void transports_close(struct transports_entry *entry, enum transports_way way)
{
    struct transports_opened *opened = &entry->opened[way];

    if (opened->transport != NULL && opened->used)
        entry->backend->ops->close(opened->transport);
    else if (opened->transport != NULL)
        abandon(entry->backend->ops, opened->transport);
    free(opened->endpoints);
    prepare(opened->transports, opened);
}

tally_status_t transports_need(struct transports *transports,
                               struct transports_entry *entry,
                               tally_transport_kind_t kind)
{
    transports_try(transports, entry);
    if (entry->backend == NULL)
        return core_fail(TALLY_ERR_TRANSPORT, "%s", entry->reason);
    if (entry->backend->ops->kind == kind)
        return TALLY_OK;
    return core_fail(TALLY_ERR_TRANSPORT,
                     kind == TALLY_TAGGED_P2P
                         ? "%s reduces on the stream of a device, and the host "
                           "device has none"
                         : "%s joins nodes and does not reduce on streams",
                     entry->backend->path);
}

tally_status_t transports_open(struct transports *transports,
                               struct transports_entry *entry,
                               enum transports_way way)
{
    struct transports_opened *opened = &entry->opened[way];
    tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .rank = transports->rank,
        .world_size = transports->world_size,
    };
    struct descriptors descriptors;

    transports_try(transports, entry);
    if (entry->backend == NULL)
        return core_fail(TALLY_ERR_TRANSPORT, "%s", entry->reason);
    if (opened->transport != NULL)
        return TALLY_OK;
    if (way == TRANSPORTS_BY_INTERFACE &&
        transports_has_interface(transports, entry)) {
        params.interface = transports->interface.name;
        params.address = transports->interface.address;
    }
    opened->endpoints =
        calloc((size_t)transports->world_size, sizeof(*opened->endpoints));
    if (opened->endpoints == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d endpoints",
                         (int)transports->world_size);
    (void)core_fail(TALLY_OK, "%s", ""); // an older sentence is no reason
    descriptors_note(&descriptors);
    tally_status_t status =
        entry->backend->ops->open(&opened->host, &params, &opened->transport);
    descriptors_seal(&descriptors);
    if (status == TALLY_OK)
        return TALLY_OK;
    opened->transport = NULL;
    transports_close(entry, way);
    if (core_error_text()[0] == '\0')
        return core_fail(status, "it does not open, and gave no reason (%s)",
                         tally_status_string(status));
    return status;
}

void transports_close_unused(struct transports_entry *entry,
                             enum transports_way way)
{
    if (entry->opened[way].transport != NULL && !entry->opened[way].used)
        transports_close(entry, way);
}

void transports_keep_links(struct transports *transports, struct links *links)
{
    struct links **kept =
        realloc(transports->kept,
                (transports->kept_count + 1) * sizeof(struct links *));

    if (kept == NULL)
        return; // leaked: better than freed while in use
    transports->kept = kept;
    transports->kept[transports->kept_count++] = links;
}

void transports_free(struct transports *transports)
{
    if (transports == NULL)
        return;
    for (int i = 0; i < transports->count; i++)
        for (int way = 0; way < TRANSPORTS_WORKERS; way++)
            transports_close(&transports->entries[i], (enum transports_way)way);
    for (size_t i = 0; i < transports->kept_count; i++)
        links_free(transports->kept[i]);
    for (int i = 0; i < transports->count; i++)
        if (transports->entries[i].backend != NULL)
            transport_unload(transports->entries[i].backend);
    free(transports->kept);
    free(transports);
}

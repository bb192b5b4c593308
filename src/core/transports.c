// SPDX-License-Identifier: BSD-3-Clause
// See transports.h.
#include "core/transports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "transport/descriptors.h"

#define ALIGNMENT_BYTES 64

const char *const transports_known[] = {"ucx", "ofi", NULL};

static const char *const words[] = {"auto", "shm", "ucx", "ofi", NULL};

static void host_log(void *context, tally_log_level_t level, const char *line)
{
    const struct transports *transports = context;

    core_log(transports->log, level, "%s", line);
}

static tally_status_t host_fail(void *context, tally_status_t status,
                                const char *sentence)
{
    (void)context;
    return core_fail(status, "%s", sentence);
}

static const char *host_config(void *context, const char *name)
{
    const struct transports *transports = context;
    enum config_key key = config_find(name);

    return key == CONFIG_COUNT ? NULL : config_text(transports->config, key);
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
    struct transports *transports = context;

    core_log(transports->log, TALLY_LOG_INFO, "the transport lost rank %d: %s",
             (int)peer, why);
    health_report(transports->health, peer, HEALTH_LOST);
}

// False: there is no room for one more, or for its name.
static bool add_entry(struct transports *transports, const char *name,
                      size_t bytes)
{
    struct transports_entry *entry = &transports->entries[transports->count];

    for (int i = 0; i < transports->count; i++)
        if (strlen(transports->entries[i].name) == bytes &&
            strncmp(transports->entries[i].name, name, bytes) == 0)
            return true;
    if (transports->count == TRANSPORTS_MAX || bytes >= sizeof(entry->name))
        return false;
    memcpy(entry->name, name, bytes);
    entry->name[bytes] = '\0';
    transports->count++;
    return true;
}

void transports_add_known(struct transports *transports)
{
    for (int i = 0; transports_known[i] != NULL; i++)
        (void)add_entry(transports, transports_known[i],
                        strlen(transports_known[i]));
}

// False: more than there is room for.
static bool parse_list(struct transports *transports, const char *list)
{
    bool shm = false;
    bool fits = true;

    while (*list != '\0') {
        size_t bytes = strcspn(list, ",");
        if (bytes == 4 && strncmp(list, "auto", 4) == 0) {
            transports->automatic = true;
            transports_add_known(transports);
        } else if (bytes == 3 && strncmp(list, "shm", 3) == 0) {
            shm = true;
        } else if (bytes > 0) {
            fits = add_entry(transports, list, bytes) && fits;
        }
        list += bytes + (list[bytes] == ',');
    }
    transports->shm_only = shm && transports->count == 0;
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
        .host =
            {
                .size = sizeof(tally_transport_host_t),
                .abi = TALLY_TRANSPORT_ABI,
                .context = transports,
                .log = host_log,
                .fail = host_fail,
                .config = host_config,
                .allocate = host_allocate,
                .release = host_release,
                .peer_lost = host_peer_lost,
            },
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
                         config_text(config, CONFIG_TRANSPORT), TRANSPORTS_MAX,
                         sizeof(transports->entries[0].name) - 1);
    }
    if (transports->count == 0 && !transports->automatic) {
        free(transports);
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_TRANSPORT=%s names no transport",
                         config_text(config, CONFIG_TRANSPORT));
    }
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

// Loads a backend that can serve the host device.
static tally_status_t load(struct transports *transports,
                           struct transports_entry *entry)
{
    tally_status_t status = transport_load(
        entry->name, config_text(transports->config, CONFIG_PLUGIN_PATH),
        &transports->host, &entry->backend);

    if (status != TALLY_OK || entry->backend->ops->kind == TALLY_TAGGED_P2P)
        return status;
    status = core_fail(TALLY_ERR_TRANSPORT,
                       "%s reduces on the stream of a device, and the host "
                       "device has none",
                       entry->backend->path);
    transport_unload(entry->backend);
    return status;
}

void transports_try(struct transports *transports,
                    struct transports_entry *entry)
{
    if (entry->tried)
        return;
    entry->tried = true;
    tally_status_t status = load(transports, entry);
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

static void open_entry(struct transports *transports,
                       struct transports_entry *entry)
{
    tally_transport_params_t params = {
        .size = sizeof(params),
        .abi = TALLY_TRANSPORT_ABI,
        .rank = transports->rank,
        .world_size = transports->world_size,
    };
    char before[TRANSPORTS_REASON_BYTES];
    struct descriptors descriptors;

    transports_try(transports, entry);
    if (entry->backend == NULL || entry->opened != NULL)
        return;
    if (entry->endpoints == NULL)
        entry->endpoints =
            calloc((size_t)transports->world_size, sizeof(*entry->endpoints));
    if (entry->endpoints == NULL) {
        snprintf(entry->reason, sizeof(entry->reason),
                 "no memory for %d endpoints", (int)transports->world_size);
        return;
    }
    snprintf(before, sizeof(before), "%s", core_error_text());
    descriptors_note(&descriptors);
    tally_status_t status =
        entry->backend->ops->open(&transports->host, &params, &entry->opened);
    descriptors_seal(&descriptors);
    if (status == TALLY_OK)
        return;
    entry->opened = NULL;
    snprintf(entry->reason, sizeof(entry->reason), "%s", core_error_text());
    // A sentence that is older than the call is not the backend's reason.
    if (strcmp(before, entry->reason) == 0)
        snprintf(entry->reason, sizeof(entry->reason),
                 "it does not open, and gave no reason (%s)",
                 tally_status_string(status));
}

// Who cannot use the entry, and why: the lowest such rank's reason.
static tally_status_t exchange_reasons(struct exchange *exchange,
                                       struct exchange_group *group,
                                       const struct transports_entry *entry,
                                       const struct transports *transports,
                                       char *sentence, size_t bytes)
{
    char reason[TRANSPORTS_REASON_BYTES];
    char(*reasons)[TRANSPORTS_REASON_BYTES] =
        calloc((size_t)group->count, sizeof(*reasons));

    if (reasons == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->count);
    memset(reason, 0, sizeof(reason));
    if (entry->opened == NULL)
        memcpy(reason, entry->reason, sizeof(reason));
    tally_status_t status =
        exchange_allgather(exchange, group, reason, reasons, sizeof(reason));
    for (int32_t i = 0; status == TALLY_OK && i < group->count; i++)
        if (reasons[i][0] != '\0') {
            snprintf(sentence, bytes, "rank %d cannot use %s: %s",
                     (int)group->ranks[i], entry->name, reasons[i]);
            core_log(transports->log, TALLY_LOG_WARN, "%s", sentence);
            break;
        }
    free(reasons);
    return status;
}

tally_status_t transports_agree(struct transports *transports,
                                struct exchange *exchange,
                                struct exchange_group *group,
                                struct transports_entry **out)
{
    char sentence[TRANSPORTS_REASON_BYTES + 300] = "no backend is configured";
    tally_status_t status = TALLY_OK;
    uint8_t *usable = calloc((size_t)group->count, 1);

    if (usable == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->count);
    for (int i = 0; status == TALLY_OK && i < transports->count; i++) {
        struct transports_entry *entry = &transports->entries[i];
        bool all = true;

        open_entry(transports, entry);
        uint8_t mine = entry->opened != NULL;
        status = exchange_allgather(exchange, group, &mine, usable, 1);
        for (int32_t r = 0; status == TALLY_OK && r < group->count; r++)
            all = all && usable[r] != 0;
        if (status == TALLY_OK && all) {
            *out = entry;
            goto free_usable;
        }
        if (status == TALLY_OK)
            status = exchange_reasons(exchange, group, entry, transports,
                                      sentence, sizeof(sentence));
    }
    if (status == TALLY_OK)
        status = core_fail(TALLY_ERR_TRANSPORT,
                           "no transport joins all ranks: %s", sentence);

free_usable:
    free(usable);
    return status;
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
    for (int i = 0; i < transports->count; i++) {
        struct transports_entry *entry = &transports->entries[i];
        if (entry->opened != NULL)
            entry->backend->ops->close(entry->opened);
        free(entry->endpoints);
    }
    for (size_t i = 0; i < transports->kept_count; i++)
        links_free(transports->kept[i]);
    for (int i = 0; i < transports->count; i++)
        if (transports->entries[i].backend != NULL)
            transport_unload(transports->entries[i].backend);
    free(transports->kept);
    free(transports);
}

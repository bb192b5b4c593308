// SPDX-License-Identifier: BSD-3-Clause
// See facts.h: who this rank is, and the rest in order.
#include "doctor/facts/facts.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <tally/plugin.h>

#include "collective/topology_self.h"
#include "core/error.h"
#include "core/processors.h"
#include "doctor/facts/note.h"

static void machine_read(struct facts *facts)
{
    struct utsname name;
    struct stat shared;

    snprintf(facts->version, sizeof(facts->version), "%s",
             tallyPlugin_v1.version);
    if (uname(&name) == 0) {
        snprintf(facts->host, sizeof(facts->host), "%s", name.nodename);
        snprintf(facts->kernel, sizeof(facts->kernel), "%s %s", name.sysname,
                 name.release);
    }
    facts->processors = processors_count();
    facts->boot = topology_self_boot();
    if (stat("/dev/shm", &shared) == 0)
        facts->shm_device = shared.st_dev;
}

static void identity_read(struct self *self)
{
    struct facts *facts = &self->facts;

    facts->rank = self->identity.rank;
    facts->world_size = self->identity.world_size;
    facts->local_size = self->identity.local_size;
    snprintf(facts->source, sizeof(facts->source), "%s", self->identity.source);
    snprintf(facts->fine[FACTS_IDENTITY], FACTS_FINE_BYTES, "%s",
             strcmp(self->identity.source, "single process") == 0
                 ? "a single process: no launcher's variables are there"
                 : self->identity.source);
}

static void settings_read(struct self *self)
{
    struct facts *facts = &self->facts;
    char settings[SETTINGS_BYTES];

    settings_write(self->config, settings);
    // Half of it is far beyond what anybody sets.
    snprintf(facts->settings, sizeof(facts->settings), "%.*s",
             (int)sizeof(facts->settings) - 1, settings);
    facts->node_shm = config_flag(self->config, CONFIG_NODE_SHM);
    snprintf(facts->node_name, sizeof(facts->node_name), "%s",
             config_text(self->config, CONFIG_NODE));
}

// Folders, of the operator and of libtally.so.
#define PLUGIN_PATH_BYTES 8192

static int note_library(struct dl_phdr_info *info, size_t bytes, void *context)
{
    const char **path = context;
    const char *slash = strrchr(info->dlpi_name, '/');

    (void)bytes;
    if (slash == NULL || strncmp(slash + 1, "libtally.so", 11) != 0)
        return 0;
    *path = info->dlpi_name;
    return 1;
}

// Trainers' backends are beside libtally.so, which the doctor links for this,
// and not beside the doctor.
static void plugin_path_make(char path[PLUGIN_PATH_BYTES])
{
    const char *set = getenv(config_table[CONFIG_PLUGIN_PATH].name);
    const char *library = "";

    dl_iterate_phdr(note_library, &library);
    snprintf(path, PLUGIN_PATH_BYTES, "%s:%.*s", set != NULL ? set : "",
             (int)(strrchr(library, '/') != NULL
                       ? strrchr(library, '/') - library
                       : 0),
             library);
}

// A value that is refused is found, and then as good as not set. The context is
// the path of plugins.
static const char *get_accepted(void *context, const char *name)
{
    const char *value = getenv(name);
    enum config_key key = config_find(name);

    if (key == CONFIG_PLUGIN_PATH)
        return context;
    if (value != NULL && key != CONFIG_COUNT &&
        config_check(key, value) != TALLY_OK)
        return NULL;
    return value;
}

static const char *get(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

const struct identity_env facts_environment = {.get = get};

const struct facts_transport *facts_transport_find(const struct facts *facts,
                                                   const char *name)
{
    for (int i = 0; i < TRANSPORTS_MAX; i++)
        if (strcmp(facts->transports[i].name, name) == 0)
            return &facts->transports[i];
    return NULL;
}

bool facts_transport_usable(const struct facts *facts, const char *name)
{
    const struct facts_transport *transport = facts_transport_find(facts, name);

    return transport != NULL && transport->usable != 0;
}

tally_status_t self_open(struct self *self)
{
    char path[PLUGIN_PATH_BYTES];
    const struct identity_env accepted = {get_accepted, path};
    tally_status_t status;

    *self = (struct self){.config = NULL};
    plugin_path_make(path);
    status = config_load(&accepted, &self->config);
    if (status != TALLY_OK)
        return status;
    self->identified =
        identity_find(&facts_environment, &self->identity) == TALLY_OK;
    self->facts.rank = -1;
    if (self->identified)
        identity_read(self);
    else
        FACTS_FOUND(&self->facts, FACTS_IDENTITY, "%s", core_error_text());
    machine_read(&self->facts);
    settings_read(self);
    facts_env_read(self);
    facts_limits_read(self);
    facts_devices_read(self);
    return TALLY_OK;
}

void self_close(struct self *self)
{
    transports_free(self->transports);
    config_free(self->config);
    if (self->secret != NULL)
        explicit_bzero(self->secret, strlen(self->secret));
    free(self->secret);
    *self = (struct self){.config = NULL};
}

// SPDX-License-Identifier: BSD-3-Clause
// What is wrong with the environment of one rank, and its variables of Tally.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bootstrap/secret.h"
#include "core/error.h"
#include "doctor/facts/facts.h"
#include "doctor/facts/note.h"

// Variables of libraries below Tally that change nothing of what it does.
static const char *const harmless[] = {
    "UCX_LOG_",     "UCX_HANDLE_ERRORS", "UCX_MEM_",   "UCX_STATS_",
    "UCX_VFS_",     "UCX_WARN_",         "UCX_ERROR_", "UCX_DEBUG_",
    "UCX_PROFILE_", "UCX_KEEPALIVE_INT", "UCX_HOME",   "UCX_DIR",
    "UCX_VERSION",  "FI_LOG_",           "FI_VERSION",
};

// What overrides a library's own variable.
static const struct {
    const char *name;
    enum config_key key;
} overrides[] = {
    {"UCX_TLS", CONFIG_UCX_TLS},
    {"UCX_NET_DEVICES", CONFIG_UCX_NET_DEVICES},
    {"FI_PROVIDER", CONFIG_OFI_PROVIDER},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void refused_read(struct self *self)
{
    struct facts *facts = &self->facts;
    int set = 0;

    for (int key = 0; key < CONFIG_COUNT; key++) {
        const char *value = getenv(config_table[key].name);

        if (value == NULL || *value == '\0')
            continue;
        set++;
        if (config_check((enum config_key)key, value) != TALLY_OK)
            FACTS_FOUND(facts, FACTS_REFUSED, "%s", core_error_text());
    }
    snprintf(facts->fine[FACTS_REFUSED], FACTS_FINE_BYTES,
             "TALLY_* variables set: %d, all with values that Tally takes",
             set);
}

// Where the environment is strict, a name is refused like a value.
static void unknown_read(struct self *self)
{
    enum facts_kind kind = config_flag(self->config, CONFIG_STRICT_ENV)
                               ? FACTS_REFUSED
                               : FACTS_UNKNOWN;
    const char *names[CONFIG_COUNT + 1] = {NULL};

    snprintf(self->facts.fine[FACTS_UNKNOWN], FACTS_FINE_BYTES,
             "no TALLY_* variable is misspelt");
    for (int key = 0; key < CONFIG_COUNT; key++)
        names[key] = config_table[key].name;
    for (char *const *at = environ; *at != NULL; at++) {
        char name[128];

        if (!begins_with(*at, "TALLY_"))
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*at, "="), *at);
        if (config_find(name) != CONFIG_COUNT)
            continue;
        const char *nearest = config_nearest(name, names);
        FACTS_FOUND(&self->facts, kind, "%s is not a variable of Tally%s%s%s",
                    name, nearest != NULL ? ": did you mean " : "",
                    nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    }
}

// Launchers may stand within each other: then the inner one has more ranks.
static void launchers_read(struct facts *facts)
{
    struct identity_claim first, other;

    if (!identity_claim(&facts_environment, 0, &first))
        return;
    for (size_t i = 1; identity_claim(&facts_environment, i, &other); i++)
        if (other.world_size > first.world_size)
            FACTS_FOUND(facts, FACTS_LAUNCHERS,
                        "%s=%d (%s) is used, but %s=%d (%s) says that there "
                        "are more ranks",
                        first.size_name, (int)first.world_size, first.source,
                        other.size_name, (int)other.world_size, other.source);
        else if (other.world_size == first.world_size &&
                 other.rank != first.rank)
            FACTS_FOUND(facts, FACTS_LAUNCHERS,
                        "%s (%s) is used, but %s (%s) numbers the ranks "
                        "otherwise",
                        first.rank_name, first.source, other.rank_name,
                        other.source);
}

static bool is_harmless(const char *entry)
{
    for (size_t i = 0; i < COUNT(harmless); i++)
        if (begins_with(entry, harmless[i]))
            return true;
    return false;
}

// CONFIG_COUNT: no variable of Tally overrides it.
static enum config_key override_of(const char *entry)
{
    size_t bytes = strcspn(entry, "=");

    for (size_t i = 0; i < COUNT(overrides); i++)
        if (strlen(overrides[i].name) == bytes &&
            strncmp(entry, overrides[i].name, bytes) == 0)
            return overrides[i].key;
    return CONFIG_COUNT;
}

static void foreign_read(struct self *self)
{
    snprintf(self->facts.fine[FACTS_FOREIGN], FACTS_FINE_BYTES,
             "no UCX_* or FI_* variable changes what Tally does");
    for (char *const *at = environ; *at != NULL; at++) {
        if ((!begins_with(*at, "UCX_") && !begins_with(*at, "FI_")) ||
            is_harmless(*at))
            continue;
        enum config_key key = override_of(*at);
        if (key == CONFIG_COUNT)
            FACTS_FOUND(&self->facts, FACTS_FOREIGN, "%s", *at);
        else if (config_text(self->config, key)[0] == '\0')
            FACTS_FOUND(&self->facts, FACTS_FOREIGN,
                        "%s (%s is for Tally alone)", *at,
                        config_table[key].name);
    }
}

static void secret_read(struct self *self)
{
    if (settings_secret(self->config, &self->secret) != TALLY_OK ||
        (self->secret != NULL && secret_check_supported() != TALLY_OK))
        FACTS_FOUND(&self->facts, FACTS_REFUSED, "%s", core_error_text());
}

void facts_env_read(struct self *self)
{
    refused_read(self);
    unknown_read(self);
    launchers_read(&self->facts);
    foreign_read(self);
    secret_read(self);
}

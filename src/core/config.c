// SPDX-License-Identifier: BSD-3-Clause
// Reads, checks and hands out the values of the table (config_table.c).
#include "core/config.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define NAME_BYTES_MAX 64
// A name this many edits away is not what was meant.
#define NEAR_EDITS 3
#define SECONDS_MAX 1e9

static bool is_integer(const struct config_row *row, const char *text)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0')
        return false;
    return (row->zero && value == 0) ||
           (value >= row->minimum && value <= row->maximum);
}

// In the C locale: the host program's may have a comma for the point.
static double parse_seconds(const char *text, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);

    if (c == (locale_t)0)
        return strtod(text, end);
    double value = strtod_l(text, end, c);
    freelocale(c);
    return value;
}

static bool is_seconds(const char *text)
{
    char *end;
    double value = parse_seconds(text, &end);

    return end != text && *end == '\0' && value > 0 && value <= SECONDS_MAX;
}

// Whether `text` is one of the words of `list`, separated by '|'.
static bool is_choice(const char *list, const char *text)
{
    size_t bytes = strlen(text);

    while (bytes > 0) {
        size_t word = strcspn(list, "|");
        if (word == bytes && strncmp(list, text, bytes) == 0)
            return true;
        if (list[word] == '\0')
            return false;
        list += word + 1;
    }
    return false;
}

tally_status_t config_check(enum config_key key, const char *text)
{
    const struct config_row *row = &config_table[key];

    switch (row->type) {
    case CONFIG_BOOL:
    case CONFIG_CHOICE:
        if (!is_choice(row->type_text, text))
            return core_fail(TALLY_ERR_CONFIG, "%s=%s: expected %s", row->name,
                             text, row->type_text);
        return TALLY_OK;
    case CONFIG_INTEGER:
        if (!is_integer(row, text))
            return core_fail(TALLY_ERR_CONFIG,
                             "%s=%s: expected %san integer from %lld to %lld",
                             row->name, text, row->zero ? "0 or " : "",
                             (long long)row->minimum, (long long)row->maximum);
        return TALLY_OK;
    case CONFIG_SECONDS:
        if (!is_seconds(text))
            return core_fail(TALLY_ERR_CONFIG,
                             "%s=%s: expected a number of seconds above 0",
                             row->name, text);
        return TALLY_OK;
    case CONFIG_TEXT:
        return TALLY_OK;
    }
    return TALLY_OK;
}

tally_status_t config_load(const struct identity_env *env, struct config **out)
{
    tally_status_t status;
    struct config *config = calloc(1, sizeof(*config));

    if (config == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the configuration");
    for (int key = 0; key < CONFIG_COUNT; key++) {
        const struct config_row *row = &config_table[key];
        const char *text = env->get(env->context, row->name);

        // An empty variable is as good as none, as in a shell's VAR= command.
        config->from_environment[key] = text != NULL && *text != '\0';
        if (!config->from_environment[key])
            text = row->preset;
        config->text[key] = strdup(text);
        if (config->text[key] == NULL) {
            status =
                core_fail(TALLY_ERR_MEMORY, "no memory for the configuration");
            goto free_config;
        }
        status = config_check((enum config_key)key, text);
        if (status != TALLY_OK)
            goto free_config;
    }
    *out = config;
    return TALLY_OK;

free_config:
    config_free(config);
    return status;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (int key = 0; key < CONFIG_COUNT; key++)
        free(config->text[key]);
    free(config);
}

bool config_flag(const struct config *config, enum config_key key)
{
    return config->text[key][0] == '1';
}

int64_t config_integer(const struct config *config, enum config_key key)
{
    return strtoll(config->text[key], NULL, 10);
}

int64_t config_microseconds(const struct config *config, enum config_key key)
{
    // The least that can be meant is a microsecond.
    char *end;
    int64_t us = (int64_t)(parse_seconds(config->text[key], &end) * 1e6);

    return us > 0 ? us : 1;
}

tally_log_level_t config_log_level(const struct config *config)
{
    static const struct {
        const char *name;
        tally_log_level_t level;
    } levels[] = {{"error", TALLY_LOG_ERROR},
                  {"warn", TALLY_LOG_WARN},
                  {"info", TALLY_LOG_INFO}};

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (strcmp(config->text[CONFIG_LOG], levels[i].name) == 0)
            return levels[i].level;
    return TALLY_LOG_DEBUG;
}

enum config_key config_find(const char *name)
{
    int key = 0;

    while (key < CONFIG_COUNT && strcmp(config_table[key].name, name) != 0)
        key++;
    return (enum config_key)key;
}

// Insertions, deletions, replacements and swaps of neighbours that turn `a`
// into `b` (optimal string alignment); NAME_BYTES_MAX if either is too long.
static int edits(const char *a, const char *b)
{
    int cost[NAME_BYTES_MAX + 1][NAME_BYTES_MAX + 1];
    int rows = (int)strnlen(a, NAME_BYTES_MAX);
    int columns = (int)strnlen(b, NAME_BYTES_MAX);

    if (rows == NAME_BYTES_MAX || columns == NAME_BYTES_MAX)
        return NAME_BYTES_MAX;
    for (int i = 0; i <= rows; i++)
        cost[i][0] = i;
    for (int j = 0; j <= columns; j++)
        cost[0][j] = j;
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= columns; j++) {
            int best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (cost[i - 1][j] + 1 < best)
                best = cost[i - 1][j] + 1;
            if (cost[i][j - 1] + 1 < best)
                best = cost[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1] && cost[i - 2][j - 2] + 1 < best)
                best = cost[i - 2][j - 2] + 1;
            cost[i][j] = best;
        }
    return cost[rows][columns];
}

const char *config_nearest(const char *name, const char *const *names)
{
    const char *nearest = NULL;
    int least = NEAR_EDITS + 1;

    for (; *names != NULL; names++) {
        int distance = edits(name, *names);
        if (distance < least) {
            least = distance;
            nearest = *names;
        }
    }
    return nearest;
}

tally_status_t config_check_names(const struct config *config,
                                  char *const *environment,
                                  const struct core_log *log)
{
    const char *names[CONFIG_COUNT + 1] = {NULL};

    for (int key = 0; key < CONFIG_COUNT; key++)
        names[key] = config_table[key].name;
    for (; *environment != NULL; environment++) {
        char name[NAME_BYTES_MAX];
        char hint[NAME_BYTES_MAX + 32] = "";

        if (strncmp(*environment, "TALLY_", strlen("TALLY_")) != 0)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*environment, "="),
                 *environment);
        if (config_find(name) != CONFIG_COUNT)
            continue;
        const char *nearest = config_nearest(name, names);
        if (nearest != NULL)
            snprintf(hint, sizeof(hint), ": did you mean %s?", nearest);
        if (config_flag(config, CONFIG_STRICT_ENV))
            return core_fail(TALLY_ERR_CONFIG,
                             "%s is not a variable of Tally%s", name, hint);
        core_log(log, TALLY_LOG_WARN, "%s is not a variable of Tally%s", name,
                 hint);
    }
    return TALLY_OK;
}

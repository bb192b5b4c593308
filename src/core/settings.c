// SPDX-License-Identifier: BSD-3-Clause
// See settings.h.
#include "core/settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

// As much of a value as is shown.
#define VALUE_BYTES 56
#define SECRET_BYTES_MAX 4096

// One value as it travels: its beginning, and a digest of all of it.
struct value {
    char text[VALUE_BYTES];
    uint64_t digest;
};

static struct value value_of(const char *text)
{
    struct value value = {.digest = 0xcbf29ce484222325u}; // FNV-1a

    snprintf(value.text, sizeof(value.text), "%s", text);
    for (; *text != '\0'; text++)
        value.digest = (value.digest ^ (unsigned char)*text) * 0x100000001b3u;
    return value;
}

// A value that is too long to be shown is told apart by its digest.
static size_t line_write(const char *name, const char *text, char *line,
                         size_t room)
{
    struct value value = value_of(text);
    int bytes =
        strlen(text) < sizeof(value.text)
            ? snprintf(line, room, "%s=%s\n", name, text)
            : snprintf(line, room, "%s=%s... (%zu bytes, %016" PRIx64 ")\n",
                       name, value.text, strlen(text), value.digest);

    assert(bytes > 0 && (size_t)bytes < room);
    return (size_t)bytes;
}

void settings_write(const struct config *config, char text[SETTINGS_BYTES])
{
    size_t used = 0;

    text[0] = '\0';
    for (int key = 0; key < CONFIG_COUNT; key++)
        if (config_table[key].job_wide)
            used += line_write(config_table[key].name, config->text[key],
                               text + used, SETTINGS_BYTES - used);
}

tally_status_t settings_compare(const struct config *config,
                                struct exchange *exchange, const int32_t *ranks,
                                int32_t count, int32_t index)
{
    struct exchange_group group = {ranks, count, index, "settings", 0};
    tally_status_t status;
    struct value *values = calloc((size_t)count, sizeof(*values));

    if (values == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)count);
    for (int key = 0; key < CONFIG_COUNT; key++) {
        if (!config_table[key].job_wide)
            continue;
        struct value mine = value_of(config->text[key]);
        status =
            exchange_allgather(exchange, &group, &mine, values, sizeof(mine));
        if (status != TALLY_OK)
            goto free_values;
        for (int32_t i = 1; i < count; i++)
            if (values[i].digest != values[0].digest) {
                status = core_fail(TALLY_ERR_MISMATCH,
                                   "%s is %.*s at rank %d and %.*s at "
                                   "rank %d",
                                   config_table[key].name, VALUE_BYTES,
                                   values[i].text, (int)ranks[i], VALUE_BYTES,
                                   values[0].text, (int)ranks[0]);
                goto free_values;
            }
    }
    status = TALLY_OK;

free_values:
    free(values);
    return status;
}

static tally_status_t read_secret(const char *path, char **out)
{
    FILE *file = fopen(path, "re");
    tally_status_t status = TALLY_OK;
    char *secret;

    if (file == NULL)
        return core_fail(TALLY_ERR_CONFIG, "TALLY_SECRET_FILE=%s: %s", path,
                         strerror(errno));
    secret = calloc(1, SECRET_BYTES_MAX + 1);
    if (secret == NULL) {
        status = core_fail(TALLY_ERR_MEMORY, "no memory for the secret");
        goto close_file;
    }
    size_t bytes = fread(secret, 1, SECRET_BYTES_MAX, file);
    secret[bytes] = '\0';
    secret[strcspn(secret, "\r\n")] = '\0';
    if (secret[0] == '\0') {
        free(secret);
        status = core_fail(TALLY_ERR_CONFIG,
                           "TALLY_SECRET_FILE=%s holds no secret", path);
        goto close_file;
    }
    *out = secret;

close_file:
    fclose(file);
    return status;
}

tally_status_t settings_secret(const struct config *config, char **out)
{
    const char *secret = config_text(config, CONFIG_SECRET);
    const char *path = config_text(config, CONFIG_SECRET_FILE);

    if (*secret == '\0' && *path != '\0')
        return read_secret(path, out);
    *out = NULL;
    if (*secret == '\0')
        return TALLY_OK;
    *out = strdup(secret);
    if (*out == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the secret");
    return TALLY_OK;
}

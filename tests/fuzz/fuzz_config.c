// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer target: the configuration. Any value of any variable is taken or
// refused with a sentence, and any name is looked up.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

struct offer {
    const char *name;
    const char *value;
};

static const char *look_up(void *context, const char *name)
{
    const struct offer *offer = context;

    return strcmp(name, offer->name) == 0 ? offer->value : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
    if (bytes == 0)
        return 0;
    char *text = malloc(bytes);
    assert(text != NULL);
    memcpy(text, input + 1, bytes - 1);
    text[bytes - 1] = '\0';

    struct offer offer = {config_table[input[0] % CONFIG_COUNT].name, text};
    const struct identity_env env = {look_up, &offer};
    struct config *config;
    if (config_load(&env, &config) == TALLY_OK) {
        char *environment[] = {text, NULL};
        (void)config_check_names(config, environment, NULL);
        (void)config_microseconds(config, CONFIG_TIMEOUT);
        (void)config_integer(config, CONFIG_RADIX);
        config_free(config);
    } else {
        assert(*core_error_text() != '\0');
    }

    struct identity identity;
    if (identity_find(&env, &identity) == TALLY_OK)
        assert(identity.rank >= 0 && identity.rank < identity.world_size);
    free(text);
    return 0;
}

// SPDX-License-Identifier: BSD-3-Clause
// Loads Tally, does a step, closes and unloads it, again and again: also under
// valgrind, where nothing may be lost.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <tally/plugin.h>

static int failed(const char *what, const char *why)
{
    fprintf(stderr, "reload: %s: %s\n", what, why);
    return 1;
}

static int use(const tally_plugin_t *tally)
{
    const int64_t values[] = {0, 1, -100, 2};
    float logits[4 * 3] = {0};
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    tally_logits_t values_in = TALLY_INIT(tally_logits_t);
    tally_channel_result_t totals = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    tally_group_t *group;
    tally_step_t *step;
    tally_t *t;

    channel.vocab = 3;
    params.channels = &channel;
    params.channel_count = 1;
    labels.type = TALLY_I64;
    labels.values = values;
    labels.tokens = 4;
    values_in.type = TALLY_F32;
    values_in.values = logits;
    result.channels = &totals;
    result.channel_capacity = 1;
    if (tally->open(NULL, &t) != TALLY_OK ||
        tally->group_create(t, NULL, &group) != TALLY_OK ||
        tally->step_create(group, &params, &step) != TALLY_OK ||
        tally->step_begin(step, 1, NULL) != TALLY_OK ||
        tally->step_count(step, 0, &labels, NULL) != TALLY_OK ||
        tally->step_reduce(step, NULL) != TALLY_OK ||
        tally->step_loss(step, 0, &values_in, &labels, NULL, NULL) !=
            TALLY_OK ||
        tally->step_end(step, NULL) != TALLY_OK ||
        tally->step_result(step, 0, TALLY_RESULT_WAIT, &result) != TALLY_OK ||
        tally->step_free(step) != TALLY_OK ||
        tally->group_free(group) != TALLY_OK || tally->close(t) != TALLY_OK)
        return failed("a call", tally->last_error());
    return totals.count == 3 ? 0 : failed("the count", "is not 3");
}

int main(int argc, char **argv)
{
    int rounds = argc == 3 ? atoi(argv[2]) : 0;

    if (rounds < 1) {
        fprintf(stderr, "usage: reload LIBRARY ROUNDS\n");
        return 2;
    }
    for (int i = 0; i < rounds; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            return failed("dlopen", dlerror());
        const tally_plugin_t *tally = dlsym(library, TALLY_PLUGIN_SYMBOL);
        if (tally == NULL)
            return failed("dlsym", dlerror());
        if (use(tally) != 0)
            return 1;
        if (dlclose(library) != 0)
            return failed("dlclose", dlerror());
    }
    printf("%d rounds\n", rounds);
    return 0;
}

// SPDX-License-Identifier: BSD-3-Clause
// The example trainer: options, text, Tally, training.
#include <stdlib.h>

#include "model/text.h"
#include "options.h"
#include "plugin.h"
#include "train.h"

int main(int argc, char **argv)
{
    struct options options;
    struct text text;
    const tally_plugin_t *tally;
    void *library;
    bool ok = false;

    enum options_outcome outcome = options_read(argc, argv, &options);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_SUCCESS : EXIT_FAILURE;
    if (!text_load(options.files, options.file_count, &text))
        return EXIT_FAILURE;
    if (plugin_load(options.library, &library, &tally)) {
        ok = train_run(&options, &text, tally);
        if (ok) // else its threads may be at work: the end of the process
            plugin_unload(library); // ends them
    }
    text_free(&text);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

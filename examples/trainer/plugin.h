// SPDX-License-Identifier: BSD-3-Clause
// Finds Tally at run time: the table of its functions in libtally.so.
#ifndef TRAINER_PLUGIN_H
#define TRAINER_PLUGIN_H

#include <stdbool.h>
#include <tally/plugin.h>

// Loads the library; a name without '/' is looked for by the loader.
bool plugin_load(const char *library, void **handle,
                 const tally_plugin_t **tally);

// NULL: nothing.
void plugin_unload(void *handle);

#endif

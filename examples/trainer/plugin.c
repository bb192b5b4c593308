// SPDX-License-Identifier: BSD-3-Clause
// See plugin.h.
#include "plugin.h"

#include <dlfcn.h>

#include "fail.h"

// The last function that the trainer calls, as the table goes.
#define PLUGIN_HAS_ALL(tally) TALLY_PLUGIN_HAS(tally, step_result)

bool plugin_load(const char *library, void **handle,
                 const tally_plugin_t **tally)
{
    void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);

    if (opened == NULL)
        return trainer_fail("cannot load Tally: %s (--tally FILE says where it "
                            "is)",
                            dlerror());
    const tally_plugin_t *table = dlsym(opened, TALLY_PLUGIN_SYMBOL);
    if (table == NULL) {
        trainer_fail("%s is not Tally: %s", library, dlerror());
        goto unload;
    }
    if (!PLUGIN_HAS_ALL(table)) {
        trainer_fail("%s is too old: Tally %s with ABI %u has a table of %zu "
                     "bytes",
                     library, table->version, table->abi, table->size);
        goto unload;
    }
    *handle = opened;
    *tally = table;
    return true;

unload:
    plugin_unload(opened);
    return false;
}

void plugin_unload(void *handle)
{
    if (handle != NULL)
        dlclose(handle);
}

// SPDX-License-Identifier: BSD-3-Clause
// See load_quietly.h.
//
// When libucs is loaded, its constructors do two things that a library within
// somebody's trainer must not do:
//   memory hooks  mmap, munmap, brk and others are patched in memory (libucm),
//                 while other threads may be running them;
//   signals       handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGHUP, and
//                 an alternate stack for the loading thread.
// Both are chosen by environment variables (UCX_MEM_EVENTS, UCX_HANDLE_ERRORS,
// UCX_DEBUG_SIGNO), which a running process with threads cannot set safely.
// Instead libucm is loaded first and initialised, once for all, with options
// that are all zero, in which memory events are off. libucs's constructor then
// sets other options, too late for the hooks; they are set to zero again, so
// that no registration cache asks for hooks later (UCX does without a cache
// then). What UCX did to the signals is undone.
// If the process had UCX loaded already, all is left as it is.
#include "transport/ucx/load_quietly.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

#include "transport/signals.h"

// The sonames are the ABI: the same for every UCX 1.x.
#define LIBUCM "libucm.so.0"
#define LIBUCS "libucs.so.0"
#define LIBUCP "libucp.so.0"

// More than ucm_global_config_t has in any version: it grows.
#define UCM_OPTIONS_BYTES 4096

// The options are set while libucm is loaded, so they outlast it: NODELETE.
static bool set_hooks_off(void)
{
    static const max_align_t all_off[UCM_OPTIONS_BYTES / sizeof(max_align_t)];
    void (*set_global_opts)(const void *options);

    // Lazily: libucm calls into libucs, which comes later.
    void *libucm = dlopen(LIBUCM, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (libucm == NULL)
        return false;
    *(void **)&set_global_opts = dlsym(libucm, "ucm_set_global_opts");
    if (set_global_opts != NULL)
        set_global_opts(all_off);
    dlclose(libucm);
    return set_global_opts != NULL;
}

static bool is_loaded(const char *soname)
{
    void *handle = dlopen(soname, RTLD_LAZY | RTLD_NOLOAD);

    if (handle != NULL)
        dlclose(handle);
    return handle != NULL;
}

static void *load(void)
{
    return dlopen(LIBUCP, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

void *ucx_load_quietly(const tally_transport_host_t *host)
{
    struct signals signals;

    if (is_loaded(LIBUCS))
        return load();
    if (!set_hooks_off())
        host->log(host->context, TALLY_LOG_INFO,
                  "UCX's memory hooks could not be held off: this libucm "
                  "cannot be set beforehand");
    signals_save(&signals);
    void *handle = load();
    signals_restore(&signals);
    if (handle != NULL)
        set_hooks_off();
    return handle;
}

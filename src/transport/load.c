// SPDX-License-Identifier: BSD-3-Clause
// See load.h.
#include "transport/load.h"

#include <assert.h>
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "transport/check.h"

static_assert(TRANSPORT_PATH_BYTES >= PATH_MAX, "room for a path");

#define FOLDERS_TEXT_BYTES 800
#define SENTENCE_BYTES 1024

// The folders looked in, as a message names them.
struct folders {
    char text[FOLDERS_TEXT_BYTES];
    size_t used;
};

static void folders_note(struct folders *folders, const char *folder,
                         size_t bytes)
{
    size_t room = sizeof(folders->text) - folders->used;
    int written = snprintf(folders->text + folders->used, room, "%s%.*s",
                           folders->used > 0 ? ", " : "", (int)bytes, folder);

    if (written > 0)
        folders->used += (size_t)written < room ? (size_t)written : room - 1;
}

static bool folder_has(struct folders *folders, const char *folder,
                       size_t bytes, const char *file, char *path)
{
    folders_note(folders, folder, bytes);
    int written = snprintf(path, PATH_MAX, "%.*s/%s", (int)bytes, folder, file);
    return written > 0 && written < PATH_MAX && access(path, F_OK) == 0;
}

// The file of the library that holds this code, or the program's.
static bool own_file(char *file)
{
    static const char inside = 0;
    struct link_map *map = NULL;
    Dl_info info;

    if (dladdr1(&inside, &info, (void **)&map, RTLD_DL_LINKMAP) == 0)
        return false;
    // The program itself is the entry without a name.
    return realpath(map->l_name[0] != '\0' ? map->l_name : "/proc/self/exe",
                    file) != NULL;
}

static bool find_file(const char *file, const char *plugin_path,
                      struct folders *folders, char *path)
{
    char own[PATH_MAX];

    while (plugin_path != NULL && *plugin_path != '\0') {
        size_t bytes = strcspn(plugin_path, ":");
        if (bytes > 0 && folder_has(folders, plugin_path, bytes, file, path))
            return true;
        plugin_path += bytes + (plugin_path[bytes] == ':');
    }
    if (!own_file(own))
        return false;
    return folder_has(folders, own, (size_t)(strrchr(own, '/') - own), file,
                      path);
}

tally_status_t transport_find(const char *name, const char *plugin_path,
                              char path[TRANSPORT_PATH_BYTES])
{
    struct folders folders = {.used = 0};
    char file[NAME_MAX + 1];

    if (strchr(name, '/') != NULL) {
        if (snprintf(path, PATH_MAX, "%s", name) < PATH_MAX)
            return TALLY_OK;
        return core_fail(TALLY_ERR_TRANSPORT,
                         "the path of a transport is longer than %d bytes",
                         PATH_MAX - 1);
    }
    if (snprintf(file, sizeof(file), "libtally-%s.so", name) >=
        (int)sizeof(file))
        return core_fail(TALLY_ERR_TRANSPORT,
                         "the name of a transport is longer than a file's");
    if (find_file(file, plugin_path, &folders, path))
        return TALLY_OK;
    return core_fail(TALLY_ERR_TRANSPORT, "%s was not found in %s", file,
                     folders.text);
}

static tally_status_t query_backend(struct transport_backend *backend,
                                    const tally_transport_host_t *host)
{
    tally_transport_query_t query = NULL;
    const tally_transport_ops_t *ops = NULL;
    char before[SENTENCE_BYTES];

    // A function pointer by way of its bits: C has no cast from void *.
    *(void **)&query = dlsym(backend->library, TALLY_TRANSPORT_SYMBOL);
    if (query == NULL)
        return core_fail(TALLY_ERR_TRANSPORT,
                         "%s is no transport: it has no symbol %s",
                         backend->path, TALLY_TRANSPORT_SYMBOL);
    snprintf(before, sizeof(before), "%s", core_error_text());
    tally_status_t status = query(TALLY_TRANSPORT_ABI, host, &ops);
    if (status == TALLY_OK) {
        backend->ops = ops;
        return TALLY_OK;
    }
    // A sentence that is older than the call is not the backend's reason.
    if (strcmp(before, core_error_text()) == 0)
        core_fail(status, "it gave no reason (%s)",
                  tally_status_string(status));
    return core_fail_within(status == TALLY_ERR_ABI ? TALLY_ERR_ABI
                                                    : TALLY_ERR_TRANSPORT,
                            "%s refused: ", backend->path);
}

static void note_version(struct transport_backend *backend)
{
    const tally_transport_ops_t *ops = backend->ops;

    snprintf(backend->version, sizeof(backend->version), "%s", ops->version);
    if (TRANSPORT_HAS(ops, library_version) && ops->library_version != NULL)
        ops->library_version(backend->version, sizeof(backend->version));
}

tally_status_t transport_load(const char *name, const char *plugin_path,
                              const tally_transport_host_t *host,
                              struct transport_backend **out)
{
    struct transport_backend *backend = calloc(1, sizeof(*backend));
    tally_status_t status;

    if (backend == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for transport %s", name);
    status = transport_find(name, plugin_path, backend->path);
    if (status != TALLY_OK)
        goto free_backend;
    backend->library = dlopen(backend->path, RTLD_NOW | RTLD_LOCAL);
    if (backend->library == NULL) {
        status =
            core_fail(TALLY_ERR_TRANSPORT, "transport %s cannot be loaded: %s",
                      name, dlerror());
        goto free_backend;
    }
    status = query_backend(backend, host);
    if (status != TALLY_OK)
        goto close_library;
    status = transport_check(
        backend->ops, strchr(name, '/') != NULL ? NULL : name, backend->path);
    if (status != TALLY_OK)
        goto close_library;
    note_version(backend);
    *out = backend;
    return TALLY_OK;

close_library:
    dlclose(backend->library);
free_backend:
    free(backend);
    return status;
}

void transport_unload(struct transport_backend *backend)
{
    if (backend == NULL)
        return;
    dlclose(backend->library);
    free(backend);
}

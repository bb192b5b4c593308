// SPDX-License-Identifier: BSD-3-Clause
// See folder.h. A file is written under another name and renamed, so who reads
// it sees all of it. Its name is "PEER.INCARNATION" in hexadecimal digits.
#include "replica/loop/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"

#define ADDRESS_BYTES_MAX 4096

struct replica_folder {
    char path[3072];
    // The greatest that was told of, so that nothing is read twice.
    uint64_t seen[REPLICA_PEERS_MAX];
};

tally_status_t replica_folder_open(const char *path,
                                   struct replica_folder **out)
{
    struct replica_folder *folder = calloc(1, sizeof(*folder));

    if (folder == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory");
    if (strlen(path) >= sizeof(folder->path)) {
        free(folder);
        return core_fail(TALLY_ERR_CONFIG, "TALLY_REPLICA_FOLDER is too long");
    }
    memcpy(folder->path, path, strlen(path) + 1);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        free(folder);
        return core_fail(TALLY_ERR_SYSTEM, "cannot make the folder %s: %s",
                         path, strerror(errno));
    }
    *out = folder;
    return TALLY_OK;
}

void replica_folder_close(struct replica_folder *folder)
{
    free(folder);
}

static bool parse(const char *name, uint16_t *peer, uint64_t *incarnation)
{
    unsigned number;
    unsigned long long start;
    int used = 0;

    if (sscanf(name, "%2x.%16llx%n", &number, &start, &used) != 2 ||
        name[used] != '\0' || number >= REPLICA_PEERS_MAX)
        return false;
    *peer = (uint16_t)number;
    *incarnation = start;
    return true;
}

static void name_file(const struct replica_folder *folder, uint16_t peer,
                      uint64_t incarnation, const char *end, char path[4096])
{
    snprintf(path, 4096, "%s/%02x.%016llx%s", folder->path, (unsigned)peer,
             (unsigned long long)incarnation, end);
}

// The greatest incarnation of each peer.
static tally_status_t list(const struct replica_folder *folder,
                           uint64_t greatest[REPLICA_PEERS_MAX])
{
    DIR *files = opendir(folder->path);
    struct dirent *file;

    memset(greatest, 0, REPLICA_PEERS_MAX * sizeof(greatest[0]));
    if (files == NULL)
        return core_fail(TALLY_ERR_SYSTEM, "cannot read the folder %s: %s",
                         folder->path, strerror(errno));
    while ((file = readdir(files)) != NULL) {
        uint16_t peer;
        uint64_t incarnation;
        if (parse(file->d_name, &peer, &incarnation) &&
            incarnation > greatest[peer])
            greatest[peer] = incarnation;
    }
    closedir(files);
    return TALLY_OK;
}

tally_status_t replica_folder_incarnation(struct replica_folder *folder,
                                          uint16_t peer, uint64_t *incarnation)
{
    uint64_t greatest[REPLICA_PEERS_MAX];
    struct timespec now;
    tally_status_t status = list(folder, greatest);

    if (status != TALLY_OK)
        return status;
    clock_gettime(CLOCK_REALTIME, &now);
    *incarnation = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (*incarnation <= greatest[peer])
        *incarnation = greatest[peer] + 1;
    return TALLY_OK;
}

static bool write_all(const char *path, const void *bytes, size_t length)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (file < 0)
        return false;
    bool written = write(file, bytes, length) == (ssize_t)length;
    return close(file) == 0 && written;
}

static void remove_older(const struct replica_folder *folder,
                         struct replica_name name)
{
    DIR *files = opendir(folder->path);
    struct dirent *file;
    char path[4096];

    while (files != NULL && (file = readdir(files)) != NULL) {
        uint16_t peer;
        uint64_t incarnation;
        if (!parse(file->d_name, &peer, &incarnation) || peer != name.peer ||
            incarnation >= name.incarnation)
            continue;
        name_file(folder, peer, incarnation, "", path);
        unlink(path);
    }
    if (files != NULL)
        closedir(files);
}

tally_status_t replica_folder_tell(struct replica_folder *folder,
                                   struct replica_name name,
                                   const void *address, size_t bytes)
{
    char unfinished[4096];
    char path[4096];

    name_file(folder, name.peer, name.incarnation, ".new", unfinished);
    name_file(folder, name.peer, name.incarnation, "", path);
    if (!write_all(unfinished, address, bytes) || rename(unfinished, path) != 0)
        return core_fail(TALLY_ERR_SYSTEM, "cannot write %s: %s", path,
                         strerror(errno));
    remove_older(folder, name);
    return TALLY_OK;
}

void replica_folder_look(struct replica_folder *folder, uint16_t peers,
                         void (*seen)(void *context, uint16_t peer,
                                      uint64_t incarnation, const void *address,
                                      size_t bytes),
                         void *context)
{
    uint64_t greatest[REPLICA_PEERS_MAX];
    uint8_t address[ADDRESS_BYTES_MAX];
    char path[4096];

    if (list(folder, greatest) != TALLY_OK)
        return;
    for (uint16_t peer = 0; peer < peers; peer++) {
        if (greatest[peer] <= folder->seen[peer])
            continue;
        name_file(folder, peer, greatest[peer], "", path);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue; // a newer one has removed it
        ssize_t bytes = read(file, address, sizeof(address));
        close(file);
        if (bytes <= 0)
            continue;
        folder->seen[peer] = greatest[peer];
        seen(context, peer, greatest[peer], address, (size_t)bytes);
    }
}

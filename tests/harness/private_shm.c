// SPDX-License-Identifier: BSD-3-Clause
// See private_shm.h.
#include "harness/private_shm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define PAGE_BYTES 4096

bool private_shm_enter(size_t bytes)
{
    char options[64] = "mode=1777";

    if (bytes > 0)
        snprintf(options, sizeof(options), "mode=1777,size=%zu", bytes);
    // Private first: what is mounted here must not show outside.
    if (unshare(CLONE_NEWNS) == 0 &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", "/dev/shm", "tmpfs", 0, options) == 0)
        return true;
    fprintf(stderr, "skipped: no /dev/shm of one's own: %s\n", strerror(errno));
    return false;
}

int private_shm_count(void)
{
    DIR *directory = opendir("/dev/shm");
    int count = 0;

    if (directory == NULL)
        abort();
    for (const struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

void private_shm_fill(void)
{
    static const char page[PAGE_BYTES];
    int file = open("/dev/shm/filler", O_CREAT | O_WRONLY, 0600);

    if (file < 0)
        abort();
    while (write(file, page, sizeof(page)) > 0)
        continue;
    close(file);
}

// SPDX-License-Identifier: BSD-3-Clause
// See topology_self.h.
#include "collective/topology_self.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

// FNV-1a: equal inputs must agree everywhere, nothing more is asked of it.
static uint64_t hash_add(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * FNV_PRIME;
    return hash;
}

// Where it cannot be read, all such hosts look alike: it is only a hint.
uint64_t topology_self_boot(void)
{
    char boot[64];
    uint64_t hash = FNV_BASIS;

    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return hash;
    ssize_t bytes = read(file, boot, sizeof(boot));
    close(file);
    return bytes > 0 ? hash_add(hash, boot, (size_t)bytes) : hash;
}

static uint64_t pid_namespace(void)
{
    struct stat stat_;

    return stat("/proc/self/ns/pid", &stat_) == 0 ? stat_.st_ino : 0;
}

void topology_self_read(const struct topology_params *params,
                        struct topology_self *self)
{
    const char *name = params->node_name != NULL ? params->node_name : "";
    struct stat shared;

    memset(self, 0, sizeof(*self));
    self->name = hash_add(FNV_BASIS, name, strlen(name));
    self->pid = getpid();
    self->pid_namespace = pid_namespace();
    if (!params->node_shm || stat("/dev/shm", &shared) != 0) {
        self->alone = 1;
        return;
    }
    self->hint =
        hash_add(topology_self_boot(), &shared.st_dev, sizeof(shared.st_dev));
}

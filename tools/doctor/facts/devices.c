// SPDX-License-Identifier: BSD-3-Clause
// Network interfaces, GPUs, and what each backend sees.
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/link/socket.h"
#include "core/error.h"
#include "doctor/facts/facts.h"
#include "doctor/facts/note.h"
#include "doctor/watchdog.h"
#include "transport/check.h"

// ----------------------------------------------------------------- interfaces

static bool address_text(const struct sockaddr *address, char *text,
                         socklen_t bytes)
{
    if (address == NULL)
        return false;
    if (address->sa_family == AF_INET)
        return inet_ntop(AF_INET,
                         &((const struct sockaddr_in *)address)->sin_addr, text,
                         bytes) != NULL;
    if (address->sa_family == AF_INET6)
        return inet_ntop(AF_INET6,
                         &((const struct sockaddr_in6 *)address)->sin6_addr,
                         text, bytes) != NULL;
    return false;
}

// Whether ranks may be on other hosts: not if the launcher says that all are
// here, nor if the root is at the loopback.
static bool has_distant_ranks(const struct identity *identity)
{
    return identity->world_size > 1 &&
           identity->local_size != identity->world_size &&
           !socket_host_is_loopback(identity->host);
}

static void interfaces_read(struct self *self)
{
    struct facts *facts = &self->facts;
    struct ifaddrs *list;
    int up = 0, listed = 0;

    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        bool runs =
            (i->ifa_flags & IFF_UP) != 0 && (i->ifa_flags & IFF_RUNNING) != 0;

        if (!address_text(i->ifa_addr, text, sizeof(text)))
            continue;
        note_add(facts->interfaces, sizeof(facts->interfaces), "%s %s%s",
                 i->ifa_name, text, runs ? "" : " (down)");
        listed++;
        up += runs && (i->ifa_flags & IFF_LOOPBACK) == 0;
    }
    freeifaddrs(list);
    if (up == 0 && has_distant_ranks(&self->identity))
        FACTS_FOUND(facts, FACTS_NETWORK,
                    "no network interface but the loopback is up and has an "
                    "address");
    snprintf(facts->fine[FACTS_NETWORK], FACTS_FINE_BYTES,
             "%d addresses, of which up and not the loopback's: %d", listed,
             up);
}

// ----------------------------------------------------------------------- GPUs

static int32_t device_files(void)
{
    DIR *folder = opendir("/dev");
    int32_t count = 0;

    if (folder == NULL)
        return 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL;
         entry = readdir(folder))
        count += strncmp(entry->d_name, "nvidia", 6) == 0 &&
                 isdigit((unsigned char)entry->d_name[6]);
    closedir(folder);
    return count;
}

// How many the driver lets this process use; -1 where there is no driver.
static int32_t driver_devices(void)
{
    int (*init)(unsigned flags) = NULL;
    int (*get_count)(int *count) = NULL;
    int count = 0;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

    if (driver == NULL)
        return -1;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&get_count = dlsym(driver, "cuDeviceGetCount");
    if (init == NULL || get_count == NULL || init(0) != 0 ||
        get_count(&count) != 0)
        count = 0;
    return count; // it stays: drivers do not like to go
}

static void gpus_read(struct facts *facts)
{
    facts->gpus = device_files();
    if (facts->gpus == 0) {
        snprintf(facts->fine[FACTS_GPU], FACTS_FINE_BYTES, "none");
        return;
    }
    watchdog_enter("asking the CUDA driver for its devices");
    int32_t usable = driver_devices();
    watchdog_leave();
    if (usable < 0)
        FACTS_FOUND(facts, FACTS_GPU,
                    "there are %d GPUs in /dev, and no libcuda.so.1",
                    (int)facts->gpus);
    else if (usable == 0)
        FACTS_FOUND(facts, FACTS_GPU,
                    "there are %d GPUs in /dev, and the driver gives this "
                    "process none (CUDA_VISIBLE_DEVICES=%s)",
                    (int)facts->gpus,
                    getenv("CUDA_VISIBLE_DEVICES") != NULL
                        ? getenv("CUDA_VISIBLE_DEVICES")
                        : "");
    snprintf(facts->fine[FACTS_GPU], FACTS_FINE_BYTES,
             "%d in /dev, %d by the driver", (int)facts->gpus, (int)usable);
}

// ----------------------------------------------------------------- transports

// tally_open fails where the operator names transports and none can be loaded.
static void judge_named(struct self *self, int wanted)
{
    const struct transports *transports = self->transports;

    for (int i = 0; i < wanted; i++)
        if (transports->automatic || transports->entries[i].backend != NULL)
            return;
    if (wanted > 0)
        FACTS_FOUND(&self->facts, FACTS_TRANSPORT, "TALLY_TRANSPORT=%s: %s",
                    config_text(self->config, CONFIG_TRANSPORT),
                    transports->entries[0].reason);
}

static void backend_open(struct transports *transports,
                         struct transports_entry *entry,
                         struct facts_transport *out)
{
    const tally_transport_ops_t *ops = entry->backend->ops;
    const tally_transport_host_t *host =
        &entry->opened[TRANSPORTS_BY_ITSELF].host;

    snprintf(out->version, sizeof(out->version), "%s", entry->backend->version);
    if (TRANSPORT_HAS(ops, devices) && ops->devices != NULL &&
        ops->devices(host, out->devices, sizeof(out->devices)) != TALLY_OK)
        out->devices[0] = '\0';
    if (!out->wanted)
        return;
    if (transports_open(transports, entry, TRANSPORTS_BY_ITSELF) == TALLY_OK)
        out->usable = 1;
    else
        snprintf(out->reason, sizeof(out->reason), "%s", core_error_text());
}

static void transports_read(struct self *self)
{
    int32_t world_size = self->identified ? self->identity.world_size : 1;
    char stage[sizeof(self->facts.transports[0].name) + 40];
    int wanted;

    if (transports_create(self->config, NULL, NULL, self->identity.rank,
                          world_size, &self->transports) != TALLY_OK) {
        FACTS_FOUND(&self->facts, FACTS_REFUSED, "%s", core_error_text());
        return;
    }
    wanted = self->transports->count;
    transports_add_known(self->transports);
    for (int i = 0; i < self->transports->count; i++) {
        struct transports_entry *entry = &self->transports->entries[i];
        struct facts_transport *out = &self->facts.transports[i];

        memcpy(out->name, entry->name, sizeof(out->name));
        snprintf(stage, sizeof(stage), "loading and opening transport %s",
                 out->name);
        watchdog_enter(stage);
        transports_try(self->transports, entry);
        // What reduces on streams does not join nodes.
        out->wanted =
            i < wanted && transports_may_be(entry, TALLY_TAGGED_P2P) &&
            (entry->backend == NULL ||
             entry->backend->ops->kind == TALLY_TAGGED_P2P);
        if (entry->backend != NULL)
            backend_open(self->transports, entry, out);
        else
            snprintf(out->reason, sizeof(out->reason), "%s", entry->reason);
        watchdog_leave();
    }
    judge_named(self, wanted);
}

void facts_devices_read(struct self *self)
{
    interfaces_read(self);
    gpus_read(&self->facts);
    transports_read(self);
}

// SPDX-License-Identifier: BSD-3-Clause
// See store.h.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fault/store.h"

#define ADDRESS_MAX 4096

struct entry {
    uint64_t incarnation;
    uint64_t address_bytes;
    uint8_t address[ADDRESS_MAX];
};

static void name_file(const struct store *store, const char *kind, int peer,
                      char path[512])
{
    snprintf(path, 512, "%s/%s.%d", store->folder, kind, peer);
}

static bool read_file(const char *path, void *bytes, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    bool whole = fread(bytes, size, 1, file) == 1;
    fclose(file);
    return whole;
}

// Whole or not at all, whoever is killed.
static bool write_file(const char *path, const void *bytes, size_t size)
{
    char unfinished[540];

    snprintf(unfinished, sizeof(unfinished), "%s.%d", path, (int)getpid());
    FILE *file = fopen(unfinished, "we");
    if (file == NULL)
        return false;
    bool whole = fwrite(bytes, size, 1, file) == 1;
    return fclose(file) == 0 && whole && rename(unfinished, path) == 0;
}

static tally_status_t announce(void *context, const tally_member_t *self)
{
    const struct store *store = context;
    struct entry entry = {.incarnation = self->incarnation,
                          .address_bytes = self->address_bytes};
    char path[512];

    memcpy(entry.address, self->address, self->address_bytes);
    name_file(store, "member", (int)self->peer, path);
    return write_file(path, &entry, sizeof(entry)) ? TALLY_OK
                                                   : TALLY_ERR_SYSTEM;
}

static tally_status_t
look(void *context, void (*tell)(void *tally, const tally_member_t *member),
     void *tally)
{
    const struct store *store = context;

    for (int peer = 0; peer < STORE_PEERS; peer++) {
        tally_member_t member = TALLY_INIT(tally_member_t);
        struct entry entry;
        char path[512];

        name_file(store, "member", peer, path);
        if (!read_file(path, &entry, sizeof(entry)))
            continue;
        member.peer = (uint32_t)peer;
        member.incarnation = entry.incarnation;
        member.address = entry.address;
        member.address_bytes = entry.address_bytes;
        tell(tally, &member);
    }
    return TALLY_OK;
}

static void withdraw(void *context)
{
    const struct store *store = context;
    char path[512];

    name_file(store, "member", store->peer, path);
    unlink(path);
}

bool store_join(struct store *store, tally_membership_t *out)
{
    uint64_t starts = 0;
    char path[512];

    name_file(store, "starts", store->peer, path);
    (void)read_file(path, &starts, sizeof(starts)); // none: it is the first
    starts++;
    if (!write_file(path, &starts, sizeof(starts)))
        return false;
    *out = (tally_membership_t)TALLY_INIT(tally_membership_t);
    out->context = store;
    out->incarnation = starts;
    out->announce = announce;
    out->look = look;
    out->withdraw = withdraw;
    return true;
}

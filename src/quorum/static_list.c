// SPDX-License-Identifier: BSD-3-Clause
// See static_list.h.
#include "quorum/static_list.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

// "host:port" or "[host]:port".
static bool parse_entry(const char *text, size_t bytes,
                        struct static_entry *entry)
{
    const char *colon = memrchr(text, ':', bytes);
    const char *end = text + bytes;
    char *after;

    if (colon == NULL || colon + 1 == end ||
        strspn(colon + 1, "0123456789") < (size_t)(end - colon - 1))
        return false;
    unsigned long port = strtoul(colon + 1, &after, 10);
    if (port == 0 || port > UINT16_MAX)
        return false;
    size_t host = (size_t)(colon - text);
    if (host > 1 && text[0] == '[' && text[host - 1] == ']') {
        text++;
        host -= 2;
    } else if (memchr(text, ':', host) != NULL) {
        return false; // an IPv6 address without brackets
    }
    if (host == 0 || host >= sizeof(entry->host))
        return false;
    memcpy(entry->host, text, host);
    entry->host[host] = '\0';
    entry->port = (uint16_t)port;
    return true;
}

static tally_status_t check_twice(const struct static_entry *entries, int last)
{
    for (int i = 0; i < last; i++)
        if (entries[i].port == entries[last].port &&
            strcmp(entries[i].host, entries[last].host) == 0)
            return core_fail(TALLY_ERR_CONFIG,
                             "TALLY_QUORUM_LIST: entries %d and %d are both "
                             "%s:%u",
                             i, last, entries[i].host,
                             (unsigned)entries[i].port);
    return TALLY_OK;
}

tally_status_t static_list_parse(const char *text, uint16_t peers,
                                 struct static_entry entries[REPLICA_PEERS_MAX])
{
    const char *at = text;
    int count = 0;

    if (text == NULL || text[0] == '\0')
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_QUORUM_LIST is not set: TALLY_QUORUM=static "
                         "needs host:port of each replica group and witness, "
                         "separated by commas");
    for (;;) {
        size_t bytes = strcspn(at, ",");
        if (count == REPLICA_PEERS_MAX)
            return core_fail(TALLY_ERR_CONFIG,
                             "TALLY_QUORUM_LIST names more than %d processes",
                             REPLICA_PEERS_MAX);
        if (!parse_entry(at, bytes, &entries[count]))
            return core_fail(TALLY_ERR_CONFIG,
                             "TALLY_QUORUM_LIST: entry %d, \"%.*s\": host:port "
                             "is expected, an IPv6 address in brackets",
                             count, (int)bytes, at);
        tally_status_t status = check_twice(entries, count);
        if (status != TALLY_OK)
            return status;
        count++;
        if (at[bytes] == '\0')
            break;
        at += bytes + 1;
    }
    if (count != peers)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_QUORUM_LIST names %d processes, and there are "
                         "%u replica groups and witnesses",
                         count, (unsigned)peers);
    return TALLY_OK;
}

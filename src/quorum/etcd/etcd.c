// SPDX-License-Identifier: BSD-3-Clause
// The provider "etcd": membership in keys of etcd v3, below PREFIX/JOB/:
//   started/PEER  nothing; the revision at which it was written is the
//                 incarnation of that start of the peer
//   member/PEER   its announcement, under a lease; written only while started/
//                 PEER is of that revision: who is fenced cannot come back
//   lineage       the register, changed by compare-and-swap on its revision
//   force         the operator's: the number of the lineage that is to end,
//                 written by `etcdctl put PREFIX/JOB/force NUMBER`
// All is read by one request, a few times a second: who has died is found out
// by heartbeats of Tally, not here.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "quorum/content.h"
#include "quorum/etcd/http.h"
#include "quorum/etcd/wire.h"

#define KEY_BYTES 512
#define KEEPALIVES_A_LEASE 3

struct quorum_provider {
    const struct quorum_host *host;
    const struct quorum_params *params;
    struct http *http;
    uint64_t job;
    char base[KEY_BYTES]; // "PREFIX/JOB/"
    size_t base_length;
    int64_t lease_s;
    uint64_t incarnation;
    const struct quorum_member *self; // NULL: not announced
    uint64_t lease;                   // 0: there is none
    int64_t renewed_us;
    bool fenced;
    uint64_t there; // peers, at the last look
    uint64_t force; // revision of the operator's word
};

// What one look finds.
struct look {
    uint64_t there;
    uint64_t started; // this peer's revision
    uint64_t lineage;
    bool self;
};

static tally_status_t fail(const struct quorum_provider *provider,
                           tally_status_t status, const char *sentence)
{
    return provider->host->fail(provider->host->context, status, sentence);
}

static tally_status_t strange(const struct quorum_provider *provider)
{
    return fail(provider, TALLY_ERR_SYSTEM,
                "etcd answers what is not understood: is it etcd v3?");
}

// ------------------------------------------------------------------- requests

static json_t *key_of(const struct quorum_provider *provider, const char *name)
{
    char key[KEY_BYTES + 64];
    int length = snprintf(key, sizeof(key), "%s%s", provider->base, name);

    return wire_bytes(key, (size_t)length);
}

static json_t *key_of_peer(const struct quorum_provider *provider,
                           const char *kind, unsigned peer)
{
    char name[32];

    snprintf(name, sizeof(name), "%s/%u", kind, peer);
    return key_of(provider, name);
}

// A put, if the key `compared` is of that revision (0: not there). Takes all.
// OK; MISMATCH: it is not.
static tally_status_t put_if(struct quorum_provider *provider, int timeout_ms,
                             json_t *compared, uint64_t revision, json_t *key,
                             json_t *value, uint64_t lease)
{
    json_t *answer;
    json_t *body = json_pack(
        "{s:[{s:s, s:s, s:o, s:o}], s:[{s:{s:o, s:o, s:o}}]}", "compare",
        "target", "MOD", "result", "EQUAL", "key", compared, "mod_revision",
        wire_number(revision), "success", "request_put", "key", key, "value",
        value, "lease", wire_number(lease));
    tally_status_t status =
        http_post(provider->http, timeout_ms, "/v3/kv/txn", body, &answer);

    if (status != TALLY_OK)
        return status;
    if (!json_is_object(json_object_get(answer, "header")))
        status = strange(provider);
    else if (!json_is_true(json_object_get(answer, "succeeded")))
        status = TALLY_ERR_MISMATCH;
    json_decref(answer);
    return status;
}

static tally_status_t grant_lease(struct quorum_provider *provider,
                                  int timeout_ms)
{
    json_t *answer;
    tally_status_t status = http_post(
        provider->http, timeout_ms, "/v3/lease/grant",
        json_pack("{s:I}", "TTL", (json_int_t)provider->lease_s), &answer);

    if (status != TALLY_OK)
        return status;
    if (!wire_take_number(answer, "ID", &provider->lease) ||
        provider->lease == 0)
        status = strange(provider);
    provider->renewed_us = clock_now_us();
    json_decref(answer);
    return status;
}

static void revoke_lease(struct quorum_provider *provider, int timeout_ms)
{
    json_t *answer;

    // Where it fails, the lease ends by itself.
    if (http_post(provider->http, timeout_ms, "/v3/lease/revoke",
                  json_pack("{s:o}", "ID", wire_number(provider->lease)),
                  &answer) == TALLY_OK)
        json_decref(answer);
    provider->lease = 0;
}

static tally_status_t renew_lease(struct quorum_provider *provider,
                                  int timeout_ms)
{
    int64_t now_us = clock_now_us();
    json_t *answer;
    uint64_t left_s;

    if (now_us - provider->renewed_us <
        provider->lease_s * 1000000 / KEEPALIVES_A_LEASE)
        return TALLY_OK;
    tally_status_t status = http_post(
        provider->http, timeout_ms, "/v3/lease/keepalive",
        json_pack("{s:o}", "ID", wire_number(provider->lease)), &answer);
    if (status != TALLY_OK)
        return status;
    const json_t *result = json_object_get(answer, "result");
    if (!json_is_object(result) || !wire_take_number(result, "TTL", &left_s))
        status = strange(provider);
    else if (left_s == 0)
        provider->lease = 0; // it has ended: a new one is needed
    else
        provider->renewed_us = now_us;
    json_decref(answer);
    return status;
}

static tally_status_t enter(struct quorum_provider *provider, int timeout_ms)
{
    uint8_t bytes[CONTENT_ANNOUNCEMENT_MAX];
    unsigned peer = provider->params->peer;
    size_t length =
        content_announcement_encode(provider->self, provider->job, bytes);
    tally_status_t status = grant_lease(provider, timeout_ms);

    if (status != TALLY_OK)
        return status;
    status =
        put_if(provider, timeout_ms, key_of_peer(provider, "started", peer),
               provider->incarnation, key_of_peer(provider, "member", peer),
               wire_bytes(bytes, length), provider->lease);
    if (status != TALLY_OK)
        revoke_lease(provider, timeout_ms);
    // Why it is refused, the look after it sees.
    return status == TALLY_ERR_MISMATCH ? TALLY_OK : status;
}

// ---------------------------------------------------------------- what it sees

static bool take_member(struct quorum_provider *provider, const json_t *entry,
                        unsigned peer, struct look *look)
{
    uint8_t bytes[CONTENT_ANNOUNCEMENT_MAX + 3];
    struct quorum_member member;
    size_t length;

    // What is not understood is another version's, and no member here.
    if (!wire_take_bytes(entry, "value", bytes, sizeof(bytes), &length) ||
        !content_announcement_decode(bytes, length, provider->job, &member) ||
        member.peer != peer)
        return false;
    if (peer == provider->params->peer &&
        member.incarnation == provider->incarnation)
        look->self = true;
    look->there |= replica_bit(member.peer);
    provider->host->seen(provider->host->context, &member);
    return true;
}

static bool take_lineage(struct quorum_provider *provider, const json_t *entry,
                         uint64_t revision)
{
    struct quorum_value value = {.revision = revision};
    uint8_t bytes[QUORUM_VALUE_MAX + 3];

    if (!wire_take_bytes(entry, "value", bytes, sizeof(bytes), &value.length) ||
        value.length > QUORUM_VALUE_MAX)
        return false;
    memcpy(value.bytes, bytes, value.length);
    provider->host->value(provider->host->context, &value);
    return true;
}

static void take_force(struct quorum_provider *provider, const json_t *entry,
                       uint64_t revision)
{
    char text[16] = "";
    uint32_t lineage;
    size_t length;
    int used = 0;

    if (revision == provider->force)
        return; // told already
    provider->force = revision;
    if (wire_take_bytes(entry, "value", text, sizeof(text) - 4, &length) &&
        text[0] >= '0' && text[0] <= '9' &&
        sscanf(text, "%9" SCNu32 "%n", &lineage, &used) == 1 &&
        (text[used] == '\0' || text[used] == '\n'))
        provider->host->force(provider->host->context, lineage);
    else
        provider->host->log(provider->host->context, TALLY_LOG_WARN,
                            "membership: what the key force holds is not the "
                            "number of a lineage");
}

// False: it is not as etcd writes entries. Keys of others are passed over.
static bool take_entry(struct quorum_provider *provider, const json_t *entry,
                       struct look *look)
{
    char key[KEY_BYTES + 64] = "";
    uint64_t revision;
    size_t length;
    unsigned peer;
    int used = 0;

    if (!wire_take_bytes(entry, "key", key, sizeof(key) - 4, &length) ||
        !wire_take_number(entry, "mod_revision", &revision) ||
        length < provider->base_length || revision == 0)
        return false;
    key[length] = '\0';
    const char *name = key + provider->base_length;
    if (strcmp(name, "lineage") == 0) {
        look->lineage = revision;
        return take_lineage(provider, entry, revision);
    }
    if (strcmp(name, "force") == 0) {
        take_force(provider, entry, revision);
        return true;
    }
    if (sscanf(name, "started/%3u%n", &peer, &used) == 1 &&
        name[used] == '\0') {
        if (peer == provider->params->peer)
            look->started = revision;
    } else if (sscanf(name, "member/%3u%n", &peer, &used) == 1 &&
               name[used] == '\0' && peer < provider->params->peers) {
        (void)take_member(provider, entry, peer, look);
    }
    return true;
}

static tally_status_t take_look(struct quorum_provider *provider,
                                const json_t *answer, struct look *look)
{
    const json_t *entries = json_object_get(answer, "kvs");
    const json_t *entry;
    size_t i;

    if (!json_is_object(json_object_get(answer, "header")) ||
        (entries != NULL && !json_is_array(entries)))
        return strange(provider);
    json_array_foreach(entries, i, entry)
    {
        if (!take_entry(provider, entry, look))
            return strange(provider);
    }
    return TALLY_OK;
}

static tally_status_t look_around(struct quorum_provider *provider,
                                  int timeout_ms, struct look *look)
{
    char end[KEY_BYTES];
    json_t *answer;

    *look = (struct look){0};
    // The first key that does not begin with the base, which ends in '/'.
    memcpy(end, provider->base, provider->base_length);
    end[provider->base_length - 1]++;
    tally_status_t status = http_post(
        provider->http, timeout_ms, "/v3/kv/range",
        json_pack("{s:o, s:o}", "key", key_of(provider, ""), "range_end",
                  wire_bytes(end, provider->base_length)),
        &answer);
    if (status != TALLY_OK)
        return status;
    status = take_look(provider, answer, look);
    json_decref(answer);
    return status;
}

// ------------------------------------------------------------------ operations

static void etcd_close(struct quorum_provider *provider, int timeout_ms)
{
    if (provider->lease != 0)
        revoke_lease(provider, timeout_ms);
    http_close(provider->http);
    free(provider);
}

static tally_status_t etcd_open(const struct quorum_host *host,
                                const struct quorum_params *params,
                                struct quorum_provider **out)
{
    struct quorum_provider *provider = calloc(1, sizeof(*provider));
    tally_status_t status;

    if (provider == NULL)
        return host->fail(host->context, TALLY_ERR_MEMORY,
                          "no memory for membership");
    if (params->job[0] == '\0') {
        free(provider);
        return host->fail(
            host->context, TALLY_ERR_CONFIG,
            "TALLY_JOB is not set: TALLY_QUORUM=etcd needs a name "
            "by which all replica groups are of one job");
    }
    provider->host = host;
    provider->params = params;
    provider->job = content_digest(params->job);
    provider->lease_s =
        strtoll(host->setting(host->context, "TALLY_ETCD_LEASE"), NULL, 10);
    int length = snprintf(provider->base, sizeof(provider->base), "%s/%s/",
                          host->setting(host->context, "TALLY_ETCD_PREFIX"),
                          params->job);
    provider->base_length = (size_t)length;
    status = length < (int)sizeof(provider->base)
                 ? http_open(host, &provider->http)
                 : host->fail(host->context, TALLY_ERR_CONFIG,
                              "TALLY_ETCD_PREFIX and TALLY_JOB are too long");
    if (status != TALLY_OK) {
        free(provider);
        return status;
    }
    *out = provider;
    return TALLY_OK;
}

static tally_status_t etcd_incarnation(struct quorum_provider *provider,
                                       int timeout_ms, uint64_t *incarnation)
{
    json_t *answer;
    tally_status_t status = http_post(
        provider->http, timeout_ms, "/v3/kv/put",
        json_pack("{s:o, s:s}", "key",
                  key_of_peer(provider, "started", provider->params->peer),
                  "value", ""),
        &answer);

    if (status != TALLY_OK)
        return status;
    if (!wire_take_number(json_object_get(answer, "header"), "revision",
                          &provider->incarnation) ||
        provider->incarnation == 0)
        status = strange(provider);
    json_decref(answer);
    if (status == TALLY_OK)
        *incarnation = provider->incarnation;
    return status;
}

static tally_status_t etcd_announce(struct quorum_provider *provider,
                                    int timeout_ms,
                                    const struct quorum_member *self)
{
    provider->self = self;
    return enter(provider, timeout_ms);
}

static tally_status_t heed(struct quorum_provider *provider,
                           const struct look *look)
{
    const struct quorum_host *host = provider->host;

    for (uint64_t rest = provider->there & ~look->there; rest != 0;
         rest &= rest - 1)
        host->gone(host->context, (uint16_t)__builtin_ctzll(rest));
    provider->there = look->there;
    if (look->started > provider->incarnation) {
        provider->fenced = true;
        host->fenced(host->context, look->started);
    } else if (look->started < provider->incarnation) {
        return fail(provider, TALLY_ERR_SYSTEM,
                    "etcd has forgotten this process: its data was removed, or "
                    "is older than that");
    } else if (!look->self) {
        provider->lease = 0; // somebody has removed the entry
    }
    return TALLY_OK;
}

static tally_status_t etcd_watch(struct quorum_provider *provider,
                                 int timeout_ms)
{
    struct look look;
    tally_status_t status = TALLY_OK;

    if (provider->lease != 0)
        status = renew_lease(provider, timeout_ms);
    if (status == TALLY_OK && provider->lease == 0 && !provider->fenced)
        status = enter(provider, timeout_ms);
    if (status == TALLY_OK)
        status = look_around(provider, timeout_ms, &look);
    return status == TALLY_OK ? heed(provider, &look) : status;
}

static tally_status_t etcd_read(struct quorum_provider *provider,
                                int timeout_ms)
{
    const struct quorum_value none = {.revision = 0};
    struct look look;
    tally_status_t status = look_around(provider, timeout_ms, &look);

    if (status == TALLY_OK && look.lineage == 0)
        provider->host->value(provider->host->context, &none);
    return status;
}

static tally_status_t etcd_propose(struct quorum_provider *provider,
                                   int timeout_ms,
                                   const struct quorum_value *next)
{
    return put_if(provider, timeout_ms, key_of(provider, "lineage"),
                  next->revision, key_of(provider, "lineage"),
                  wire_bytes(next->bytes, next->length), 0);
}

static const struct quorum_provider_ops quorum_etcd = {
    .abi = QUORUM_PROVIDER_ABI,
    .name = "etcd",
    .has_register = true,
    .open = etcd_open,
    .incarnation = etcd_incarnation,
    .announce = etcd_announce,
    .watch = etcd_watch,
    .read = etcd_read,
    .propose = etcd_propose,
    .close = etcd_close,
};

TALLY_API tally_status_t
tallyQuorum_query(uint32_t abi, const struct quorum_provider_ops **out);

tally_status_t tallyQuorum_query(uint32_t abi,
                                 const struct quorum_provider_ops **out)
{
    if (abi != QUORUM_PROVIDER_ABI)
        return TALLY_ERR_ABI;
    *out = &quorum_etcd;
    return TALLY_OK;
}

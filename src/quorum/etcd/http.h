// SPDX-License-Identifier: BSD-3-Clause
// Requests to etcd's JSON gateway: one at a time, of the first of its members
// that answers, within a time. It knows nothing of keys.
#ifndef QUORUM_ETCD_HTTP_H
#define QUORUM_ETCD_HTTP_H

#include <jansson.h>

#include "quorum/provider.h"

struct http;

// Reads TALLY_ETCD_*. Errors: CONFIG, MEMORY, UNSUPPORTED.
tally_status_t http_open(const struct quorum_host *host, struct http **out);
void http_close(struct http *http);

// POST of `body` (taken: it is freed) to `path` ("/v3/kv/range"); *answer is a
// JSON object, the caller's. Errors: SYSTEM, TIMEOUT: nobody answered, or not
// as etcd does; then it may have been done all the same. The sentence says whom
// and why.
tally_status_t http_post(struct http *http, int timeout_ms, const char *path,
                         json_t *body_take, json_t **answer);

#endif

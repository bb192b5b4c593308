// SPDX-License-Identifier: BSD-3-Clause
// See http.h.
#include "quorum/etcd/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define ENDPOINTS_MAX 16
#define URL_BYTES 512
// No answer that Tally asks for is longer.
#define ANSWER_BYTES_MAX (4 << 20)
#define HTTP_OK 200
#define REASON_BYTES 200

struct answer {
    char *bytes;
    size_t length;
};

struct http {
    const struct quorum_host *host;
    CURL *curl;
    struct curl_slist *headers;
    char endpoints[ENDPOINTS_MAX][URL_BYTES];
    int count;
    int current;               // the one that answered last
    char why[CURL_ERROR_SIZE]; // the last transfer failed; "": libcurl's code
};

static tally_status_t fail(const struct http *http, tally_status_t status,
                           const char *sentence)
{
    return http->host->fail(http->host->context, status, sentence);
}

static const char *setting(const struct http *http, const char *name)
{
    const char *value = http->host->setting(http->host->context, name);

    return value != NULL ? value : "";
}

// ----------------------------------------------------------------------- open

static tally_status_t take_endpoints(struct http *http)
{
    const char *at = setting(http, "TALLY_ETCD_ENDPOINTS");
    char sentence[QUORUM_SENTENCE_BYTES];

    while (*at != '\0') {
        size_t bytes = strcspn(at, ",");
        size_t kept = bytes;
        while (kept > 0 && at[kept - 1] == '/')
            kept--;
        bool is_url =
            strncmp(at, "http://", 7) == 0 || strncmp(at, "https://", 8) == 0;
        if (!is_url || kept < sizeof("http://") || kept >= URL_BYTES ||
            http->count == ENDPOINTS_MAX) {
            snprintf(sentence, sizeof(sentence),
                     "TALLY_ETCD_ENDPOINTS: \"%.*s\": up to %d URLs are "
                     "expected, http://host:port or https://host:port",
                     (int)(bytes < REASON_BYTES ? bytes : REASON_BYTES), at,
                     ENDPOINTS_MAX);
            return fail(http, TALLY_ERR_CONFIG, sentence);
        }
        memcpy(http->endpoints[http->count], at, kept);
        http->endpoints[http->count++][kept] = '\0';
        at += bytes + (at[bytes] == ',');
    }
    return http->count > 0 ? TALLY_OK
                           : fail(http, TALLY_ERR_CONFIG,
                                  "TALLY_ETCD_ENDPOINTS names no URL");
}

static size_t take_bytes(char *bytes, size_t one, size_t count, void *context)
{
    struct answer *answer = context;
    (void)one; // 1, always

    if (answer->length + count > ANSWER_BYTES_MAX)
        return 0;
    char *more = realloc(answer->bytes, answer->length + count);
    if (more == NULL)
        return 0;
    memcpy(more + answer->length, bytes, count);
    answer->bytes = more;
    answer->length += count;
    return count;
}

static void set_up_tls(struct http *http)
{
    const struct {
        CURLoption option;
        const char *name;
    } files[] = {{CURLOPT_CAINFO, "TALLY_ETCD_CA"},
                 {CURLOPT_SSLCERT, "TALLY_ETCD_CERT"},
                 {CURLOPT_SSLKEY, "TALLY_ETCD_KEY"}};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const char *path = setting(http, files[i].name);
        if (path[0] != '\0')
            curl_easy_setopt(http->curl, files[i].option, path);
    }
}

static tally_status_t set_up(struct http *http)
{
    http->curl = curl_easy_init();
    http->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (http->curl == NULL || http->headers == NULL)
        return fail(http, TALLY_ERR_MEMORY, "no memory for libcurl");
    // Without it libcurl's timeouts raise SIGALRM in the trainer.
    curl_easy_setopt(http->curl, CURLOPT_NOSIGNAL, 1L);
    // etcd is reached as its URL says: a proxy for the web does not know it.
    curl_easy_setopt(http->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, http->headers);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(http->curl, CURLOPT_ERRORBUFFER, http->why);
    set_up_tls(http);
    return TALLY_OK;
}

tally_status_t http_open(const struct quorum_host *host, struct http **out)
{
    struct http *http = calloc(1, sizeof(*http));
    tally_status_t status;

    if (http == NULL)
        return host->fail(host->context, TALLY_ERR_MEMORY,
                          "no memory for membership");
    http->host = host;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        return host->fail(host->context, TALLY_ERR_UNSUPPORTED,
                          "libcurl does not start");
    }
    status = take_endpoints(http);
    if (status == TALLY_OK)
        status = set_up(http);
    if (status != TALLY_OK) {
        http_close(http);
        return status;
    }
    *out = http;
    return TALLY_OK;
}

void http_close(struct http *http)
{
    curl_slist_free_all(http->headers);
    curl_easy_cleanup(http->curl);
    curl_global_cleanup();
    free(http);
}

// ---------------------------------------------------------------------- posts

static tally_status_t say_why(const struct http *http, tally_status_t status,
                              const char *why)
{
    char sentence[URL_BYTES + QUORUM_SENTENCE_BYTES];

    snprintf(sentence, sizeof(sentence), "etcd at %s: %s",
             http->endpoints[http->current], why);
    return fail(http, status, sentence);
}

// etcd's own word for what is wrong.
static tally_status_t refused(const struct http *http, long code,
                              const json_t *object)
{
    const char *message = json_string_value(json_object_get(object, "message"));
    char why[REASON_BYTES];

    if (message == NULL)
        message = json_string_value(json_object_get(object, "error"));
    snprintf(why, sizeof(why), "HTTP %ld%s%s", code,
             message != NULL ? ": " : "", message != NULL ? message : "");
    return say_why(http, TALLY_ERR_SYSTEM, why);
}

static tally_status_t take_answer(const struct http *http,
                                  const struct answer *bytes, json_t **answer)
{
    json_error_t error;
    long code = 0;
    json_t *object = json_loadb(bytes->bytes != NULL ? bytes->bytes : "",
                                bytes->length, JSON_REJECT_DUPLICATES, &error);

    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code == HTTP_OK && json_is_object(object)) {
        *answer = object;
        return TALLY_OK;
    }
    tally_status_t status =
        code != HTTP_OK
            ? refused(http, code, object)
            : say_why(http, TALLY_ERR_SYSTEM,
                      "what it answers is not a JSON object: is it etcd?");
    json_decref(object);
    return status;
}

static tally_status_t post_once(struct http *http, int64_t timeout_ms,
                                const char *path, const char *body,
                                json_t **answer)
{
    char url[URL_BYTES + 64];
    struct answer bytes = {0};
    tally_status_t status;

    snprintf(url, sizeof(url), "%s%s", http->endpoints[http->current], path);
    curl_easy_setopt(http->curl, CURLOPT_URL, url);
    curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &bytes);
    http->why[0] = '\0';
    CURLcode code = curl_easy_perform(http->curl);
    if (code == CURLE_OK)
        status = take_answer(http, &bytes, answer);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        status = say_why(http, TALLY_ERR_TIMEOUT, curl_easy_strerror(code));
    else
        status = say_why(http, TALLY_ERR_SYSTEM,
                         http->why[0] != '\0' ? http->why
                                              : curl_easy_strerror(code));
    free(bytes.bytes);
    return status;
}

tally_status_t http_post(struct http *http, int timeout_ms, const char *path,
                         json_t *body_take, json_t **answer)
{
    int64_t deadline_us = clock_now_us() + (int64_t)timeout_ms * 1000;
    char *body = json_dumps(body_take, JSON_COMPACT);
    tally_status_t status = TALLY_ERR_TIMEOUT;

    json_decref(body_take);
    if (body == NULL)
        return fail(http, TALLY_ERR_MEMORY, "no memory for a request to etcd");
    // Each gets its share of what is left.
    for (int left = http->count; left > 0; left--) {
        int64_t share_ms = (deadline_us - clock_now_us()) / 1000 / left;
        status =
            post_once(http, share_ms > 0 ? share_ms : 1, path, body, answer);
        if (status == TALLY_OK)
            break;
        http->current = (http->current + 1) % http->count;
    }
    free(body);
    return status;
}

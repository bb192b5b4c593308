// SPDX-License-Identifier: BSD-3-Clause
// UCX by itself: see raw.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pingpong/raw.h"
#include "transport/ucx/ucx.h"

#define TAG_MASK_ALL UINT64_MAX

struct raw {
    struct ucx_library library;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h endpoint;
    ucs_status_ptr_t receive;
    char version[64];
};

static const ucp_request_param_t host_memory = {
    .op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE,
    .memory_type = UCS_MEMORY_TYPE_HOST,
};

static void must(const struct raw *raw, const char *what, ucs_status_t status)
{
    if (status != UCS_OK)
        raw_die(what, raw->library.status_string(status));
}

struct raw *raw_open(void)
{
    const ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    struct raw *raw = calloc(1, sizeof(*raw));

    // These say why themselves, by raw_host.
    if (raw == NULL || ucx_library_open(&raw_host, &raw->library) != TALLY_OK ||
        ucx_context_open(&raw_host, &raw_params, &raw->library,
                         &raw->context) != TALLY_OK)
        exit(EXIT_FAILURE);
    must(raw, "ucp_worker_create",
         raw->library.worker_create(raw->context, &params, &raw->worker));
    ucx_library_version(raw->version, sizeof(raw->version));
    return raw;
}

void raw_close(struct raw *raw)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };
    ucs_status_ptr_t closing = raw->library.ep_close_nbx(raw->endpoint, &param);

    if (UCS_PTR_IS_PTR(closing)) {
        while (raw->library.request_check_status(closing) == UCS_INPROGRESS)
            raw->library.worker_progress(raw->worker);
        raw->library.request_free(closing);
    }
    raw->library.worker_destroy(raw->worker);
    raw->library.cleanup(raw->context);
    ucx_library_close(&raw->library);
    free(raw);
}

const char *raw_library(const struct raw *raw)
{
    return raw->version;
}

size_t raw_address(struct raw *raw, void *address)
{
    ucp_address_t *own;
    size_t bytes;

    must(raw, "ucp_worker_get_address",
         raw->library.worker_get_address(raw->worker, &own, &bytes));
    if (bytes > RAW_ADDRESS_BYTES_MAX)
        raw_die("address", "it is too long");
    memcpy(address, own, bytes);
    raw->library.worker_release_address(raw->worker, own);
    return bytes;
}

static void peer_lost(void *argument, ucp_ep_h endpoint, ucs_status_t status)
{
    (void)argument;
    (void)endpoint;
    (void)status; // at the end, when the other has closed first
}

void raw_connect(struct raw *raw, const void *address, size_t bytes)
{
    const ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = address,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = peer_lost},
    };

    (void)bytes; // the address knows its own length
    must(raw, "ucp_ep_create",
         raw->library.ep_create(raw->worker, &params, &raw->endpoint));
}

static void wait_for(struct raw *raw, ucs_status_ptr_t request)
{
    if (request == NULL)
        return;
    if (UCS_PTR_IS_ERR(request))
        must(raw, "a message", UCS_PTR_STATUS(request));
    while (raw->library.request_check_status(request) == UCS_INPROGRESS)
        raw->library.worker_progress(raw->worker);
    must(raw, "a message", raw->library.request_check_status(request));
    raw->library.request_free(request);
}

void raw_send(struct raw *raw, const void *message, size_t bytes)
{
    wait_for(raw, raw->library.tag_send_nbx(raw->endpoint, message, bytes,
                                            RAW_TAG, &host_memory));
}

void raw_receive_post(struct raw *raw, void *message, size_t bytes)
{
    raw->receive = raw->library.tag_recv_nbx(
        raw->worker, message, bytes, RAW_TAG, TAG_MASK_ALL, &host_memory);
}

void raw_receive_wait(struct raw *raw)
{
    wait_for(raw, raw->receive);
}

// SPDX-License-Identifier: BSD-3-Clause
// UCX itself, loaded when it is needed. libtally-ucx.so does not link it, so
// that what UCX does to a process when it is loaded can be held off, and so
// that a UCX that does not fit is refused with both versions named instead of
// with the first symbol it lacks.
#ifndef TRANSPORT_UCX_LIBRARY_H
#define TRANSPORT_UCX_LIBRARY_H

#include <tally/transport.h>
#include <ucp/api/ucp.h>

struct ucx_library {
    void *handle;   // of dlopen
    unsigned minor; // of its version
    __typeof__(ucs_status_string) *status_string;
    __typeof__(ucp_config_read) *config_read;
    __typeof__(ucp_config_modify) *config_modify;
    __typeof__(ucp_config_print) *config_print;
    __typeof__(ucp_config_release) *config_release;
    __typeof__(ucp_init_version) *init_version;
    __typeof__(ucp_context_print_info) *context_print_info;
    __typeof__(ucp_cleanup) *cleanup;
    __typeof__(ucp_worker_create) *worker_create;
    __typeof__(ucp_worker_destroy) *worker_destroy;
    __typeof__(ucp_worker_get_address) *worker_get_address;
    __typeof__(ucp_worker_release_address) *worker_release_address;
    __typeof__(ucp_worker_progress) *worker_progress;
    __typeof__(ucp_worker_get_efd) *worker_get_efd;
    __typeof__(ucp_worker_arm) *worker_arm;
    __typeof__(ucp_worker_flush_nbx) *worker_flush_nbx;
    __typeof__(ucp_ep_create) *ep_create;
    __typeof__(ucp_ep_close_nbx) *ep_close_nbx;
    __typeof__(ucp_tag_send_nbx) *tag_send_nbx;
    __typeof__(ucp_tag_probe_nb) *tag_probe_nb;
    __typeof__(ucp_tag_recv_nbx) *tag_recv_nbx;
    __typeof__(ucp_request_cancel) *request_cancel;
    __typeof__(ucp_request_check_status) *request_check_status;
    __typeof__(ucp_request_free) *request_free;
};

// Errors: TRANSPORT (not there, of a version that does not fit, or lacking a
// symbol).
tally_status_t ucx_library_open(const tally_transport_host_t *host,
                                struct ucx_library *out);
void ucx_library_close(struct ucx_library *library);

// Writes "UCX 1.13.1": what is loaded.
void ucx_library_version(char *text, size_t bytes);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// NCCL itself, loaded when it is needed: the one that is in the process already
// (PyTorch brings its own), else the operator's, the loader's or the wheel's.
#ifndef TRANSPORT_NCCL_LIBRARY_H
#define TRANSPORT_NCCL_LIBRARY_H

#include <nccl.h>
#include <tally/transport.h>

struct nccl_library {
    void *handle; // of dlopen
    __typeof__(ncclGetUniqueId) *get_unique_id;
    __typeof__(ncclCommInitRankConfig) *comm_init_rank_config;
    __typeof__(ncclCommFinalize) *comm_finalize;
    __typeof__(ncclCommDestroy) *comm_destroy;
    __typeof__(ncclCommAbort) *comm_abort;
    __typeof__(ncclCommGetAsyncError) *comm_get_async_error;
    __typeof__(ncclCommCount) *comm_count;
    __typeof__(ncclCommUserRank) *comm_user_rank;
    __typeof__(ncclAllReduce) *all_reduce;
    __typeof__(ncclGetErrorString) *get_error_string;
    __typeof__(ncclGetLastError) *get_last_error;
};

// Errors: TRANSPORT (not there, of a version that does not fit, or lacking a
// symbol).
tally_status_t nccl_library_open(const tally_transport_host_t *host,
                                 struct nccl_library *out);
void nccl_library_close(struct nccl_library *library);

// Writes "NCCL 2.28.9": what is loaded.
void nccl_library_version(char *text, size_t bytes);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The few calls of the CUDA driver that it takes to try a communicator: whether
// there is a device, a stream, and a lane in memory that host and device share.
#ifndef TRANSPORT_NCCL_CUDA_H
#define TRANSPORT_NCCL_CUDA_H

#include <stdint.h>
#include <tally/transport.h>

struct cuda_driver {
    void *handle; // of dlopen
    int devices;  // there are
    int (*init)(unsigned flags);
    int (*device_get_count)(int *count);
    int (*ctx_get_current)(void **context);
    int (*mem_host_alloc)(void **memory, size_t bytes, unsigned flags);
    int (*mem_free_host)(void *memory);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_query)(void *stream);
    int (*stream_destroy)(void *stream);
};

// Errors: TRANSPORT (no driver, or no device: the sentence says which).
tally_status_t cuda_driver_open(const tally_transport_host_t *host,
                                struct cuda_driver *out);
void cuda_driver_close(struct cuda_driver *driver);

// One reduction that has no step: of one lane, on a stream of its own.
struct cuda_trial {
    void *stream;
    int64_t *lane;
};

// Errors: TRANSPORT (no context is current, or it has no memory).
tally_status_t cuda_trial_open(const tally_transport_host_t *host,
                               const struct cuda_driver *driver,
                               struct cuda_trial *out);
// OK: what was enqueued is done; NOT_YET; TRANSPORT.
tally_status_t cuda_trial_poll(const tally_transport_host_t *host,
                               const struct cuda_driver *driver,
                               const struct cuda_trial *trial);
// Nothing is under way. Twice does no harm.
void cuda_trial_close(const struct cuda_driver *driver,
                      struct cuda_trial *trial);

#endif

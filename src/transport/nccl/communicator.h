// SPDX-License-Identifier: BSD-3-Clause
// The inside of libtally-nccl.so: what a transport and a communicator are, and
// which file does what. (nccl.h is NCCL's own header.)
#ifndef TRANSPORT_NCCL_COMMUNICATOR_H
#define TRANSPORT_NCCL_COMMUNICATOR_H

#include <stdbool.h>
#include <tally/transport.h>

#include "transport/nccl/cuda.h"
#include "transport/nccl/ending.h"
#include "transport/nccl/library.h"

struct tally_transport {
    const tally_transport_host_t *host;
    struct nccl_library library;
    struct cuda_driver driver;
};

enum communicator_state {
    COMMUNICATOR_STARTS, // NCCL brings it up
    COMMUNICATOR_TRIES,  // its first reduction is under way
    COMMUNICATOR_OPEN,
    COMMUNICATOR_FAILED
};

struct tally_stream_group {
    tally_transport_t *transport;
    ncclComm_t comm;       // NULL: aborted
    struct ending *ending; // of one aborted; NULL: none, or it is done
    bool adopted;
    int32_t ranks;
    int64_t timeout_us;
    enum communicator_state state;
    struct cuda_trial trial;
    tally_status_t failed; // of COMMUNICATOR_FAILED
    char sentence[256];
};

// communicator.c
tally_status_t communicator_id(tally_transport_t *transport, void *id,
                               size_t *bytes);
tally_status_t communicator_open(tally_transport_t *transport,
                                 const tally_stream_group_params_t *params,
                                 tally_stream_group_t **out);
tally_status_t communicator_poll(tally_transport_t *transport,
                                 tally_stream_group_t *group);
void communicator_abort(tally_transport_t *transport,
                        tally_stream_group_t *group);
void communicator_close(tally_transport_t *transport,
                        tally_stream_group_t *group);

// adopt.c: sees that the host program's communicator is one, and of these
// ranks. Errors: INVALID, MISMATCH, what the communicator has failed with.
tally_status_t communicator_adopt(tally_transport_t *transport,
                                  const tally_stream_group_params_t *params,
                                  tally_stream_group_t *group);

// allreduce.c
tally_status_t communicator_sum(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream);
tally_status_t communicator_max(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream);
// What NCCL has to say of a result that is not good. From then on the
// communicator has failed.
tally_status_t communicator_fail(tally_stream_group_t *group,
                                 ncclResult_t result);

#endif

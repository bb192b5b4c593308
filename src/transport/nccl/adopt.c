// SPDX-License-Identifier: BSD-3-Clause
// The host program's communicator: what can be seen of it before it is used.
#include <sys/uio.h>
#include <unistd.h>

#include "transport/nccl/communicator.h"
#include "transport/nccl/status.h"

// NCCL reads what it is given; what is no memory would end the process. The
// kernel tells without a signal.
static bool is_readable(const void *address)
{
    char byte;
    struct iovec into = {&byte, sizeof(byte)};
    struct iovec from = {(void *)(uintptr_t)address, sizeof(byte)};

    return process_vm_readv(getpid(), &into, 1, &from, 1, 0) ==
           (ssize_t)sizeof(byte);
}

static tally_status_t check_ranks(const tally_transport_t *transport,
                                  const tally_stream_group_params_t *params,
                                  ncclComm_t comm)
{
    const struct nccl_library *library = &transport->library;
    int ranks = 0, rank = 0;

    ncclResult_t result = library->comm_count(comm, &ranks);
    if (result == ncclSuccess)
        result = library->comm_user_rank(comm, &rank);
    if (result != ncclSuccess)
        return nccl_fail(transport->host, TALLY_ERR_INVALID,
                         "nccl_comm is no communicator that can be used: %s",
                         library->get_error_string(result));
    if (ranks != params->ranks || rank != params->rank)
        return nccl_fail(transport->host, TALLY_ERR_MISMATCH,
                         "nccl_comm is rank %d of %d, the group is rank %d of "
                         "%d",
                         rank, ranks, (int)params->rank, (int)params->ranks);
    return TALLY_OK;
}

tally_status_t communicator_adopt(tally_transport_t *transport,
                                  const tally_stream_group_params_t *params,
                                  tally_stream_group_t *group)
{
    if ((uintptr_t)params->adopted % sizeof(void *) != 0 ||
        !is_readable(params->adopted))
        return nccl_fail(transport->host, TALLY_ERR_INVALID,
                         "nccl_comm is no communicator: %p cannot be read",
                         params->adopted);
    tally_status_t status = check_ranks(transport, params, params->adopted);
    if (status != TALLY_OK)
        return status;
    group->comm = params->adopted;
    group->adopted = true;
    group->state = COMMUNICATOR_OPEN;
    return TALLY_OK;
}

// SPDX-License-Identifier: BSD-3-Clause
// Reductions on the caller's stream. A communicator that does not block may
// take one by a thread of its own: the call returns when it is in the stream.
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "transport/nccl/communicator.h"
#include "transport/nccl/status.h"

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static tally_status_t fail_again(const tally_stream_group_t *group)
{
    return nccl_fail(group->transport->host, group->failed, "%s",
                     group->sentence);
}

tally_status_t communicator_fail(tally_stream_group_t *group,
                                 ncclResult_t result)
{
    const struct nccl_library *library = &group->transport->library;
    const char *last = library->get_last_error(group->comm);

    group->state = COMMUNICATOR_FAILED;
    group->failed = nccl_status(result);
    snprintf(group->sentence, sizeof(group->sentence), "NCCL: %s%s%s",
             library->get_error_string(result),
             last != NULL && last[0] != '\0' ? ": " : "",
             last != NULL ? last : "");
    return fail_again(group);
}

// Until NCCL has taken what it was given.
static tally_status_t wait_taken(tally_stream_group_t *group)
{
    const struct nccl_library *library = &group->transport->library;
    int64_t deadline_us = now_us() + group->timeout_us;

    for (;;) {
        ncclResult_t state = ncclSuccess;
        ncclResult_t result =
            library->comm_get_async_error(group->comm, &state);

        if (result == ncclSuccess)
            result = state;
        if (result == ncclSuccess)
            return TALLY_OK;
        if (result != ncclInProgress)
            return communicator_fail(group, result);
        if (now_us() >= deadline_us)
            break;
        sched_yield();
    }
    group->state = COMMUNICATOR_FAILED;
    group->failed = TALLY_ERR_TIMEOUT;
    snprintf(group->sentence, sizeof(group->sentence),
             "NCCL has not put a reduction into the stream in %g s",
             (double)group->timeout_us * 1e-6);
    return fail_again(group);
}

static tally_status_t enqueue(tally_stream_group_t *group, int64_t *lanes,
                              size_t count, ncclRedOp_t operation,
                              tally_stream_t stream)
{
    if (group->state == COMMUNICATOR_FAILED)
        return fail_again(group);
    ncclResult_t result = group->transport->library.all_reduce(
        lanes, lanes, count, ncclInt64, operation, group->comm, stream);
    if (result == ncclInProgress)
        return wait_taken(group);
    return result == ncclSuccess ? TALLY_OK : communicator_fail(group, result);
}

tally_status_t communicator_sum(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream)
{
    (void)transport;
    return enqueue(group, lanes, count, ncclSum, stream);
}

tally_status_t communicator_max(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream)
{
    (void)transport;
    return enqueue(group, lanes, count, ncclMax, stream);
}

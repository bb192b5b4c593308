// SPDX-License-Identifier: BSD-3-Clause
// See wake.h.
#include "collective/wake.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static_assert(sizeof(struct wake) == 64, "one cache line");

static bool membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

void wake_join(struct wake *wake)
{
    if (!membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
        atomic_store(&wake->refused, 1);
}

void wake_call(struct wake *wake)
{
    if (atomic_exchange(&wake->asleep, 0) == 0)
        return;
    atomic_fetch_add(&wake->calls, 1);
    syscall(SYS_futex, &wake->calls, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

tally_status_t wake_arm(struct wake *wake, uint32_t *seen)
{
    if (atomic_load(&wake->refused) != 0)
        return TALLY_ERR_UNSUPPORTED;
    *seen = atomic_load(&wake->calls);
    atomic_store(&wake->asleep, 1);
    return membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) ? TALLY_OK
                                                       : TALLY_ERR_UNSUPPORTED;
}

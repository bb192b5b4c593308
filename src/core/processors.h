// SPDX-License-Identifier: BSD-3-Clause
// How many processors this process may run on.
#ifndef CORE_PROCESSORS_H
#define CORE_PROCESSORS_H

#include <sched.h>
#include <stdint.h>
#include <unistd.h>

static inline int32_t processors_count(void)
{
    cpu_set_t set;

    // It fails where there are more than it has bits for: 1024.
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    return (int32_t)CPU_COUNT(&set);
}

#endif

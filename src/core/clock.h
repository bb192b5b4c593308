// SPDX-License-Identifier: BSD-3-Clause
// The one clock of deadlines, and times that waits of the system take.
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

// CLOCK_MONOTONIC in microseconds.
static inline int64_t clock_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// The time of a clock after so many microseconds, for what waits until then.
static inline struct timespec clock_after(clockid_t clock, int64_t us)
{
    struct timespec time;

    clock_gettime(clock, &time);
    time.tv_nsec += us % 1000000 * 1000;
    time.tv_sec += us / 1000000 + time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

#endif

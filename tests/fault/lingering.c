// SPDX-License-Identifier: BSD-3-Clause
// A library whose destructor takes its time: what runs on in a process that
// exits meets what others have destroyed.
#include <time.h>

__attribute__((destructor)) static void linger(void)
{
    const struct timespec time = {0, 150000000};

    nanosleep(&time, NULL);
}

// SPDX-License-Identifier: BSD-3-Clause
// Threads that share out the rows of one call. The caller works too, and a call
// returns when all rows are done. Every thread works in the default
// floating-point mode, whatever the caller's is.
#ifndef DEVICE_HOST_POOL_H
#define DEVICE_HOST_POOL_H

#include <stdint.h>
#include <tally/tally.h>

#include "numeric/record.h"

struct host_pool;

struct host_job {
    // Does rows [begin, end) and adds to *record, which is the thread's own.
    void (*work)(const void *context, int64_t begin, int64_t end,
                 struct numeric_record *record);
    const void *context;
    int64_t rows;
    int64_t grain; // rows handed out at a time, 1 to 2^20
};

// threads >= 1, the caller's included.
tally_status_t host_pool_open(int32_t threads, struct host_pool **out);
void host_pool_close(struct host_pool *pool);

// Adds to *record. One caller at a time.
void host_pool_run(struct host_pool *pool, const struct host_job *job,
                   struct numeric_record *record);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a stream has to do beside Tally's part, and its own clock: by the
// driver, of the context that is current. Failures end the process.
#ifndef BENCH_GPU_WORK_H
#define BENCH_GPU_WORK_H

#include <stdint.h>
#include <tally/tally.h>

// Enqueues a kernel of one thread that takes so long.
void work_enqueue(tally_stream_t stream, uint64_t ns);

// Two marks on a stream, and what lies between them, once both are reached.
enum work_mark { WORK_BEGIN, WORK_END };
void work_mark(tally_stream_t stream, enum work_mark which);
int64_t work_between_ns(void);

// Enqueues an all-reduce by NCCL alone, of so many 64-bit integers of device
// memory, in place.
void work_all_reduce(void *lanes, size_t count, void *comm,
                     tally_stream_t stream);

#endif

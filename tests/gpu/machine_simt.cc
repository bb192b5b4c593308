// SPDX-License-Identifier: BSD-3-Clause
// The emulator as the machine. Memory is malloc's, to the byte, so that the
// address sanitizer sees every access past an end.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/machine.h"
#include "kernels/simt/simt.h"

#define DECLARE(name) void name(const struct kernel_job)
#define DECLARE_ALL(type)                                                      \
    DECLARE(tally_loss_##type);                                                \
    DECLARE(tally_backward_##type)

void tally_count(const struct kernel_count);
void tally_count_publish(const struct kernel_count_publish);
void tally_publish(const struct kernel_publish);
void tally_wait(const struct kernel_wait);
void tally_contribute(const struct kernel_contribute);
void tally_settle(const struct kernel_settle);
void tally_maximum(const struct kernel_maximum);
void tally_multiply_f32(const struct kernel_multiply);
void tally_multiply_bf16(const struct kernel_multiply);
void tally_multiply_f16(const struct kernel_multiply);
void tally_finish(const struct kernel_finish);
void tally_finish_shaped(const struct kernel_finish);
DECLARE_ALL(f32);
DECLARE_ALL(bf16);
DECLARE_ALL(f16);
DECLARE_ALL(f32_shaped);
DECLARE_ALL(bf16_shaped);
DECLARE_ALL(f16_shaped);
DECLARE(tally_loss_rows_bf16);
DECLARE(tally_loss_rows_f16);
DECLARE(tally_loss_grad_f32);
DECLARE(tally_loss_grad_bf16);
DECLARE(tally_loss_grad_f16);
DECLARE(tally_loss_grad_long_f32);
DECLARE(tally_loss_grad_long_bf16);
DECLARE(tally_loss_grad_long_f16);

typedef void (*entry)(const void *);

template <class P, void (*kernel)(const P)> static void call(const void *params)
{
    kernel(*(const P *)params);
}

#define JOBS(name)                                                             \
    {                                                                          \
        {call<kernel_job, name##_f32>, call<kernel_job, name##_bf16>,          \
         call<kernel_job, name##_f16>},                                        \
        {                                                                      \
            call<kernel_job, name##_f32_shaped>,                               \
                call<kernel_job, name##_bf16_shaped>,                          \
                call<kernel_job, name##_f16_shaped>                            \
        }                                                                      \
    }

#define PLAIN_JOBS(name)                                                       \
    {                                                                          \
        {call<kernel_job, name##_f32>, call<kernel_job, name##_bf16>,          \
         call<kernel_job, name##_f16>},                                        \
        {                                                                      \
        }                                                                      \
    }

static const entry jobs[][2][KERNEL_ELEMENTS] = {
    JOBS(tally_loss),
    {{NULL, call<kernel_job, tally_loss_rows_bf16>,
      call<kernel_job, tally_loss_rows_f16>},
     {}},
    PLAIN_JOBS(tally_loss_grad),
    PLAIN_JOBS(tally_loss_grad_long),
    JOBS(tally_backward),
    {{call<kernel_multiply, tally_multiply_f32>,
      call<kernel_multiply, tally_multiply_bf16>,
      call<kernel_multiply, tally_multiply_f16>},
     {}}};

// Those before RUN_FINISH.
static const entry singles[] = {call<kernel_count, tally_count>,
                                call<kernel_count_publish, tally_count_publish>,
                                call<kernel_publish, tally_publish>,
                                call<kernel_wait, tally_wait>,
                                call<kernel_contribute, tally_contribute>,
                                call<kernel_settle, tally_settle>,
                                call<kernel_maximum, tally_maximum>};

static const entry finishes[2] = {call<kernel_finish, tally_finish>,
                                  call<kernel_finish, tally_finish_shaped>};

// Small, so that persistent kernels go round.
struct kernel_device machine_device()
{
    return {6, 1};
}

bool machine_is_emulated()
{
    return true;
}

void *machine_alloc(size_t bytes)
{
    void *memory;

    if (posix_memalign(&memory, 256, bytes > 0 ? bytes : 1) != 0)
        abort();
    return memory;
}

void machine_free(void *memory)
{
    free(memory);
}

void machine_put(void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, from, bytes);
}

void machine_get(void *to, const void *from, size_t bytes)
{
    machine_put(to, from, bytes);
}

void machine_allow(void *at, size_t bytes, bool allowed)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)at + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)at + bytes) / page * page;

    if (begin < end &&
        mprotect((void *)begin, end - begin,
                 allowed ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        abort();
}

void machine_fill(void *to, int value, size_t bytes)
{
    memset(to, value, bytes);
}

size_t machine_differs(const void *from, int value, size_t bytes)
{
    size_t i = 0;

    while (i < bytes && ((const unsigned char *)from)[i] == value)
        i++;
    return i;
}

void machine_run(const struct machine_kernel &kernel, const void *params,
                 size_t, const struct kernel_shape &shape, uint64_t seed)
{
    entry call_it =
        kernel.name < RUN_FINISH ? singles[kernel.name]
        : kernel.name == RUN_FINISH
            ? finishes[kernel.shaped]
            : jobs[kernel.name - RUN_LOSS][kernel.shaped][kernel.type];

    if (shape.blocks > 0)
        simt_launch(call_it, params, shape, seed);
}

void machine_watch(void (*seen)(const uint64_t *at))
{
    simt_watch(seen);
}

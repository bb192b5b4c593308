// SPDX-License-Identifier: BSD-3-Clause
// The kernels. What each is for and how it is launched is in launch.h, how a
// row is read in row.h.
#include "gradient.h"
#include "loss.h"
#include "loss_rows.h"
#include "multiply.h"
#include "stream.h"
#include "token.h"

GPU_KERNEL(256, 4, tally_count, struct kernel_count count)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    count_labels(count);
}

GPU_KERNEL(256, 4, tally_count_publish, struct kernel_count_publish both)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    count_labels(both.count);
    if (is_last_block(&both.publish.state->arrived))
        publish_slot(both.publish);
}

GPU_KERNEL(KERNEL_SLOT_THREADS, 1, tally_publish, struct kernel_publish publish)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    publish_slot(publish);
}

GPU_KERNEL(KERNEL_SLOT_THREADS, 1, tally_wait, struct kernel_wait wait)
{
    gpu_dependency_wait();
    wait_for_scales(wait);
}

GPU_KERNEL(KERNEL_SLOT_THREADS, 1, tally_contribute,
           struct kernel_contribute contribute)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    contribute_lanes(contribute);
}

GPU_KERNEL(KERNEL_SLOT_THREADS, 1, tally_settle, struct kernel_settle settle)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    settle_totals(settle);
}

GPU_KERNEL(32, 1, tally_maximum, struct kernel_maximum maximum)
{
    gpu_dependency_wait();
    gpu_dependents_launch();
    if (gpu_thread() == 0)
        gpu_atomic_max(maximum.code, numeric_maximum_encode(*maximum.value));
}

#define DEFINE_MULTIPLY(name)                                                  \
    GPU_KERNEL(MULTIPLY_THREADS, 8, tally_multiply_##name,                     \
               struct kernel_multiply job)                                     \
    {                                                                          \
        multiply_all<element_##name>(job);                                     \
    }

DEFINE_MULTIPLY(f32)
DEFINE_MULTIPLY(bf16)
DEFINE_MULTIPLY(f16)

GPU_KERNEL(256, 1, tally_finish, struct kernel_finish finish)
{
    finish_rows<plain_variant<double>>(finish);
}

GPU_KERNEL(256, 1, tally_finish_shaped, struct kernel_finish finish)
{
    finish_rows<shaped_variant<double>>(finish);
}

// The last parameter: blocks of `backward` on a multiprocessor.
#define DEFINE_KERNELS(name, element, variant, blocks)                         \
    GPU_KERNEL(ROW_THREADS, KERNEL_LOSS_BLOCKS, tally_loss_##name,             \
               struct kernel_job job)                                          \
    {                                                                          \
        loss_row<element, variant<element::real>>(job);                        \
    }                                                                          \
    GPU_KERNEL(BACKWARD_THREADS, blocks, tally_backward_##name,                \
               struct kernel_job job)                                          \
    {                                                                          \
        backward_tile<element, variant<element::real>>(job);                   \
    }

DEFINE_KERNELS(f32, element_f32, plain_variant, 2)
DEFINE_KERNELS(bf16, element_bf16, plain_variant, 2)
DEFINE_KERNELS(f16, element_f16, plain_variant, 2)
DEFINE_KERNELS(f32_shaped, element_f32, shaped_variant, 1)
DEFINE_KERNELS(bf16_shaped, element_bf16, shaped_variant, 1)
DEFINE_KERNELS(f16_shaped, element_f16, shaped_variant, 1)

#define DEFINE_LOSS_ROWS(name)                                                 \
    GPU_KERNEL(ROW_THREADS, KERNEL_LOSS_BLOCKS, tally_loss_rows_##name,        \
               struct kernel_job job)                                          \
    {                                                                          \
        loss_rows<element_##name, plain_variant<element_##name::real>>(job);   \
    }

DEFINE_LOSS_ROWS(bf16)
DEFINE_LOSS_ROWS(f16)

// Of the shaped variant the registers do not hold what these need.
#define DEFINE_ONE_PASS(name)                                                  \
    GPU_KERNEL(ROW_THREADS, 4, tally_loss_grad_##name, struct kernel_job job)  \
    {                                                                          \
        const struct far_slice<element_##name> far = {gpu_shared()};           \
        loss_grad_row<element_##name>(job, far,                                \
                                      gpu_shared() + ROW_TILE_BYTES);          \
    }                                                                          \
    GPU_KERNEL(2 * ROW_THREADS, 1, tally_loss_grad_long_##name,                \
               struct kernel_job job)                                          \
    {                                                                          \
        const struct slice<element_##name> far = {};                           \
        loss_grad_row<element_##name>(job, far, gpu_shared());                 \
    }

DEFINE_ONE_PASS(f32)
DEFINE_ONE_PASS(bf16)
DEFINE_ONE_PASS(f16)

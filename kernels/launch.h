// SPDX-License-Identifier: BSD-3-Clause
// How each kernel is launched: for who launches one, and for the kernels. C and
// CUDA. The shape never changes a result; parameters are in params.h.
//
//     name                  params         needs
//     tally_count           kernel_count
//     tally_loss_TYPE       kernel_job     nll, parts, record: each or none
//     tally_loss_rows_TYPE  kernel_job     kernel_loss_rows_fits(); in place of
//                                          tally_loss_TYPE if it pays:
//                                          kernel_loss_rows_pays()
//     tally_loss_grad_TYPE  kernel_job     kernel_loss_grad_fits()
//     tally_loss_grad_long_TYPE            in its place if the row is long:
//                                          kernel_loss_grad_is_long()
//     tally_backward_TYPE   kernel_job     parts
//     tally_finish          kernel_finish  parts of all ranks
//     tally_count_publish   kernel_count_publish  the same and then publish;
//                                          KERNEL_COUNT_PUBLISH_BYTES
//     tally_publish         kernel_publish one block; see slot.h
//     tally_wait            kernel_wait    one block
//     tally_contribute      kernel_contribute  one block
//     tally_settle          kernel_settle  one block, KERNEL_SETTLE_BYTES
//     tally_maximum         kernel_maximum one warp
//     tally_multiply_TYPE   kernel_multiply
//
// TYPE is f32, bf16 or f16, of loss_rows the latter two; "_shaped" after it is
// the variant that heeds kernel_job.shaping, which loss_rows and loss_grad have
// not. Records must have room for the tokens added since their last fold: 2^31.
//   * COUNT_FIRST without tensor parallelism: count, then loss_grad, or where
//     it does not fit loss with parts and then backward: the same bits.
//   * Vocabulary-parallel: loss on the rank's columns with parts alone; the
//     caller gathers them; finish on any ranks that need the result; backward
//     with what finish wrote.
#ifndef KERNELS_LAUNCH_H
#define KERNELS_LAUNCH_H

#include "kernels/params.h"

// A tile of a row: 256 threads' 8 vectors of 16 bytes.
#define ROW_THREADS 256
#define ROW_DEPTH 8
#define ROW_VECTOR_BYTES 16
#define ROW_TILE (ROW_THREADS * ROW_DEPTH)
#define ROW_TILE_BYTES (ROW_TILE * ROW_VECTOR_BYTES)
#define ROW_WARPS (ROW_THREADS / 32)

#ifdef __CUDACC__
#define KERNEL_FN __host__ __device__ static inline
#else
#define KERNEL_FN static inline
#endif

struct kernel_device {
    int32_t multiprocessors;
    int32_t clusters; // sm_90 and later
};

struct kernel_shape {
    uint32_t blocks; // 0: nothing to do
    uint32_t cluster;
    uint32_t threads;
    uint32_t shared_bytes; // dynamic; never above the 48 KiB of any kernel
};

// The largest cluster that every device with clusters takes.
#define KERNEL_CLUSTER_MAX 8

KERNEL_FN int64_t kernel_element_bytes(enum kernel_element type)
{
    return type == KERNEL_F32 ? 4 : 2;
}

KERNEL_FN int64_t kernel_tiles(enum kernel_element type, int64_t width)
{
    int64_t whole = width * kernel_element_bytes(type) / ROW_VECTOR_BYTES;

    return (whole + ROW_TILE - 1) / ROW_TILE;
}

// Of a row: a pair (maximum, sum) and a sum of logits a warp, and one for the
// tail. Sums are in double for float32.
KERNEL_FN int64_t kernel_pair_bytes(enum kernel_element type)
{
    return type == KERNEL_F32 ? 16 : 8;
}

KERNEL_FN int64_t kernel_pairs(int64_t tiles)
{
    return tiles * ROW_WARPS + 1;
}

KERNEL_FN struct kernel_shape
kernel_count_shape(const struct kernel_device *device, int64_t tokens)
{
    int64_t blocks = (tokens + 4 * 256 - 1) / (4 * 256);
    int64_t most = 4 * (int64_t)device->multiprocessors;
    struct kernel_shape shape = {0, 1, 256, 0};

    shape.blocks = (uint32_t)(blocks < most ? blocks : most);
    return shape;
}

// 4 vectors of 16 bytes a thread, or more where there are many.
#define MULTIPLY_THREADS 256

KERNEL_FN struct kernel_shape
kernel_multiply_shape(const struct kernel_device *device, int64_t elements)
{
    int64_t share = MULTIPLY_THREADS * 4 * 8;
    int64_t blocks = (elements + share - 1) / share;
    int64_t most = 8 * (int64_t)device->multiprocessors;
    struct kernel_shape shape = {0, 1, MULTIPLY_THREADS, 0};

    shape.blocks = (uint32_t)(blocks < most ? blocks : most);
    return shape;
}

KERNEL_FN struct kernel_shape kernel_finish_shape(int64_t tokens)
{
    struct kernel_shape shape = {0, 1, 256, 0};

    shape.blocks = (uint32_t)((tokens + 255) / 256);
    return shape;
}

// Of `cluster` blocks a row: a row's tiles are dealt out among them.
KERNEL_FN struct kernel_shape kernel_loss_shape_of(enum kernel_element type,
                                                   int64_t width,
                                                   int64_t tokens,
                                                   int64_t cluster)
{
    int64_t pairs = kernel_pairs(kernel_tiles(type, width));
    struct kernel_shape shape = {0, 1, ROW_THREADS, 0};

    shape.blocks = (uint32_t)(tokens * cluster);
    shape.cluster = (uint32_t)cluster;
    shape.shared_bytes = (uint32_t)(pairs * (kernel_pair_bytes(type) + 4));
    return shape;
}

// Blocks of `loss` on a multiprocessor: how many loads are under way.
#define KERNEL_LOSS_BLOCKS 4

KERNEL_FN struct kernel_shape
kernel_loss_shape(const struct kernel_device *device, enum kernel_element type,
                  int64_t width, int64_t tokens)
{
    int64_t most = KERNEL_LOSS_BLOCKS * (int64_t)device->multiprocessors;

    // Blocks of one row wait for each other: only if there are some to spare.
    return kernel_loss_shape_of(type, width, tokens,
                                device->clusters && 2 * tokens <= most &&
                                        kernel_tiles(type, width) > 1
                                    ? 2
                                    : 1);
}

// `loss_rows`, of short rows: blocks of several rows come first, then blocks of
// one, so that all multiprocessors end at about the same time.
#define KERNEL_LOSS_ROWS 4
#define KERNEL_LOSS_ROWS_SINGLES (2 * KERNEL_LOSS_BLOCKS) // a multiprocessor
#define KERNEL_LOSS_ROWS_TILES 2                          // a row, at most
#define KERNEL_LOSS_ROWS_PAIRS (KERNEL_LOSS_ROWS_TILES * ROW_WARPS + 1)
#define KERNEL_LOSS_ROWS_BYTES 512 // shared

// How many of so many blocks have several rows.
KERNEL_FN int32_t kernel_loss_rows_many(int64_t tokens, int64_t blocks)
{
    return (int32_t)(tokens - blocks) / (KERNEL_LOSS_ROWS - 1);
}

// At least `singles` rows have a block each, if there are so many.
KERNEL_FN struct kernel_shape kernel_loss_rows_shape_of(int64_t tokens,
                                                        int64_t singles)
{
    int64_t many = tokens > singles ? (tokens - singles) / KERNEL_LOSS_ROWS : 0;
    struct kernel_shape shape = {0, 1, ROW_THREADS, KERNEL_LOSS_ROWS_BYTES};

    shape.blocks = (uint32_t)(tokens - many * (KERNEL_LOSS_ROWS - 1));
    return shape;
}

KERNEL_FN struct kernel_shape
kernel_loss_rows_shape(const struct kernel_device *device, int64_t tokens)
{
    return kernel_loss_rows_shape_of(
        tokens, KERNEL_LOSS_ROWS_SINGLES * (int64_t)device->multiprocessors);
}

// Rows must be short and aligned to vectors. Those of float32 gain nothing: the
// time is that of their exponentials.
KERNEL_FN int kernel_loss_rows_fits(enum kernel_element type,
                                    const struct kernel_job *job)
{
    uint64_t all = (uint64_t)(uintptr_t)job->logits |
                   (uint64_t)(job->stride * kernel_element_bytes(type));

    return type != KERNEL_F32 && all % ROW_VECTOR_BYTES == 0 &&
           kernel_tiles(type, job->width) <= KERNEL_LOSS_ROWS_TILES &&
           job->labels.tokens <= INT32_MAX;
}

// Whether it is to be launched in place of `loss`: it must fit, and there must
// be rows for blocks of several of them on all multiprocessors.
KERNEL_FN int kernel_loss_rows_pays(const struct kernel_device *device,
                                    enum kernel_element type,
                                    const struct kernel_job *job)
{
    int64_t enough =
        KERNEL_LOSS_BLOCKS * KERNEL_LOSS_ROWS + KERNEL_LOSS_ROWS_SINGLES;

    return kernel_loss_rows_fits(type, job) &&
           job->labels.tokens >= enough * device->multiprocessors;
}

// 256 threads of `loss_grad` have two tiles of one row, one of them in
// registers and one in shared memory, or both in registers; a cluster has all
// of it.
#define GRAD_SLICES 2

// A row that 8 such blocks have no room for takes blocks of 512 threads: a
// kernel of its own, as a multiprocessor holds fewer of them.
KERNEL_FN int kernel_loss_grad_is_long(enum kernel_element type, int64_t width)
{
    return kernel_tiles(type, width) > GRAD_SLICES * KERNEL_CLUSTER_MAX;
}

KERNEL_FN int64_t kernel_loss_grad_cluster(enum kernel_element type,
                                           int64_t width)
{
    int64_t tiles = kernel_tiles(type, width);
    int64_t held =
        kernel_loss_grad_is_long(type, width) ? 2 * GRAD_SLICES : GRAD_SLICES;

    return tiles > held ? (tiles + held - 1) / held : 1;
}

// Behind the clusters of all rows those that store zeros, each for the rows
// that do not count among so many. Fewer a cluster take longer where all count.
#define GRAD_CLEAR_ROWS 16

KERNEL_FN int kernel_clears_last(int64_t element_bytes)
{
    return element_bytes < 4;
}

KERNEL_FN int64_t kernel_loss_grad_clusters(enum kernel_element type,
                                            int64_t tokens)
{
    return kernel_clears_last(kernel_element_bytes(type))
               ? tokens + (tokens + GRAD_CLEAR_ROWS - 1) / GRAD_CLEAR_ROWS
               : tokens;
}

// Rows must be of whole vectors and aligned to them. A launch has less than
// 2^31 blocks.
KERNEL_FN int kernel_loss_grad_fits(const struct kernel_device *device,
                                    enum kernel_element type,
                                    const struct kernel_job *job)
{
    int64_t bytes = kernel_element_bytes(type);
    int64_t cluster = kernel_loss_grad_cluster(type, job->width);
    uint64_t all = (uint64_t)(uintptr_t)job->logits |
                   (uint64_t)(uintptr_t)job->gradient |
                   (uint64_t)(job->stride * bytes) |
                   (uint64_t)(job->gradient_stride * bytes) |
                   (uint64_t)(job->width * bytes);

    return all % ROW_VECTOR_BYTES == 0 && cluster <= KERNEL_CLUSTER_MAX &&
           (cluster == 1 || device->clusters) &&
           kernel_loss_grad_clusters(type, job->labels.tokens) <=
               INT32_MAX / cluster;
}

#define KERNEL_BARRIER_BYTES 16 // pairs lie after it

KERNEL_FN struct kernel_shape
kernel_loss_grad_shape(enum kernel_element type, int64_t width, int64_t tokens)
{
    int64_t pairs = kernel_pairs(kernel_tiles(type, width));
    int64_t cluster = kernel_loss_grad_cluster(type, width);
    struct kernel_shape shape = {0, 1, ROW_THREADS, 0};

    shape.blocks =
        (uint32_t)(kernel_loss_grad_clusters(type, tokens) * cluster);
    shape.cluster = (uint32_t)cluster;
    // The pairs, and the label's logit; before them a tile, but for long rows.
    shape.shared_bytes =
        (uint32_t)(KERNEL_BARRIER_BYTES + pairs * kernel_pair_bytes(type));
    if (kernel_loss_grad_is_long(type, width))
        shape.threads = 2 * ROW_THREADS;
    else
        shape.shared_bytes += ROW_TILE_BYTES;
    return shape;
}

// So many vectors of a row a block; the tail is of the last one.
#define BACKWARD_THREADS 512
#define BACKWARD_DEPTH 8
#define BACKWARD_TILE (BACKWARD_THREADS * BACKWARD_DEPTH)

KERNEL_FN int64_t kernel_backward_tiles(int64_t vectors)
{
    return vectors > 0 ? (vectors + BACKWARD_TILE - 1) / BACKWARD_TILE : 1;
}

KERNEL_FN struct kernel_shape
kernel_backward_shape(enum kernel_element type, int64_t width, int64_t tokens)
{
    int64_t vectors = width * kernel_element_bytes(type) / ROW_VECTOR_BYTES;
    struct kernel_shape shape = {0, 1, BACKWARD_THREADS, 0};

    shape.blocks = (uint32_t)(tokens * kernel_backward_tiles(vectors));
    return shape;
}

#endif

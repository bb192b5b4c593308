// SPDX-License-Identifier: BSD-3-Clause
// The kernels next to what the memory can do, in the same run: medians, as one
// line of JSON each. bench/gpu.sh builds it and makes the table.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/tally.cu"
#include "tests/gpu/launch_cuda.h"

#define TOKENS 8192
#define RUNS 25

static void must(cudaError_t error, int line)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "line %d: %s\n", line, cudaGetErrorString(error));
    exit(3);
}
#define MUST(call) must(call, __LINE__)

// Values from -8 to 8, of `bytes` each.
__global__ void fill(void *x, int bytes, int64_t count)
{
    int64_t all = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += all) {
        uint32_t h = (uint32_t)i * 2654435761u ^ (uint32_t)(i >> 13);
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        float value = ((float)(h & 0xffffff) / 16777216 - 0.5f) * 16;
        if (bytes == 4)
            ((float *)x)[i] = value;
        else
            ((uint16_t *)x)[i] = (uint16_t)gpu_bf16_pair(value, value);
    }
}

// The limit of a kernel that only reads.
__global__ void read_all(const uint4 *x, uint32_t *out, int64_t count)
{
    int64_t all = (int64_t)gridDim.x * blockDim.x;
    uint32_t sum = 0;
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    for (; i + 3 * all < count; i += 4 * all) {
        uint4 a = __ldcs(x + i), b = __ldcs(x + i + all),
              c = __ldcs(x + i + 2 * all), d = __ldcs(x + i + 3 * all);
        sum ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^
               c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    for (; i < count; i += all)
        sum ^= x[i].x;
    if (sum == 12345)
        *out = sum;
}

// The limit of a kernel that only copies: a block has 16 KiB, which it reads
// before it writes. Of the shapes tried the fastest; see doc/kernels.md.
#define COPY_THREADS 512
#define COPY_DEPTH 2
__global__ void copy_all(const uint4 *from, uint4 *to, int64_t count)
{
    const int64_t begin =
        (int64_t)blockIdx.x * COPY_THREADS * COPY_DEPTH + threadIdx.x;
    uint4 x[COPY_DEPTH];

    for (int i = 0; i < COPY_DEPTH; i++)
        if (begin + i * COPY_THREADS < count)
            x[i] = from[begin + i * COPY_THREADS];
    for (int i = 0; i < COPY_DEPTH; i++)
        if (begin + i * COPY_THREADS < count)
            to[begin + i * COPY_THREADS] = x[i];
}

template <class F> static float median(F run)
{
    std::vector<float> times;
    cudaEvent_t begin, end;

    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    for (int i = 0; i < 3 + RUNS; i++) {
        float ms;
        MUST(cudaEventRecord(begin));
        run();
        MUST(cudaEventRecord(end));
        MUST(cudaEventSynchronize(end));
        MUST(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 3)
            times.push_back(ms);
    }
    MUST(cudaEventDestroy(begin));
    MUST(cudaEventDestroy(end));
    std::sort(times.begin(), times.end());
    return times[RUNS / 2];
}

static void launch(const void *kernel, const struct kernel_shape &shape,
                   const struct kernel_job &job)
{
    MUST(launch_cuda(kernel, &job, shape));
}

static const struct type {
    enum kernel_element element;
    const char *name;
    const void *loss, *loss_rows, *loss_grad, *loss_grad_long, *backward;
} types[] = {
    {KERNEL_BF16, "bf16", (const void *)tally_loss_bf16,
     (const void *)tally_loss_rows_bf16, (const void *)tally_loss_grad_bf16,
     (const void *)tally_loss_grad_long_bf16,
     (const void *)tally_backward_bf16},
    {KERNEL_F32, "f32", (const void *)tally_loss_f32, NULL,
     (const void *)tally_loss_grad_f32, (const void *)tally_loss_grad_long_f32,
     (const void *)tally_backward_f32},
};

// The forward pass, as the library launches it.
static void launch_loss(const struct type &type,
                        const struct kernel_device &device,
                        const struct kernel_job &job)
{
    const int64_t tokens = job.labels.tokens;

    if (kernel_loss_rows_pays(&device, type.element, &job))
        launch(type.loss_rows, kernel_loss_rows_shape(&device, tokens), job);
    else
        launch(type.loss,
               kernel_loss_shape(&device, type.element, job.width, tokens),
               job);
}

static const struct setting {
    const struct type *type;
    int vocab;
    int ignored; // of a hundred rows
} settings[] = {
    {&types[0], 32000, 0},   {&types[0], 32000, 70}, {&types[0], 128256, 0},
    {&types[0], 128256, 70}, {&types[0], 262144, 0}, {&types[0], 262144, 70},
    {&types[1], 32000, 0},   {&types[1], 32000, 70}, {&types[1], 128256, 0},
};

static size_t memory_free()
{
    size_t left, all;

    MUST(cudaMemGetInfo(&left, &all));
    return left;
}

static void report(const struct setting &setting, const char *kernel,
                   int passes, float ms)
{
    double bytes = (double)TOKENS * setting.vocab * passes *
                   (double)kernel_element_bytes(setting.type->element);

    printf("{\"kernel\": \"%s\", \"type\": \"%s\", \"vocab\": %d, "
           "\"ignored\": %d, \"ms\": %.4f, \"gbps\": %.0f}\n",
           kernel, setting.type->name, setting.vocab, setting.ignored, ms,
           bytes / ms * 1e-6);
    fflush(stdout);
}

static void put_labels(int64_t *labels, const struct setting &setting)
{
    std::vector<int64_t> host(TOKENS);

    for (int i = 0; i < TOKENS; i++) {
        uint32_t h = (uint32_t)i * 2654435761u;
        h ^= h >> 16;
        host[(size_t)i] = (int)(h % 100) < setting.ignored
                              ? -100
                              : (int64_t)((h >> 3) % (uint32_t)setting.vocab);
    }
    MUST(cudaMemcpy(labels, host.data(), TOKENS * 8, cudaMemcpyHostToDevice));
}

// `job` has all but what the setting says.
static void measure(const struct setting &setting,
                    const struct kernel_device &device, struct kernel_job job,
                    struct kernel_parts *parts)
{
    const struct type &type = *setting.type;
    const int64_t bytes = kernel_element_bytes(type.element);
    const int64_t count = (int64_t)TOKENS * setting.vocab;
    const struct kernel_shape fused =
        kernel_loss_grad_shape(type.element, setting.vocab, TOKENS);
    const void *loss_grad =
        kernel_loss_grad_is_long(type.element, setting.vocab)
            ? type.loss_grad_long
            : type.loss_grad;
    void *const x = (void *)job.logits;
    const size_t before = memory_free();

    put_labels((int64_t *)job.labels.values, setting);
    fill<<<1024, 256>>>(x, (int)bytes, count);
    job.labels.vocab = setting.vocab;
    job.stride = setting.vocab;
    job.width = setting.vocab;
    job.gradient_stride = setting.vocab;
    if (setting.ignored == 0) {
        report(setting, "read", 1, median([&] {
                   read_all<<<device.multiprocessors * 16, 512>>>(
                       (uint4 *)x, (uint32_t *)parts, count * bytes / 16);
               }));
        report(setting, "memcpy", 2, median([&] {
                   MUST(cudaMemcpyAsync(job.gradient, x, count * bytes,
                                        cudaMemcpyDeviceToDevice));
               }));
        report(setting, "copy", 2, median([&] {
                   const int64_t vectors = count * bytes / 16;
                   const int64_t share = COPY_THREADS * COPY_DEPTH;
                   copy_all<<<(unsigned)((vectors + share - 1) / share),
                              COPY_THREADS>>>((const uint4 *)x,
                                              (uint4 *)job.gradient, vectors);
               }));
    }
    report(setting, "loss", 1, median([&] { launch_loss(type, device, job); }));
    if (kernel_loss_grad_fits(&device, type.element, &job))
        report(setting, "loss_grad", 2,
               median([&] { launch(loss_grad, fused, job); }));
    job.parts = parts;
    launch_loss(type, device, job);
    report(setting, "backward", 2, median([&] {
               launch(
                   type.backward,
                   kernel_backward_shape(type.element, setting.vocab, TOKENS),
                   job);
           }));
    MUST(cudaMemcpy(job.gradient, x, count * bytes, cudaMemcpyDeviceToDevice));
    job.logits = job.gradient;
    if (kernel_loss_grad_fits(&device, type.element, &job))
        report(setting, "loss_grad in place", 2,
               median([&] { launch(loss_grad, fused, job); }));
    // Of all these kernels: what the driver has taken for them it keeps.
    printf("{\"extra_mib\": %.1f, \"type\": \"%s\", \"vocab\": %d, "
           "\"ignored\": %d}\n",
           ((double)before - (double)memory_free()) / 1048576, type.name,
           setting.vocab, setting.ignored);
}

static void *allocate(size_t bytes)
{
    void *memory;

    MUST(cudaMalloc(&memory, bytes));
    MUST(cudaMemset(memory, 0, bytes));
    return memory;
}

int main()
{
    const size_t most = (size_t)TOKENS * 262144 * 2;
    const float one = 1.0f / 65536;
    struct kernel_device device;
    cudaDeviceProp properties;
    struct kernel_job job = {};
    struct kernel_parts *parts =
        (struct kernel_parts *)allocate(TOKENS * sizeof(*parts));

    MUST(cudaGetDeviceProperties(&properties, 0));
    device = {properties.multiProcessorCount, properties.major >= 9};
    job.labels = {allocate(TOKENS * 8), NULL, TOKENS, 0, -100, 1, 0};
    job.logits = allocate(most);
    job.gradient = allocate(most);
    job.nll = (float *)allocate(TOKENS * 4);
    job.record = (struct numeric_record *)allocate(sizeof(*job.record));
    job.scale = (const float *)allocate(4);
    MUST(cudaMemcpy((void *)job.scale, &one, 4, cudaMemcpyHostToDevice));
    printf("{\"device\": \"%s\", \"tokens\": %d, \"runs\": %d}\n",
           properties.name, TOKENS, RUNS);
    for (const struct setting &setting : settings)
        measure(setting, device, job, parts);
    struct kernel_count count = {job.labels, job.record};
    const struct kernel_shape shape = kernel_count_shape(&device, TOKENS);
    count.labels.vocab = 128256;
    report({&types[0], 0, 0}, "count", 0, median([&] {
               tally_count<<<shape.blocks, shape.threads>>>(count);
           }));
    MUST(cudaDeviceSynchronize());
    return 0;
}

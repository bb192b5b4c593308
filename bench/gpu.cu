// SPDX-License-Identifier: BSD-3-Clause
// The kernels next to what the memory can do, in the same run: medians, as one
// line of JSON each. bench/gpu.sh builds it and makes the table.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/tally.cu"

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

__global__ void fill(uint16_t *x, int64_t count)
{
    int64_t all = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += all) {
        uint32_t h = (uint32_t)i * 2654435761u ^ (uint32_t)(i >> 13);
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        float value = ((float)(h & 0xffff) / 65536 - 0.5f) * 16;
        x[i] = (uint16_t)gpu_bf16_pair(value, value);
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

// How a kernel is launched in a shape. `attribute` must outlive what is
// returned.
static cudaLaunchConfig_t config_of(const void *kernel,
                                    const struct kernel_shape &shape,
                                    cudaLaunchAttribute *attribute)
{
    cudaLaunchConfig_t config = {};

    MUST(cudaFuncSetAttribute(kernel,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              (int)shape.shared_bytes));
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = shape.cluster;
    attribute->val.clusterDim.y = 1;
    attribute->val.clusterDim.z = 1;
    config.gridDim = dim3(shape.blocks);
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = shape.shared_bytes;
    config.attrs = attribute;
    config.numAttrs = shape.cluster > 1 ? 1 : 0;
    return config;
}

static void launch(const void *kernel, const struct kernel_shape &shape,
                   const struct kernel_job &job)
{
    void *arguments[] = {(void *)&job};
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = config_of(kernel, shape, &attribute);

    MUST(cudaLaunchKernelExC(&config, kernel, arguments));
}

// Of the clusters that the device holds at a time.
static struct kernel_shape held(const void *kernel, struct kernel_shape shape)
{
    cudaLaunchAttribute attribute = {};
    int clusters = 0;

    if (shape.cluster == 1)
        return shape;
    cudaLaunchConfig_t config = config_of(kernel, shape, &attribute);
    MUST(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
    return kernel_shape_held(shape, (uint32_t)clusters);
}

static void report(const char *name, int vocab, int ignored, int passes,
                   float ms)
{
    double bytes = (double)TOKENS * vocab * 2 * passes;

    printf("{\"kernel\": \"%s\", \"vocab\": %d, \"ignored\": %d, \"ms\": %.4f, "
           "\"gbps\": %.0f}\n",
           name, vocab, ignored, ms, bytes / ms * 1e-6);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const bool tuning = argc > 1; // all shapes of loss
    static const int vocabs[] = {32000, 128256, 262144};
    const int64_t most = (int64_t)TOKENS * vocabs[2];
    struct kernel_device device;
    cudaDeviceProp properties;
    uint16_t *x, *dx;
    int64_t *labels;
    float *nll, *scale;
    struct kernel_parts *parts;
    struct numeric_record *record;
    uint32_t *out;

    MUST(cudaGetDeviceProperties(&properties, 0));
    device = {properties.multiProcessorCount, properties.major >= 9};
    MUST(cudaMalloc(&x, most * 2));
    MUST(cudaMalloc(&dx, most * 2));
    MUST(cudaMalloc(&labels, TOKENS * 8));
    MUST(cudaMalloc(&nll, TOKENS * 4));
    MUST(cudaMalloc(&scale, 4));
    MUST(cudaMalloc(&parts, TOKENS * sizeof(*parts)));
    MUST(cudaMalloc(&record, sizeof(*record)));
    MUST(cudaMalloc(&out, 4));
    MUST(cudaMemset(record, 0, sizeof(*record)));
    float one = 1.0f / 65536;
    MUST(cudaMemcpy(scale, &one, 4, cudaMemcpyHostToDevice));
    printf("{\"device\": \"%s\", \"tokens\": %d, \"type\": \"bf16\", "
           "\"runs\": %d}\n",
           properties.name, TOKENS, RUNS);
    for (int vocab : vocabs)
        for (int ignored : {0, 70}) {
            const int64_t count = (int64_t)TOKENS * vocab;
            std::vector<int64_t> host(TOKENS);
            for (int i = 0; i < TOKENS; i++) {
                uint32_t h = (uint32_t)i * 2654435761u;
                h ^= h >> 16;
                host[i] = (int)(h % 100) < ignored
                              ? -100
                              : (int64_t)((h >> 3) % (uint32_t)vocab);
            }
            MUST(cudaMemcpy(labels, host.data(), TOKENS * 8,
                            cudaMemcpyHostToDevice));
            fill<<<1024, 256>>>(x, count);
            if (ignored == 0) {
                report("read", vocab, 0, 1, median([&] {
                           read_all<<<device.multiprocessors * 16, 512>>>(
                               (uint4 *)x, out, count / 8);
                       }));
                report("memcpy", vocab, 0, 2, median([&] {
                           MUST(cudaMemcpyAsync(dx, x, count * 2,
                                                cudaMemcpyDeviceToDevice));
                       }));
            }
            struct kernel_job job = {};
            job.labels = {labels, NULL, TOKENS, vocab, -100, 1, 0};
            job.logits = x;
            job.stride = vocab;
            job.width = vocab;
            job.nll = nll;
            job.record = record;
            job.gradient = dx;
            job.gradient_stride = vocab;
            job.scale = scale;
            const struct kernel_shape forward =
                kernel_loss_shape(&device, KERNEL_BF16, vocab, TOKENS);
            const void *grad = kernel_loss_grad_is_short(KERNEL_BF16, vocab)
                                   ? (const void *)tally_loss_grad_short_bf16
                                   : (const void *)tally_loss_grad_bf16;
            const struct kernel_shape fused =
                held(grad, kernel_loss_grad_shape(&device, KERNEL_BF16, vocab,
                                                  TOKENS));
            report("loss", vocab, ignored, 1, median([&] {
                       launch((const void *)tally_loss_bf16, forward, job);
                   }));
            for (int cluster = 1; tuning && cluster <= 8; cluster *= 2) {
                char name[32];
                snprintf(name, sizeof(name), "loss, cluster %d", cluster);
                report(name, vocab, ignored, 1, median([&] {
                           launch((const void *)tally_loss_bf16,
                                  kernel_loss_shape_of(KERNEL_BF16, vocab,
                                                       TOKENS, cluster),
                                  job);
                       }));
            }
            if (device.clusters)
                report("loss_grad", vocab, ignored, 2,
                       median([&] { launch(grad, fused, job); }));
            job.parts = parts;
            launch((const void *)tally_loss_bf16, forward, job);
            report("backward", vocab, ignored, 2, median([&] {
                       launch((const void *)tally_backward_bf16,
                              kernel_backward_shape(KERNEL_BF16, vocab, TOKENS),
                              job);
                   }));
            MUST(cudaMemcpy(dx, x, count * 2, cudaMemcpyDeviceToDevice));
            job.logits = dx;
            if (device.clusters)
                report("loss_grad in place", vocab, ignored, 2,
                       median([&] { launch(grad, fused, job); }));
        }
    struct kernel_count count = {{labels, NULL, TOKENS, 32000, -100, 1, 0},
                                 record};
    const struct kernel_shape shape = kernel_count_shape(&device, TOKENS);
    report("count", 4, 70, 1, median([&] {
               tally_count<<<shape.blocks, shape.threads>>>(count);
           }));
    MUST(cudaDeviceSynchronize());
    return 0;
}

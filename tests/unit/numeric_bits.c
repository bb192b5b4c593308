// SPDX-License-Identifier: BSD-3-Clause
// Prints a digest of the bits that src/numeric gives for made-up numbers. The
// same source is C, C++ and CUDA, so that they can be compared; as CUDA it also
// runs on a device, if there is one. It does not say which bits are right.
#include <stdio.h>

#include "numeric/maximum.h"
#include "numeric/scale.h"

#define TOKENS 2000
#define SEEDS 64

struct digest {
    uint64_t random; // splitmix64
    uint64_t bits;
};

NUMERIC_FN uint64_t digest_draw(struct digest *digest)
{
    uint64_t x = digest->random += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

NUMERIC_FN void digest_take(struct digest *digest, uint64_t bits)
{
    digest->bits = (digest->bits ^ bits) * 0x100000001b3u;
    digest->bits ^= digest->bits >> 29;
}

NUMERIC_FN void digest_take_double(struct digest *digest, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    digest_take(digest, bits);
}

NUMERIC_FN void digest_take_float(struct digest *digest, float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    digest_take(digest, bits);
}

// A double near the bounds of what counts, of both signs; now and then any.
NUMERIC_FN double digest_draw_double(struct digest *digest)
{
    uint64_t bits = digest_draw(digest);
    uint64_t exponent = 1023 - 60 + (bits >> 52) % 84;
    double x;

    if (digest_draw(digest) % 16 != 0)
        bits = (bits & 0x800fffffffffffffu) | exponent << 52;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

NUMERIC_FN void digest_token(struct digest *digest,
                             struct numeric_record *record)
{
    int64_t q = 0;

    if (numeric_encode(digest_draw_double(digest), &q))
        numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    else
        record->nonfinite++;
    digest_take(digest, (uint64_t)q);
    if (numeric_encode(digest_draw_double(digest), &q))
        numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    else
        record->bad_labels++;
    digest_take(digest, (uint64_t)q);
    record->count++;
}

NUMERIC_FN void digest_record(struct digest *digest,
                              const struct numeric_record *record)
{
    int64_t lanes[NUMERIC_LANES];
    double loss = numeric_sum(record->loss_hi, record->loss_lo);
    double weight = numeric_sum(record->weight_hi, record->weight_lo);

    memcpy(lanes, record, sizeof(lanes));
    for (int i = 0; i < NUMERIC_LANES; i++)
        digest_take(digest, (uint64_t)lanes[i]);
    digest_take_double(digest, loss);
    digest_take_double(digest, weight);
    digest_take_double(digest, numeric_mean(loss, weight));
    digest_take_float(digest,
                      numeric_scale(record->weight_hi, record->weight_lo,
                                    digest_draw_double(digest), 3));
    digest_take(digest, numeric_record_fits(record, 1000000));
    digest_take(digest, numeric_record_overflowed(record));
}

NUMERIC_FN void digest_maximum(struct digest *digest)
{
    uint32_t bits = (uint32_t)digest_draw(digest);
    float x;

    memcpy(&x, &bits, sizeof(x));
    int64_t code = numeric_maximum_encode(x);
    digest_take(digest, (uint64_t)code);
    digest_take_float(digest, numeric_maximum_decode(code));
}

NUMERIC_FN uint64_t digest_of(uint64_t seed)
{
    struct digest digest = {seed, 0};
    struct numeric_record total;

    memset(&total, 0, sizeof(total));
    for (int i = 0; i < TOKENS; i++) {
        struct numeric_record record;
        memset(&record, 0, sizeof(record));
        digest_token(&digest, &record);
        digest_maximum(&digest);
        numeric_record_add(&total, &record);
        if (i % 7 == 0)
            numeric_record_fold(&total);
        if (i % 100 == 0) {
            numeric_record_fold(&total);
            digest_record(&digest, &total);
        }
    }
    numeric_record_mark(&total);
    digest_record(&digest, &total);
    return digest.bits;
}

#ifdef __CUDACC__
__global__ void digest_kernel(uint64_t *digests)
{
    digests[threadIdx.x] = digest_of(threadIdx.x);
}

// Exit status: 1 if the device's bits are others than the host's.
static int device_compare(void)
{
    uint64_t digests[SEEDS];
    uint64_t *there;
    int devices = 0;

    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        fprintf(stderr, "no CUDA device: compiled for one, not run there\n");
        return 0;
    }
    if (cudaMalloc(&there, sizeof(digests)) != cudaSuccess)
        return 1;
    digest_kernel<<<1, SEEDS>>>(there);
    cudaError_t error =
        cudaMemcpy(digests, there, sizeof(digests), cudaMemcpyDeviceToHost);
    cudaFree(there);
    if (error != cudaSuccess) {
        fprintf(stderr, "the kernel failed: %s\n", cudaGetErrorString(error));
        return 1;
    }
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        if (digests[seed] != digest_of(seed)) {
            fprintf(stderr, "seed %d: the device has other bits\n", (int)seed);
            return 1;
        }
    }
    fprintf(stderr, "the device has the same bits\n");
    return 0;
}
#else
static int device_compare(void)
{
    return 0;
}
#endif

int main(void)
{
    uint64_t bits = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++)
        bits = bits * 3 + digest_of(seed);
    printf("%016llx\n", (unsigned long long)bits);
    return device_compare();
}

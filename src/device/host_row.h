// SPDX-License-Identifier: BSD-3-Clause
// The two walks over a row of logits, one table of them for each instruction
// set. All tables give the same bits. Rows may have any alignment; nothing
// beyond element vocab - 1 is read or written. The floating-point mode must be
// the default one.
#ifndef DEVICE_HOST_ROW_H
#define DEVICE_HOST_ROW_H

#include <stdint.h>
#include <tally/tally.h>

struct host_row_sum {
    float maximum; // of all elements that are not NaN, the label's included
    float bound;   // not above any of these
    double others; // sum of exp(x_j - maximum) over j != label
};

// How a row looks to the walks: index with host_row_type().
enum host_row_type {
    HOST_ROW_F32,
    HOST_ROW_BF16,
    HOST_ROW_F16,
    HOST_ROW_TYPES
};

struct host_row_kernels {
    const char *isa;
    // The label has no exponential; without it in [0, vocab) all have.
    void (*sum[HOST_ROW_TYPES])(const void *logits, int64_t vocab,
                                int64_t label, struct host_row_sum *out);
    // gradient_j = exp(x_j - sum->maximum) * factor for all j. It may be the
    // logits.
    void (*gradient[HOST_ROW_TYPES])(const void *logits, void *gradient,
                                     int64_t vocab,
                                     const struct host_row_sum *sum,
                                     float factor);
};

static inline enum host_row_type host_row_type(tally_dtype_t type)
{
    return type == TALLY_F32    ? HOST_ROW_F32
           : type == TALLY_BF16 ? HOST_ROW_BF16
                                : HOST_ROW_F16;
}

extern const struct host_row_kernels host_row_generic;
extern const struct host_row_kernels host_row_avx2;
extern const struct host_row_kernels host_row_avx512;

// Entry i: the bits of 2^(i / 32) as a float32, less i << 18. Added to i << 18
// for any i, with the entry i mod 32, it gives 2^(i / 32), and 0 for i = -127 *
// 32.
#define HOST_POWERS 32
#define HOST_POWER_SHIFT 18
extern const uint32_t host_row_powers[HOST_POWERS];

// The table of that name, or the widest for "auto"; NULL if the processor or
// the build has no such kernels.
const struct host_row_kernels *host_isa_find(const char *isa);

#endif

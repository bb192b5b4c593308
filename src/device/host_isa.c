// SPDX-License-Identifier: BSD-3-Clause
// Which of the row kernels run on this processor.
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "config.h"
#ifdef HAVE_AVX2
#include <cpuid.h>
#endif

#include "device/host_row.h"

static bool always(void)
{
    return true;
}

#ifdef HAVE_AVX2
static bool has_avx2(void)
{
    unsigned a, b, c, d;

    // Not every compiler's __builtin_cpu_supports knows F16C.
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C) != 0;
}
#endif

#ifdef HAVE_AVX512
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}
#endif

// The widest first.
static const struct {
    const struct host_row_kernels *kernels;
    bool (*runs_here)(void);
} tables[] = {
#ifdef HAVE_AVX512
    {&host_row_avx512, has_avx512},
#endif
#ifdef HAVE_AVX2
    {&host_row_avx2, has_avx2},
#endif
    {&host_row_generic, always},
};

const struct host_row_kernels *host_isa_find(const char *isa)
{
    bool any = strcmp(isa, "auto") == 0;

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        if ((any || strcmp(isa, tables[i].kernels->isa) == 0) &&
            tables[i].runs_here())
            return tables[i].kernels;
    return NULL;
}

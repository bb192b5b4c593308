// SPDX-License-Identifier: BSD-3-Clause
// The kernels as they are embedded in the library: what cuModuleLoadData takes.
#ifndef KERNELS_FATBIN_H
#define KERNELS_FATBIN_H

#include <stddef.h>

struct kernels_fatbin {
    const void *image; // NULL: this build has none
    size_t bytes;
};

extern const struct kernels_fatbin kernels_fatbin;

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The kernels, embedded: nothing here runs or is linked with CUDA.
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "kernels/fatbin.h"

#ifdef HAVE_KERNELS
// The compiler goes on in the section that it was in.
__asm__(".pushsection .data.rel.ro,\"aw\"\n"
        ".balign 16\n"
        ".globl kernels_fatbin\n"
        ".hidden kernels_fatbin\n"
        ".type kernels_fatbin, @object\n"
        "kernels_fatbin:\n"
        ".quad 1f, 2f - 1f\n"
        ".size kernels_fatbin, 16\n"
        ".popsection\n"
        ".pushsection .rodata\n"
        ".balign 64\n"
        "1: .incbin \"" KERNELS_FATBIN "\"\n"
        "2:\n"
        ".popsection\n");
#else
const struct kernels_fatbin kernels_fatbin = {NULL, 0};
#endif

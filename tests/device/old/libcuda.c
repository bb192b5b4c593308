// SPDX-License-Identifier: BSD-3-Clause
// A libcuda.so.1 that is too old: it has one function alone.
__attribute__((visibility("default"))) int cuInit(unsigned int flags);

int cuInit(unsigned int flags)
{
    return flags == 0 ? 0 : 1;
}

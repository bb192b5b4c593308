// SPDX-License-Identifier: BSD-3-Clause
// Of programs that load the double: what kernels/simt asks of the address
// sanitizer, which does not look for it in shared libraries. Thousands of fibers
// would have a second stack each.
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "detect_stack_use_after_return=0";
}

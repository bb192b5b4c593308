// SPDX-License-Identifier: BSD-3-Clause
// What a test asks of the double, or makes it do. The functions are found by
// dlsym in the library that dlopen("libcuda.so.1") gives. Any thread.
//
// From the environment, for who cannot call them:
//     CUDA_DOUBLE_DEVICES=n        GPUs; 1 unless told; 0: cuInit finds none
//     CUDA_DOUBLE_CAPABILITY=n     compute capability's major: 9
//     CUDA_DOUBLE_VERSION=n        cuDriverGetVersion: 13000
//     CUDA_DOUBLE_FAIL=name:n:code cuda_double_fail(name, n, code)
#ifndef HARNESS_CUDA_CONTROL_H
#define HARNESS_CUDA_CONTROL_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

// Calls of a function of the driver so far; or of a kernel of that name, once
// it has begun.
long cuda_double_calls(const char *name);
// Calls so far in which the host waited for the device, or would have.
long cuda_double_waits(void);
// The nth call of that function from now on, 1 the next, does nothing and
// returns the error. "kernel": the nth kernel that begins fails, and with it
// the context.
void cuda_double_fail(const char *name, long nth, int error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

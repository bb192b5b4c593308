// SPDX-License-Identifier: BSD-3-Clause
// The kernels, for the emulator.
#include "kernels/tally.cu"

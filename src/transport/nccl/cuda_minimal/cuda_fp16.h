// SPDX-License-Identifier: BSD-3-Clause
// Nothing: nccl.h includes it and uses nothing of it.

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Prints the folder of an NCCL, with include/nccl.h and lib: NCCL_HOME, else that of
# a wheel of python3; nothing, if there is none.
nccl=${NCCL_HOME:-$(python3 -c 'import os, sys
print(*[p for p in (d + "/nvidia/nccl" for d in sys.path)
        if os.path.exists(p + "/include/nccl.h")][:1])' 2>/dev/null || true)}
[ ! -e "$nccl/include/nccl.h" ] || echo "$nccl"

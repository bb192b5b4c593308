# SPDX-License-Identifier: BSD-3-Clause
"""The example of accelerate with FSDP2, on a host:
    torchrun --nproc-per-node 2 tests/python/accelerate_on_host.py EXAMPLE"""

import runpy
import sys

from torch.distributed.fsdp import FSDPModule

from tally.conformance import host

prepared = []


def main(example):
    found = runpy.run_path(example)
    prepare = found["Accelerator"].prepare

    def seen(self, *given):
        results = prepare(self, *given)
        prepared.append(isinstance(results[0], FSDPModule))
        return results

    found["Accelerator"].prepare = seen
    with host.accelerate_has_fsdp():
        found["main"]("fsdp2")
    assert prepared == [True], "the model is not FSDP2's"


sys.path.insert(0, sys.argv[1].rpartition("/")[0])
main(sys.argv[1])

# SPDX-License-Identifier: BSD-3-Clause
"""What trainers take for granted of a GPU, on a host without one. Not of their
arithmetic: where tensors are, what waits for a device, what is logged of it."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class CudaIsHost(TorchFunctionMode):
    """Megatron-core's schedules keep their count of tokens on device "cuda", by
    name, and its stages receive on the current device of CUDA, and synchronise
    with it."""

    def __enter__(self) -> CudaIsHost:
        self.kept = torch.cuda.current_device, torch.cuda.synchronize
        torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore
        torch.cuda.synchronize = lambda device=None: None
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        torch.cuda.current_device, torch.cuda.synchronize = self.kept

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs = {**kwargs, "device": "cpu"}
        return function(*args, **kwargs)

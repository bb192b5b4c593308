# SPDX-License-Identifier: BSD-3-Clause
"""What trainers take for granted, on a host without a GPU and beside the PyTorch
that is there. Nothing of their arithmetic: where tensors are, what waits for a
device, what is logged, and how a call is named."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch.overrides import TorchFunctionMode


class CudaIsHost(TorchFunctionMode):
    """Megatron-core's schedules keep their count of tokens on device "cuda", by
    name, its stages receive on the current device of CUDA, and synchronise with it,
    and its attention draws a dropout, here of nothing, by CUDA's random numbers."""

    def __enter__(self) -> CudaIsHost:
        self.kept = torch.cuda.current_device, torch.cuda.synchronize
        random = importlib.import_module("megatron.core.tensor_parallel.random")
        self.tracker = random.CudaRNGStatesTracker
        self.fork = self.tracker.fork
        self.tracker.fork = contextlib.nullcontext
        torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore
        torch.cuda.synchronize = lambda device=None: None
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        torch.cuda.current_device, torch.cuda.synchronize = self.kept
        self.tracker.fork = self.fork

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.cuda:  # embeddings that stages share
            return args[0]
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs = {**kwargs, "device": "cpu"}
        return function(*args, **kwargs)


@contextlib.contextmanager
def accelerate_has_fsdp() -> Iterator[None]:
    """accelerate 1.15 drops the FSDP plugin of processes on a CPU, whose type of
    distribution is MULTI_CPU: its state looks for one only where there are GPUs."""
    state: Any = importlib.import_module("accelerate.state")
    kept = state.AcceleratorState.__init__

    def init(self: Any, *given: Any, **named: Any) -> None:
        kept(self, *given, **named)
        plugin = named.get("fsdp_plugin")
        if plugin is not None:
            self.distributed_type = state.DistributedType.FSDP
            self.fsdp_plugin = plugin

    state.AcceleratorState.__init__ = init
    try:
        yield
    finally:
        state.AcceleratorState.__init__ = kept


# Packages that modules of torchtitan import at their head, and the modules: logs,
# kernels of experts on a GPU, texts to train on.
_UNUSED_BY_TORCHTITAN = {
    "tensorboard": "torch.utils.tensorboard",
    "triton": "torchtitan.distributed.minimal_async_ep.kernels",
    "datasets": "torchtitan.hf_datasets.text_datasets",
}


def import_torchtitan() -> ModuleType:
    """torchtitan.trainer, whose device is the host."""
    stand_ins = [
        module
        for package, module in _UNUSED_BY_TORCHTITAN.items()
        if not importlib.util.find_spec(package) and module not in sys.modules
    ]
    for name in stand_ins:
        sys.modules[name] = MagicMock(name=name)
    try:
        trainer = importlib.import_module("torchtitan.trainer")
    finally:
        for name in stand_ins:
            del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if not name.startswith("torchtitan."):
            continue
        for what, host in (("device_type", "cpu"), ("device_module", torch.cpu)):
            if hasattr(module, what):
                setattr(module, what, host)
    metrics = sys.modules["torchtitan.components.metrics"]
    metrics.device_module = SimpleNamespace(  # type: ignore[attr-defined]
        get_device_name=lambda device: "host",
        current_device=lambda: 0,
        get_device_properties=lambda device: SimpleNamespace(total_memory=1),
        reset_peak_memory_stats=lambda: None,
        empty_cache=lambda: None,
        memory_stats=lambda device: {},
    )
    return trainer


def takes_micro_batches(schedule: Any) -> None:
    """torchtitan 0.3 gives a schedule its micro-batches, which that of PyTorch
    2.13 takes only inside: `Expecting 2 arg_mbs but got 1`."""

    def step(
        *,
        arg_mbs: Any,
        kwarg_mbs: Any,
        target_mbs: Any,
        losses: Any,
        return_outputs: bool,
        loss_kwargs: Any,
    ) -> None:
        schedule._stage.has_backward = schedule._has_backward
        schedule._stage.clear_runtime_states()
        schedule._step_microbatches(
            arg_mbs,
            kwarg_mbs,
            target_mbs,
            losses,
            return_outputs,
            loss_kwargs=loss_kwargs,
        )

    schedule.step = step

# SPDX-License-Identifier: BSD-3-Clause
"""Ways in which a trainer's own engine runs the step, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import warnings
from typing import Any

import torch
from torch import nn

from tally.conformance import data
from tally.conformance.case import Gradients
from tally.conformance.layouts import WORLD, Layout, world
from tally.conformance.losses import Loss, Setting


def not_installed(module: str) -> str:
    if importlib.util.find_spec(module):
        return ""
    return f"{module} is not installed"


class _NoStep(torch.optim.Optimizer):
    """Leaves the parameters alone, also where a gradient is not a number."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pass


class DeepSpeed(Layout):
    """engine.backward() divides by the micro-batches, the engine averages."""

    name = "DeepSpeed"
    stage = 0

    @classmethod
    def missing(cls) -> str:
        return not_installed("deepspeed")

    @classmethod
    def prepare(cls) -> None:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in ("deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer"):
                importlib.import_module(name)

    def build(self) -> None:
        os.environ.setdefault("LOCAL_RANK", str(self.rank))
        warnings.filterwarnings("ignore", category=FutureWarning)
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        # Its own all-reduce of a CPU, for inference, would be compiled here.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.engines: dict[int, Any] = {}

    def setting(self) -> Setting:
        return Setting(
            world(),
            WORLD,
            divides_micro_batches=True,
            vocab=data.VOCAB,
        )

    def _engine(self, micro_batches: int) -> Any:
        import deepspeed

        model = data.model()
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=_NoStep(model.parameters()),
            config={
                "train_micro_batch_size_per_gpu": data.ROWS,
                "gradient_accumulation_steps": micro_batches,
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": self.stage},
            },
        )
        return engine

    def step(self, loss: Loss, scenario: str, count: int) -> Gradients:
        if count not in self.engines:
            self.engines[count] = self._engine(count)
        self.engine = self.run = self.engines[count]
        self.model = self.engine.module
        try:
            return super().step(loss, scenario, count)
        finally:
            self.engine.step()

    def backward(self, value: torch.Tensor) -> None:
        self.engine.backward(value)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def whole_gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_grad

        gradient: torch.Tensor = safe_get_full_grad(parameter)
        return gradient.clone()


class DeepSpeedZero1(DeepSpeed):
    name = "DeepSpeed ZeRO 1"
    stage = 1


class DeepSpeedZero2(DeepSpeed):
    name = "DeepSpeed ZeRO 2"
    stage = 2


class DeepSpeedZero3(DeepSpeed):
    name = "DeepSpeed ZeRO 3"
    stage = 3


ENGINES: tuple[type[Layout], ...] = (
    DeepSpeed,
    DeepSpeedZero1,
    DeepSpeedZero2,
    DeepSpeedZero3,
)

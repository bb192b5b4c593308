# SPDX-License-Identifier: BSD-3-Clause
"""Megatron-core as a whole: its process groups, its schedules, its data
parallelism and finalize_model_grads, on a host (host.py says by what)."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from tally._abi import IGNORE_INDEX
from tally.conformance import data
from tally.conformance.case import Gradients
from tally.conformance.engines import not_installed
from tally.conformance.host import CudaIsHost
from tally.conformance.layouts import WORLD, Layout
from tally.conformance.losses import Loss, Setting


def _core(name: str) -> Any:
    return importlib.import_module(f"megatron.core.{name}")


def _stage(config: Any, model: data.Model, first: bool, last: bool) -> nn.Module:
    """The part of the model that a pipeline's rank has, as Megatron asks."""

    class Stage(_core("transformer").MegatronModule):  # type: ignore[misc]
        model_type = _core("enums").ModelType.encoder_or_decoder
        pre_process, post_process = first, last
        share_embeddings_and_output_weights = False

        def __init__(self) -> None:
            super().__init__(config)
            if first:
                self.embedding = model.embedding
                self.up, self.down = model.up, model.down
            if last:
                self.head = model.head

        def set_input_tensor(self, given: list[torch.Tensor]) -> None:
            self.given = given[0]

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            whole: Any = self
            hidden = data.Model.first(whole, inputs) if first else self.given
            return data.Model.last(whole, hidden) if last else hidden

    return Stage()


class Megatron(Layout):
    name = "Megatron-core, DP 4"
    trainer = "megatron"
    stages = 1

    @classmethod
    def missing(cls) -> str:
        return not_installed("megatron")

    @classmethod
    def prepare(cls) -> None:
        with warnings.catch_warnings():
            # Advice on what is faster on a GPU.
            warnings.simplefilter("ignore")
            for name in ("distributed", "tensor_parallel", "transformer"):
                _core(name)

    def build(self) -> None:
        warnings.filterwarnings("ignore", "Apex is not installed|full scope")
        self.state = _core("parallel_state")
        self.state.destroy_model_parallel()
        self.state.initialize_model_parallel(
            pipeline_model_parallel_size=self.stages
        )
        self.data_rank = self.state.get_data_parallel_rank()
        self.data_ranks = list(range(WORLD // self.stages))
        self.members = self.state.get_data_parallel_group()
        self.whole: Any = self.model
        self.spread: Any = None

    def setting(self) -> Setting:
        return Setting(
            self.state.get_data_parallel_group(with_context_parallel=True),
            WORLD // self.stages,
            divides_micro_batches=True,
            vocab=data.VOCAB,
        )

    def holds_logits(self) -> bool:
        return bool(self.state.is_pipeline_last_stage())

    def _spread(self, per_token: bool) -> None:
        """The model in Megatron's data parallelism, which asks the same."""
        distributed = _core("distributed")
        self.config = _core("transformer").TransformerConfig(
            num_layers=self.stages,
            hidden_size=data.HIDDEN,
            num_attention_heads=data.HEADS,
            pipeline_model_parallel_size=self.stages,
            pipeline_dtype=torch.float32,
            calculate_per_token_loss=per_token,
            use_cpu_initialization=True,
        )
        self.model = _stage(
            self.config,
            self.whole,
            self.state.is_pipeline_first_stage(),
            self.state.is_pipeline_last_stage(),
        )
        self.spread = distributed.DistributedDataParallel(
            self.config,
            distributed.DistributedDataParallelConfig(),
            self.model,
        )
        self.config.no_sync_func = self.spread.no_sync
        self.config.finalize_model_grads_func = distributed.finalize_model_grads

    def step(self, loss: Loss, scenario: str, count: int) -> Gradients:
        with CudaIsHost():
            if self.spread is None:
                self._spread(loss.per_token)
                self.function: Any = None
                if self.holds_logits():
                    self.function = loss.inside(self.trainer)
            self.spread.zero_grad_buffer()
            return super().step(loss, scenario, count)

    def begin(self, loss: Loss, parts: list[data.MicroBatch]) -> None:
        if self.function is None:
            super().begin(loss, parts)
        else:
            self.function.begin([_mask(part) for part in parts])

    def end(self, loss: Loss) -> None:
        if self.function is None:
            super().end(loss)
        else:
            self.function.end()

    def forward_backward(self, loss: Loss, parts: list[data.MicroBatch]) -> None:
        def forward_step(batches: Iterator[data.MicroBatch], model: Any) -> Any:
            part = next(batches)
            return model(part.inputs), partial(self._loss, loss, part)

        # [rows, length, hidden] is what goes from stage to stage.
        _core("pipeline_parallel").get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter(parts),
            model=[self.spread],
            num_microbatches=len(parts),
            seq_length=data.ROWS,
            micro_batch_size=data.LENGTH,
        )

    def _loss(
        self, loss: Loss, part: data.MicroBatch, logits: torch.Tensor
    ) -> tuple[Any, ...]:
        """What the last stage makes of logits."""
        if self.function is None:
            value = loss(logits, part.labels, part.weights)
            self.values.append(value.detach())
            return value, {}
        # As Megatron's models do: the loss of each token, also of those ignored.
        each = _core("tensor_parallel").vocab_parallel_cross_entropy(
            logits, part.labels.clamp(min=0)
        )
        value, *rest = self.function(each, loss_mask=_mask(part))
        self.values.append(value.detach())
        return value, *rest

    def whole_gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        gradient: torch.Tensor = parameter.main_grad  # type: ignore[attr-defined]
        return gradient.clone()


def _mask(part: data.MicroBatch) -> torch.Tensor:
    """Megatron's loss mask."""
    mask = (part.labels != IGNORE_INDEX).float()
    return mask if part.weights is None else mask * part.weights


class MegatronPipeline(Megatron):
    name = "Megatron-core, PP 2, DP 2"
    stages = 2


MEGATRON: tuple[type[Layout], ...] = (Megatron, MegatronPipeline)

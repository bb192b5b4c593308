# SPDX-License-Identifier: BSD-3-Clause
"""Megatron-core as a whole: its process groups, its schedules, its data
parallelism and finalize_model_grads, on a host (host.py says by what)."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Optional

import torch
from torch import nn

from tally._abi import IGNORE_INDEX
from tally.conformance import data
from tally.conformance.case import Gradients
from tally.conformance.engines import not_installed
from tally.conformance.host import CudaIsHost
from tally.conformance.layouts import WORLD, Layout
from tally.conformance.losses import Loss, Setting


def core(name: str) -> Any:
    return importlib.import_module(f"megatron.core.{name}")


def _stage(config: Any, model: data.Model, first: bool, last: bool) -> nn.Module:
    """The part of the model that a pipeline's rank has, as Megatron asks."""

    class Stage(core("transformer").MegatronModule):  # type: ignore[misc]
        model_type = core("enums").ModelType.encoder_or_decoder
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
    tensor = 1
    context_ranks = 1
    virtual: Optional[int] = None  # parts of the model that a stage has
    modules: tuple[str, ...] = ("distributed", "tensor_parallel", "transformer")

    def __init__(self) -> None:
        # Advice on what is faster on a GPU, and new names of PyTorch's.
        for said in ("Apex is not", "full scope", "When using", ".*is deprecated"):
            warnings.filterwarnings("ignore", said)
        super().__init__()

    @classmethod
    def missing(cls) -> str:
        return not_installed("megatron")

    @classmethod
    def prepare(cls) -> None:
        with warnings.catch_warnings():
            # Advice on what is faster on a GPU.
            warnings.simplefilter("ignore")
            for name in cls.modules:
                core(name)

    def build(self) -> None:
        self.state = core("parallel_state")
        self.state.destroy_model_parallel()
        self.state.initialize_model_parallel(
            tensor_model_parallel_size=self.tensor,
            pipeline_model_parallel_size=self.stages,
            virtual_pipeline_model_parallel_size=self.virtual,
            context_parallel_size=self.context_ranks,
        )
        self.data_rank = self.state.get_data_parallel_rank()
        alike = self.stages * self.tensor * self.context_ranks
        self.data_ranks = list(range(WORLD // alike))
        self.members = self.state.get_data_parallel_group(with_context_parallel=True)
        self.whole: Any = self.model
        self.spread: list[Any] = []

    def setting(self) -> Setting:
        return Setting(
            self.members,
            len(self.data_ranks),
            shares_logits=self.tensor,
            divides_micro_batches=True,
            vocab=data.VOCAB,
        )

    def holds_logits(self) -> bool:
        return bool(self.state.is_pipeline_last_stage())

    def chunks(self, per_token: bool) -> list[nn.Module]:
        """This rank's parts of the model, and self.config."""
        self.config = core("transformer").TransformerConfig(
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
        return [self.model]

    def _spread(self, per_token: bool) -> None:
        """The model in Megatron's data parallelism, which asks the same."""
        distributed = core("distributed")
        self.spread = [
            distributed.DistributedDataParallel(
                self.config, distributed.DistributedDataParallelConfig(), chunk
            )
            for chunk in self.chunks(per_token)
        ]
        no_sync = [each.no_sync for each in self.spread]
        self.config.no_sync_func = no_sync if self.virtual else no_sync[0]
        self.config.finalize_model_grads_func = distributed.finalize_model_grads

    def step(self, loss: Loss, scenario: str, count: int) -> Gradients:
        with CudaIsHost():
            if not self.spread:
                self._spread(loss.per_token)
                self.function: Any = None
                if self.holds_logits():
                    self.function = loss.inside(self.trainer)
            for each in self.spread:
                each.zero_grad_buffer()
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
            return self.output(part, model), partial(self._loss, loss, part)

        length, rows = self.shape(parts)
        iterators = [iter(parts) for _ in self.spread]
        core("pipeline_parallel").get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iterators if self.virtual else iterators[0],
            model=self.spread,
            num_microbatches=len(parts),
            seq_length=length,
            micro_batch_size=rows,
        )

    def output(self, part: data.MicroBatch, model: Any) -> torch.Tensor:
        """What the model makes of a micro-batch."""
        given: torch.Tensor = model(part.inputs)
        return given

    def shape(self, parts: list[data.MicroBatch]) -> tuple[int, int]:
        """The first two numbers of what goes from stage to stage, here [rows,
        length, hidden]."""
        return data.ROWS, data.LENGTH

    def _loss(
        self, loss: Loss, part: data.MicroBatch, output: torch.Tensor
    ) -> tuple[Any, ...]:
        """What the last stage makes of its output."""
        if self.function is None:
            value = loss(self.logits(output), part.labels, part.weights)
            self.values.append(value.detach())
            return value, {}
        each = self.each(output, part)
        value, *rest = self.function(each, loss_mask=_mask(part))
        self.values.append(value.detach())
        return value, *rest

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        return output

    def each(self, output: torch.Tensor, part: data.MicroBatch) -> torch.Tensor:
        """As Megatron's models do: the loss of each token, also of those ignored."""
        each: torch.Tensor = core("tensor_parallel").vocab_parallel_cross_entropy(
            output, part.labels.clamp(min=0)
        )
        return each

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

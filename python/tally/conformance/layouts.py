# SPDX-License-Identifier: BSD-3-Clause
"""The ways in which a model is spread over four ranks. Each runs one step with a
given loss and says what gradients came out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, Callable, Optional

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from tally.conformance import data, ring
from tally.conformance.case import Gradients
from tally.conformance.losses import Loss, Setting

WORLD = 4


def world() -> dist.ProcessGroup:
    world = dist.group.WORLD
    assert world is not None
    return world


class Layout:
    """One way. What is here suits models of one piece."""

    name = ""
    kind: Callable[[], Any] = data.Model
    # The trainer whose own step it runs: see Loss.of_trainer.
    trainer = ""
    # Whether what it runs can give tokens weights.
    takes_weights = True

    def __init__(self) -> None:
        self.model: Any = data.model(type(self).kind)
        self.rank = dist.get_rank()
        self.data_rank = self.rank
        self.data_ranks = list(range(WORLD))
        self.members = world()
        self.build()
        self.run: Callable[[torch.Tensor], torch.Tensor] = self.model

    @classmethod
    def missing(cls) -> str:
        """Why this way cannot be gone here; empty if it can."""
        return ""

    @classmethod
    def prepare(cls) -> None:
        """Once, before processes are forked: imports that take long."""

    def build(self) -> None:
        """Spreads self.model."""

    def setting(self) -> Setting:
        return Setting(world(), WORLD, vocab=data.VOCAB)

    def holds_logits(self) -> bool:
        return True

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        return data.batches(scenario, self.data_rank, count)

    def context(self) -> Any:
        return contextlib.nullcontext()

    def step(self, loss: Loss, scenario: str, count: int) -> Gradients:
        """One optimizer step up to its gradients, which every rank returns
        whole (pipelines: of their own stage)."""
        self.model.zero_grad(set_to_none=True)
        self.values: list[torch.Tensor] = []
        parts = self.micro_batches(scenario, count)
        if self.holds_logits():
            self.begin(loss, parts)
        self.forward_backward(loss, parts)
        self.reduce_gradients()
        if self.holds_logits():
            self.end(loss)
        factor = self.setting().average_ranks if loss.gradients == "sum" else 1
        gradients = {
            name: self.whole_gradient(parameter) * factor
            for name, parameter in self.named_parameters()
        }
        # Not before what all ranks do together.
        if not all(torch.isfinite(value).all() for value in self.values):
            raise FloatingPointError("a loss is not finite")
        return gradients

    def begin(self, loss: Loss, parts: list[data.MicroBatch]) -> None:
        loss.begin(
            [part.labels for part in parts], [part.weights for part in parts]
        )

    def end(self, loss: Loss) -> None:
        loss.end(list(self.model.parameters()), self.members)

    def forward_backward(
        self, loss: Loss, parts: list[data.MicroBatch]
    ) -> None:
        for index, part in enumerate(parts):
            with self.context(), self.synchronised(index == len(parts) - 1):
                logits = self.run(part.inputs)
                value = loss(logits, part.labels, part.weights)
                self.values.append(value.detach())
                self.backward(value)

    def backward(self, value: torch.Tensor) -> None:
        value.backward()  # type: ignore[no-untyped-call]

    def synchronised(self, last: bool) -> Any:
        return contextlib.nullcontext()

    def reduce_gradients(self) -> None:
        """What the framework does not do by itself."""

    def whole_gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if isinstance(gradient, DTensor):
            return gradient.full_tensor()
        return gradient

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        found: Iterator[tuple[str, nn.Parameter]] = self.model.named_parameters()
        return found

    def _average(self, group: dist.ProcessGroup) -> None:
        for parameter in self.model.parameters():
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                gradient = gradient.to_local()
            if gradient is not None:
                dist.all_reduce(gradient, group=group)
                gradient.div_(dist.get_world_size(group))


class Ddp(Layout):
    name = "DDP"

    def build(self) -> None:
        self.spread = DistributedDataParallel(self.model)

    def forward_backward(self, loss: Loss, parts: list[data.MicroBatch]) -> None:
        self.run = self.spread
        super().forward_backward(loss, parts)

    def synchronised(self, last: bool) -> Any:
        return contextlib.nullcontext() if last else self.spread.no_sync()


class Fsdp(Layout):
    name = "FSDP2"

    def build(self) -> None:
        self.shard(init_device_mesh("cpu", (WORLD,)))

    def shard(self, mesh: DeviceMesh) -> None:
        for part in (self.model.up, self.model.down):
            fully_shard(part, mesh=mesh)
        fully_shard(self.model, mesh=mesh)


class Hsdp(Fsdp):
    name = "HSDP 2x2"

    def build(self) -> None:
        self.shard(
            init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard"))
        )


class Tp(Layout):
    name = "TP 2, DP 2"
    over_vocabulary = False

    def build(self) -> None:
        self.mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        self.data_rank = self.mesh.get_local_rank("dp")
        self.data_ranks = [0, 1]
        layout = Shard(-1) if self.over_vocabulary else Replicate()
        head = ColwiseParallel(
            output_layouts=layout, use_local_output=not self.over_vocabulary
        )
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel(), "head": head}
        parallelize_module(self.model, self.mesh["tp"], plan)
        self.members = self.mesh.get_group("dp")

    def setting(self) -> Setting:
        return Setting(
            self.mesh.get_group("dp"),
            2,
            shares_logits=2,
            plain_logits=not self.over_vocabulary,
            vocab=data.VOCAB,
        )

    def context(self) -> Any:
        return (
            loss_parallel()
            if self.over_vocabulary
            else contextlib.nullcontext()
        )

    def reduce_gradients(self) -> None:
        self._average(self.members)


class TpLossParallel(Tp):
    name = "TP 2, DP 2, loss_parallel"
    over_vocabulary = True


class TpFsdp(Tp, Fsdp):
    name = "TP 2 x FSDP2 2"

    def build(self) -> None:
        Tp.build(self)
        self.shard(self.mesh["dp"])

    def reduce_gradients(self) -> None:
        pass


class TpFsdpLossParallel(TpFsdp):
    name = "TP 2 x FSDP2 2, loss_parallel"
    over_vocabulary = True


class Cp(Fsdp):
    """Sequences are cut in two; ranks of one sequence hold different tokens."""

    name = "CP 2 x FSDP2 2"

    def build(self) -> None:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "cp"))
        self.data_rank = mesh.get_local_rank("dp")
        self.data_ranks = [0, 1]
        self.cp = mesh.get_group("cp")
        self.part = self.positions(mesh.get_local_rank("cp"))
        self.shard(mesh["dp", "cp"]._flatten("dp_cp"))

    def positions(self, rank: int) -> torch.Tensor:
        return torch.arange(data.LENGTH).chunk(2)[rank]

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        return [
            part.columns(self.part)
            for part in super().micro_batches(scenario, count)
        ]


class CpAttention(Cp):
    """With attention across the ranks. Of four parts of a sequence a rank has the
    first and the last, or those between: as much work each."""

    name = "CP 2 x FSDP2 2, attention"
    kind = data.AttentionModel
    model: data.AttentionModel

    @classmethod
    def missing(cls) -> str:
        return ring.missing()

    def build(self) -> None:
        super().build()
        self.model.attend = functools.partial(ring.attention, self.cp)

    def positions(self, rank: int) -> torch.Tensor:
        return ring.positions(data.LENGTH, rank)


class _Stage(nn.Module):
    """Half of the model, by the names of the whole."""

    def __init__(self, model: data.Model, index: int) -> None:
        super().__init__()
        self.index = index
        if index == 0:
            self.embedding, self.up, self.down = model.embedding, model.up, model.down
        else:
            self.head = model.head

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        half = data.Model.first if self.index == 0 else data.Model.last
        return half(self, given)  # type: ignore[arg-type]


class Gpipe(Layout):
    name = "PP 2, DP 2, GPipe"
    schedule: Any = ScheduleGPipe

    def build(self) -> None:
        self.mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
        self.index = self.mesh.get_local_rank("pp")
        self.data_rank = self.mesh.get_local_rank("dp")
        self.data_ranks = [0, 1]
        self.members = self.mesh.get_group("dp")
        self.model = _Stage(self.model, self.index)

    def setting(self) -> Setting:
        return Setting(self.members, 2, vocab=data.VOCAB)

    def holds_logits(self) -> bool:
        return self.index == 1

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        return [
            row
            for part in super().micro_batches(scenario, count)
            for row in part.rows()
        ]

    def forward_backward(self, loss: Loss, parts: list[data.MicroBatch]) -> None:
        weights = iter([part.weights for part in parts])

        def chunk_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            value = loss(logits, labels, next(weights))
            self.values.append(value.detach())
            return value

        tokens = torch.zeros(1, data.LENGTH, dtype=torch.int64)
        hidden = torch.zeros(1, data.LENGTH, data.HIDDEN, requires_grad=True)
        logits = torch.zeros(1, data.LENGTH, data.VOCAB, requires_grad=True)
        # Told the shapes, the schedule does not run the loss to learn them.
        stage = PipelineStage(
            self.model,
            self.index,
            2,
            torch.device("cpu"),
            input_args=(tokens, hidden)[self.index],
            output_args=(hidden, logits)[self.index],
            group=self.mesh.get_group("pp"),
        )
        schedule = self.schedule(
            stage,
            len(parts),
            loss_fn=chunk_loss,
            scale_grads=False,  # the scale is the loss's
        )
        if self.index == 0:
            schedule.step(torch.cat([part.inputs for part in parts]))
        else:
            schedule.step(target=torch.cat([part.labels for part in parts]))

    def reduce_gradients(self) -> None:
        self._average(self.members)


class OneForwardOneBackward(Gpipe):
    name = "PP 2, DP 2, 1F1B"
    schedule = Schedule1F1B


class LostReplica(Layout):
    """Two replicas of two ranks; the second dies after the count, before its
    gradients are in. What is applied is of the first alone."""

    name = "replica 2 of 2 dies"

    def build(self) -> None:
        replicas = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        self.members = replicas[self.rank // 2]
        self.data_ranks = [0, 1] if self.rank < 2 else [2, 3]

    def setting(self) -> Setting:
        return Setting(world(), WORLD, may_shrink=True, vocab=data.VOCAB)

    def reduce_gradients(self) -> None:
        self._average(self.members)


LAYOUTS: tuple[type[Layout], ...] = (
    Ddp,
    Fsdp,
    Hsdp,
    Tp,
    TpLossParallel,
    TpFsdp,
    TpFsdpLossParallel,
    Gpipe,
    OneForwardOneBackward,
    Cp,
    CpAttention,
    LostReplica,
)

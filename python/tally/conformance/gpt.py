# SPDX-License-Identifier: BSD-3-Clause
"""Megatron-core's GPTModel: its layers by its own local spec, its parallelism over
the vocabulary, its interleaved pipeline. megatron.py has what is around it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Optional

import torch
import torch.distributed as dist
from torch import nn

from tally.conformance import data, ring
from tally.conformance.host import CudaIsHost
from tally.conformance.losses import Loss
from tally.conformance.megatron import Megatron, core

HIDDEN = 32


def small_config(layers: int, **parallel: Any) -> Any:
    return core("transformer").TransformerConfig(
        num_layers=layers,
        hidden_size=HIDDEN,
        num_attention_heads=data.HEADS,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        pipeline_dtype=torch.float32,
        # In a batch, what goes forward and what goes back between two stages is
        # told apart by the order alone, which gloo's ends do not share.
        batch_p2p_comm=False,
        use_cpu_initialization=True,
        # Kernels of a GPU.
        gradient_accumulation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        **parallel,
    )


def _gpt(base: Any, config: Any, **given: Any) -> Any:
    spec = core("models.gpt.gpt_layer_specs").get_gpt_layer_local_spec()
    parts = spec.submodules
    if config.context_parallel_size > 1:
        parts.self_attention.submodules.core_attention = _RingAttention
    if config.sequence_parallel:
        parts.input_layernorm = parts.pre_mlp_layernorm = _Norm
        spec = core("transformer.transformer_block").TransformerBlockSubmodules(
            layer_specs=[spec] * config.num_layers, layer_norm=_Norm
        )
    return base(config, spec, data.VOCAB, data.LENGTH, **given)


class _Norm(nn.LayerNorm):
    """In place of Megatron's own by the local spec, which refuses sequence
    parallelism: the same, marked for finalize_model_grads as its others are."""

    def __init__(
        self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any
    ) -> None:
        super().__init__(hidden_size, eps)
        for parameter in self.parameters():
            marked: Any = parameter
            marked.sequence_parallel = config.sequence_parallel


class _RingAttention(nn.Module):
    """In place of Megatron's own by the local spec, which refuses context
    parallelism."""

    def __init__(self, *, pg_collection: Any, **_: Any) -> None:
        super().__init__()
        self.group = pg_collection.cp

    def forward(self, *given: torch.Tensor, **_: Any) -> torch.Tensor:
        # [length, rows, heads, width]; the mask is of a whole sequence.
        query, key, value = (each.permute(1, 2, 0, 3) for each in given[:3])
        seen = ring.attention(self.group, query, key, value)
        return seen.permute(2, 0, 1, 3).flatten(2)


def _places(
    inputs: torch.Tensor, positions: Optional[torch.Tensor] = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions, and what attention must not see."""
    length = inputs.shape[1]
    hidden = torch.ones(1, 1, length, length).triu(1).bool()
    if positions is None:
        positions = torch.arange(length)
    return positions.expand(inputs.shape), hidden


@functools.lru_cache(maxsize=None)
def _alone() -> Any:
    """Megatron's process groups of this rank by itself."""
    one = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    names = ("tp", "pp", "cp", "embd", "pos_embd", "tp_cp")
    groups = core("process_groups_config").ProcessGroupCollection
    return groups(**dict.fromkeys(names, one))


def _whole(layers: int) -> Any:
    """The model in one piece, which gives logits."""

    class Whole(core("models.gpt").GPTModel):  # type: ignore[misc]
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            with CudaIsHost():
                logits: torch.Tensor = super().forward(inputs, *_places(inputs))
            return logits

    with CudaIsHost():
        return _gpt(Whole, small_config(layers), pg_collection=_alone())


class Gpt(Megatron):
    name = "Megatron-core GPT, DP 4"
    modules = (*Megatron.modules, "models.gpt", "models.gpt.gpt_layer_specs")
    layers = 2
    kind = staticmethod(functools.partial(_whole, layers))
    positions: Optional[torch.Tensor] = None  # of a sequence, all if None
    sequence = False  # between layers, ranks of tensor parallelism have tokens each

    def chunks(self, per_token: bool) -> list[nn.Module]:
        state = self.state
        self.config = small_config(
            self.layers,
            tensor_model_parallel_size=self.tensor,
            pipeline_model_parallel_size=self.stages,
            context_parallel_size=self.context_ranks,
            virtual_pipeline_model_parallel_size=self.virtual,
            sequence_parallel=self.sequence,
            calculate_per_token_loss=per_token,
        )
        found = []
        for index in range(self.virtual or 1):
            at = None if self.virtual is None else index
            end = {"ignore_virtual": False, "vp_stage": at}
            chunk = _gpt(
                core("models.gpt").GPTModel,
                self.config,
                pre_process=state.is_pipeline_first_stage(**end),
                post_process=state.is_pipeline_last_stage(**end),
                vp_stage=at,
            )
            found.append(chunk)
        self.pieces = dict(_pieces(found))
        self._load()
        return found

    def _load(self) -> None:
        """The values of the whole model."""
        rank = self.state.get_tensor_model_parallel_rank()
        values = dict(self.whole.named_parameters())
        with torch.no_grad():
            for name, piece in self.pieces.items():
                value = values[name]
                if getattr(piece, "tensor_model_parallel", False):
                    value = value.chunk(self.tensor, piece.partition_dim)[rank]
                piece.copy_(value)

    def output(self, part: data.MicroBatch, model: Any) -> torch.Tensor:
        # With labels, the loss of each token, by the vocabulary's parallel loss.
        labels = None if self.function is None else part.labels.clamp(min=0)
        given: torch.Tensor = model(
            part.inputs, *_places(part.inputs, self.positions), labels=labels
        )
        return given

    def each(self, output: torch.Tensor, part: data.MicroBatch) -> torch.Tensor:
        return output

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        parallel = core("tensor_parallel")
        whole: torch.Tensor = parallel.gather_from_tensor_model_parallel_region(
            output
        )
        return whole

    def shape(self, parts: list[data.MicroBatch]) -> tuple[int, int]:
        return data.LENGTH, parts[0].inputs.shape[0]

    def end(self, loss: Loss) -> None:
        if self.function is None:
            loss.end(list(self.pieces.values()), self.members)
        else:
            self.function.end()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self.pieces.items())

    def whole_gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        gradient = super().whole_gradient(parameter)
        found: Any = parameter
        if not getattr(found, "tensor_model_parallel", False):
            return gradient
        pieces = [torch.empty_like(gradient) for _ in range(self.tensor)]
        group = self.state.get_tensor_model_parallel_group()
        dist.all_gather(pieces, gradient.contiguous(), group=group)
        return torch.cat(pieces, found.partition_dim)


def _pieces(chunks: list[Any]) -> Iterator[tuple[str, Any]]:
    """Parameters by the names of the whole model, whose layers are counted on."""
    before = "decoder.layers."
    for chunk in chunks:
        for name, parameter in chunk.named_parameters():
            if name.startswith(before):
                at, _, rest = name[len(before) :].partition(".")
                number = chunk.decoder.layers[int(at)].layer_number - 1
                name = f"{before}{number}.{rest}"
            yield name, parameter


class GptTensor(Gpt):
    """The vocabulary is spread, too."""

    name = "Megatron-core GPT, TP 2, DP 2"
    tensor = 2


class GptSequence(GptTensor):
    """Norms and biases get gradients of a part of the tokens each, which
    finalize_model_grads sums."""

    name = "Megatron-core GPT, TP 2 with SP, DP 2"
    sequence = True


class GptContext(Gpt):
    """Ranks of context parallelism have two of four parts of each sequence."""

    name = "Megatron-core GPT, CP 2, DP 2"
    context_ranks = 2

    @classmethod
    def missing(cls) -> str:
        return super().missing() or ring.missing()

    def build(self) -> None:
        super().build()
        rank = self.state.get_context_parallel_rank()
        self.positions = ring.positions(data.LENGTH, rank)

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        assert self.positions is not None
        return [
            part.columns(self.positions)
            for part in super().micro_batches(scenario, count)
        ]


class GptInterleaved(Gpt):
    """Each stage has two parts of the model, and micro-batches go around twice."""

    name = "Megatron-core GPT, PP 2 interleaved, DP 2"
    layers = 4
    kind = staticmethod(functools.partial(_whole, layers))
    stages = 2
    virtual = 2

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        # Their number must be a multiple of the stages'.
        parts = super().micro_batches(scenario, count)
        return [row for part in parts for row in part.rows()]


GPT: tuple[type[Megatron], ...] = (
    Gpt,
    GptTensor,
    GptSequence,
    GptContext,
    GptInterleaved,
)

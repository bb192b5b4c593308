# SPDX-License-Identifier: BSD-3-Clause
"""torchtitan as a whole: its Trainer, with a small Llama, takes its own train_step
under its own FSDP, pipeline and tensor parallelism, on a host (host.py says by
what). Its SPMD backend is "partial_dtensor": the FSDP of PyTorch 2.13 does not know
the parameters of "spmd_types", and refuses them."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from tally.conformance import data, host, ring
from tally.conformance.case import Gradients
from tally.conformance.engines import not_installed
from tally.conformance.layouts import WORLD, Layout
from tally.conformance.losses import Loss, Setting

NO_CLIPPING = 1e30  # of the gradient's norm


def _llama_config() -> Any:
    from torchtitan.models import llama3
    from torchtitan.models.common.attention import ScaledDotProductAttention

    config = llama3.llama3_configs["debugmodel"](attn_backend="flex")
    config.dim, config.vocab_size = data.HIDDEN, data.VOCAB
    config.tok_embeddings.num_embeddings = data.VOCAB
    config.tok_embeddings.embedding_dim = data.HIDDEN
    config.norm.normalized_shape = data.HIDDEN
    config.lm_head.in_features = data.HIDDEN
    config.lm_head.out_features = data.VOCAB
    config.layers = llama3._build_llama3_layers(
        n_layers=2,
        dim=data.HIDDEN,
        n_heads=data.HEADS,
        hidden_dim=data.INNER,
        rope=llama3.ComplexRoPE.Config(
            dim=data.HIDDEN // data.HEADS, max_seq_len=data.LENGTH
        ),
        attn_backend="flex",
    )
    for layer in config.layers:
        # FlexAttention is compiled, and asks for the positions of documents.
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    return config


def _llama() -> Any:
    """The model in one piece."""
    model = _llama_config().build()
    model.init_weights(buffer_device=None)
    return model


def _nothing(base: Any, **methods: Any) -> Any:
    """The configuration of a component of the trainer that has nothing to do."""

    @dataclass(kw_only=True, slots=True)
    class Config(base.Config):  # type: ignore[misc]
        pass

    def take(self: Any, config: Any, **given: Any) -> None:
        del config, given

    name = f"No{base.__name__}"
    made = type(name, (base,), {"Config": Config, "__init__": take, **methods})
    return made.Config()  # type: ignore[attr-defined]


def _wrapped(loss: Loss, ranks: int) -> Any:
    """A loss of the suite as torchtitan takes one: gradients are summed."""
    from torchtitan.components.loss import BaseLoss

    undone = 1 if loss.gradients == "sum" else ranks

    class Wrapped(BaseLoss):  # type: ignore[misc]
        @dataclass(kw_only=True, slots=True)
        class Config(BaseLoss.Config):  # type: ignore[misc]
            pass

        def __init__(self, config: Any, **given: Any) -> None:
            del config, given

        def __call__(
            self,
            pred: torch.Tensor,
            labels: torch.Tensor,
            global_valid_tokens: Optional[torch.Tensor] = None,
            **_: Any,
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            if isinstance(pred, DTensor):  # sharded over the vocabulary
                pred = pred.full_tensor()
            return loss(pred, labels, None) / undone, {}

    return Wrapped.Config()


class Titan(Layout):
    name = "torchtitan, FSDP 4"
    trainer = "torchtitan"
    kind = staticmethod(_llama)
    takes_weights = False
    stages = 1
    tensor = 1
    copies = 1  # of the shards: HSDP
    context_ranks = 1

    @classmethod
    def missing(cls) -> str:
        return not_installed("torchtitan")

    @classmethod
    def prepare(cls) -> None:
        host.import_torchtitan()

    def build(self) -> None:
        from torchtitan.config.configs import ParallelismConfig
        from torchtitan.distributed import ParallelDims

        # Of the host, that it has no GPU and no lspci.
        logging.getLogger().setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "DTensor .* may not have complete support")
        os.environ.setdefault("LOCAL_RANK", str(self.rank))
        ranks = WORLD // self.stages // self.tensor // self.context_ranks
        self.parallelism = ParallelismConfig(
            data_parallel_replicate_degree=self.copies,
            data_parallel_shard_degree=ranks // self.copies,
            tensor_parallel_degree=self.tensor,
            context_parallel_degree=self.context_ranks,
            pipeline_parallel_degree=self.stages,
            spmd_backend="partial_dtensor",
        )
        self.dims = ParallelDims.from_config(self.parallelism, WORLD)
        self.members = self.dims.get_mesh("loss").get_group()
        self.data_rank = self.dims.get_mesh("batch").get_local_rank()
        self.data_ranks = list(range(ranks))
        self.whole = dict(self.model.named_parameters())
        self.titan: Any = None

    def setting(self) -> Setting:
        return Setting(self.members, self.members.size(), vocab=data.VOCAB)

    def micro_batches(self, scenario: str, count: int) -> list[data.MicroBatch]:
        parts = super().micro_batches(scenario, count)
        if self.stages == 1:
            return parts
        return [row for part in parts for row in part.rows()]

    def _make(self, loss: Loss) -> Any:
        from torchtitan.components.dataloader import BaseDataLoader
        from torchtitan.components.optimizer import default_adamw
        from torchtitan.components.tokenizer import BaseTokenizer
        from torchtitan.config.configs import TrainingConfig
        from torchtitan.distributed.pipeline_parallel import pipeline_llm
        from torchtitan.models import llama3
        from torchtitan.protocols.model_spec import ModelSpec
        from torchtitan.trainer import Trainer

        own = loss.inside(self.trainer)
        self.wrapped = own is None
        bases, loss_config = own or ((), _wrapped(loss, self.members.size()))
        # The processes are there already.
        join = {"init_distributed": lambda trainer: self.dims}
        made: Any = type("Titan", (*bases, Trainer), join)
        config = made.Config(
            model_spec=ModelSpec(
                name="llama3",
                flavor="conformance",
                model=_llama_config(),
                parallelize_fn=llama3.parallelize_llama,
                pipelining_fn=pipeline_llm,
                post_optimizer_build_fn=None,
                state_dict_adapter=None,
            ),
            loss=loss_config,
            tokenizer=_nothing(
                BaseTokenizer, encode=None, decode=None, get_vocab_size=None
            ),
            dataloader=_nothing(
                BaseDataLoader, __iter__=None, state_dict=None, load_state_dict=None
            ),
            optimizer=default_adamw(),
            training=TrainingConfig(
                local_batch_size=data.ROWS,
                seq_len=data.LENGTH,
                max_norm=NO_CLIPPING,
                disable_cuda_graphs=True,
                mixed_precision_param="float32",
            ),
            parallelism=self.parallelism,
            activation_checkpoint=None,
        )
        config.metrics.log_freq = 1  # a step ends with its log, and looks at it
        titan = made(config)
        gc.enable()
        for part in titan.model_parts:
            for module in part.modules():
                if isinstance(module, FSDPModule):
                    # gloo has no other sum.
                    module.set_force_sum_reduction_for_comms(True)
        if self.stages > 1:
            host.takes_micro_batches(titan.pp_schedule)
        return titan

    def _parameters(self) -> dict[str, Any]:
        return {
            name: parameter
            for part in self.titan.model_parts
            for name, parameter in part.named_parameters()
        }

    def _load(self) -> None:
        """The whole model's values, which the latest step has changed."""
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                value = self.whole[name].detach()
                if isinstance(parameter, DTensor):
                    value = distribute_tensor(
                        value, parameter.device_mesh, parameter.placements
                    )
                parameter.copy_(value)

    def step(self, loss: Loss, scenario: str, count: int) -> Gradients:
        if self.titan is None:
            self.titan = self._make(loss)
        self._load()
        self.titan.step += 1
        self.titan.gradient_accumulation_steps = count
        parts = self.micro_batches(scenario, count)
        if self.wrapped:
            self.begin(loss, self.own(parts))
        loader = [(self.given(part), part.labels) for part in parts]
        finite = True
        try:
            self.titan.train_step(self.titan.batch_generator(loader))
        except RuntimeError as failure:
            finite = "Loss is not finite" not in str(failure)
            if finite:
                raise
        if self.wrapped:
            self.end(loss)
        gradients = {
            name: self.whole_gradient(parameter)
            for name, parameter in self._parameters().items()
        }
        if not finite:
            raise FloatingPointError("the trainer says that its loss is not finite")
        return gradients

    def own(self, parts: list[data.MicroBatch]) -> list[data.MicroBatch]:
        """What this rank computes of what its loader gives."""
        return parts

    def given(self, part: data.MicroBatch) -> dict[str, torch.Tensor]:
        return {"input": part.inputs}

    def end(self, loss: Loss) -> None:
        loss.end(list(self._parameters().values()), self.members)


class TitanPipeline(Titan):
    name = "torchtitan, PP 2, FSDP 2"
    stages = 2


class TitanTensor(Titan):
    name = "torchtitan, TP 2, FSDP 2"
    tensor = 2


class TitanCopies(Titan):
    name = "torchtitan, HSDP 2x2"
    copies = 2


def _attend_by_ring(modules: Sequence[Any], mesh: DeviceMesh) -> None:
    """In place of context_parallel()'s dispatch of attention, which has no rule for
    that of a CPU."""

    def attend(*given: torch.Tensor, **_: Any) -> torch.Tensor:
        # [rows, length, heads, width]
        query, key, value = (each.transpose(1, 2) for each in given)
        seen = ring.attention(mesh.get_group(), query, key, value)
        return seen.transpose(1, 2)

    for module in modules:
        module.forward = attend


class TitanContext(Titan):
    """The trainer cuts what its loader gives: of four parts of a sequence a rank
    gets the first and the last, or those between."""

    name = "torchtitan, CP 2, FSDP 2"
    context_ranks = 2

    @classmethod
    def missing(cls) -> str:
        return super().missing() or ring.missing()

    def build(self) -> None:
        super().build()
        # This process is for this way alone.
        llama: Any = importlib.import_module("torchtitan.models.llama3.parallelize")
        llama.apply_cp_to_forward = _attend_by_ring

    def own(self, parts: list[data.MicroBatch]) -> list[data.MicroBatch]:
        rank = self.dims.get_mesh("cp").get_local_rank()
        return [part.columns(ring.positions(data.LENGTH, rank)) for part in parts]

    def given(self, part: data.MicroBatch) -> dict[str, torch.Tensor]:
        positions = torch.arange(data.LENGTH).expand(part.inputs.shape)
        return {**super().given(part), "positions": positions}


TITAN: tuple[type[Layout], ...] = (
    Titan,
    TitanCopies,
    TitanPipeline,
    TitanTensor,
    TitanContext,
)

# SPDX-License-Identifier: BSD-3-Clause
"""Attention across ranks that hold parts of a sequence: PyTorch's ring attention,
with its kernels of a CPU, for which context_parallel() has no rule."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

try:  # not a public part of PyTorch
    from torch.distributed.tensor.experimental._context_parallel import _attention
except ImportError:
    _attention = None  # type: ignore[assignment]

_SEQUENCE = 2  # the dimension of [rows, heads, sequence, width]


def positions(length: int, rank: int) -> torch.Tensor:
    """Of a sequence over two ranks: what this one has for attention()."""
    parts = torch.arange(length).chunk(4)
    return torch.cat([parts[rank], parts[3 - rank]])


def missing() -> str:
    """Why there is none; empty if there is."""
    if hasattr(_attention, "_templated_ring_attention_backward"):
        return ""
    return f"PyTorch {torch.__version__} has no ring attention where 2.13 has it"


class _RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        group: dist.ProcessGroup,
    ) -> torch.Tensor:
        out, sums, *_ = _attention._templated_ring_attention(
            group,
            _SEQUENCE,
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
            query,
            key,
            value,
            is_causal=True,
        )
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.group = group
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: torch.Tensor) -> Any:
        query, key, value, out, sums = ctx.saved_tensors
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        grads = _attention._templated_ring_attention_backward(
            ctx.group,
            _SEQUENCE,
            backward,
            grad_out=grad_out,
            grad_out_name="grad_out",
            query=query,
            key=key,
            value=value,
            out=out,
            logsumexp=sums,
            is_causal=True,
            dropout_p=0.0,
        )
        return (*grads[:3], None)


def attention(
    group: dist.ProcessGroup,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """Causal attention. Of 2 R parts of a sequence, rank r of R has part r and
    part 2 R - 1 - r."""
    out: torch.Tensor = _RingAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, group
    )
    return out

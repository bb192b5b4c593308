#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What others take for loss and gradient, as bench/gpu.cu measures ours: on the
same card, after the same fashion, a line of JSON each. Whoever is not installed
is left out, with a line on stderr. Needs PyTorch on a GPU.

    bench/gpu_peers.py >>gpu.json
"""
import json
import statistics
from importlib import metadata
import sys

import torch
import torch.nn.functional as functional

TOKENS = 8192
RUNS = 15
WARM_UP = 3


def versions() -> dict[str, str]:
    """Of what is measured here and installed, by the names of their packages."""
    found = metadata.packages_distributions()
    names = [name for module in ("liger_kernel", "quack", "triton")
             for name in dict.fromkeys(found.get(module, []))]
    return {"torch": torch.__version__,
            **{name: metadata.version(name) for name in names}}


def milliseconds(call):
    times = []
    for run in range(WARM_UP + RUNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        if run >= WARM_UP:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def extra_gib(call, logits):
    """What a call holds at its peak beyond the logits."""
    logits.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def formula(logits, labels):
    """What a trainer writes today: sum and count."""
    loss = functional.cross_entropy(logits.float(), labels, reduction="sum",
                                    ignore_index=-100)
    return loss, (labels != -100).sum()


def of_loss(loss, logits, labels, scale):
    def call():
        logits.grad = None
        result = loss(logits, labels)
        result = result[0] if isinstance(result, tuple) else result
        (result * scale).backward()
    return call


def torch_peers(logits, labels, scale):
    def bf16(logits, labels):
        return functional.cross_entropy(logits, labels, reduction="sum",
                                        ignore_index=-100)

    yield "eager formula", of_loss(formula, logits, labels, scale)
    yield "eager, bf16", of_loss(bf16, logits, labels, scale)
    yield "torch.compile", of_loss(torch.compile(formula), logits, labels,
                                   scale)


def liger_peers(logits, labels, scale):
    from liger_kernel.transformers.functional import liger_cross_entropy

    def loss(logits, labels):
        return liger_cross_entropy(logits, labels, reduction="sum")

    @torch.no_grad()
    def forward():
        loss(logits.detach(), labels)

    yield "Liger", of_loss(loss, logits, labels, scale)
    yield "Liger, loss alone", forward


def quack_peers(logits, labels, scale):
    import importlib
    quack = importlib.import_module("quack.cross_entropy")
    plain = logits.detach()

    def loss(logits, labels):
        return quack.cross_entropy(logits, labels, reduction="sum")

    yield "quack", of_loss(loss, logits, labels, scale)
    yield ("quack, unscaled gradient",
           lambda: quack.cross_entropy_fwd(plain, labels, return_dx=True))
    yield "quack, loss alone", lambda: quack.cross_entropy_fwd(plain, labels)


def measure(vocab, ignored):
    torch.manual_seed(0)
    logits = (torch.randn(TOKENS, vocab, device="cuda", dtype=torch.bfloat16)
              * 2).requires_grad_(True)
    labels = torch.randint(0, vocab, (TOKENS,), device="cuda")
    labels[torch.rand(TOKENS, device="cuda") < ignored / 100] = -100
    scale = torch.tensor(1 / 65536, device="cuda")
    for peers in (torch_peers, liger_peers, quack_peers):
        torch._dynamo.reset()
        try:
            for name, call in peers(logits, labels, scale):
                row = {"kernel": name, "vocab": vocab, "ignored": ignored,
                       "ms": round(milliseconds(call), 4),
                       "extra_gib": round(extra_gib(call, logits), 2), "peer": True}
                print(json.dumps(row), flush=True)
                logits.grad = None
        except Exception as error:  # of whatever kind: it is a peer's own
            print(f"{peers.__name__}, V = {vocab}: {error!r}"[:500],
                  file=sys.stderr)
            print(json.dumps({"missed": peers.__name__.removesuffix("_peers"),
                              "vocab": vocab, "why": repr(error)[:200]}),
                  flush=True)
        torch.cuda.empty_cache()


def main():
    print(json.dumps({"versions": versions()}), flush=True)
    for vocab in (32000, 128256, 262144):
        for ignored in (0, 70):
            measure(vocab, ignored)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

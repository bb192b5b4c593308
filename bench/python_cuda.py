# SPDX-License-Identifier: BSD-3-Clause
"""What the calls of a step cost from Python on a GPU, and loss and backward of a
language model's logits. Writes its section of bench/PYTHON.md, behind what
bench/python_calls.py wrote:
    TALLY_LIBRARY=build/.libs/libtally.so PYTHONPATH=python \\
        python3 bench/python_cuda.py [PYTHON.md]"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as functional

import tally.torch
from gpu_peers import RUNS, milliseconds
from python_calls import call_times

ROUNDS = 2000
TOKENS, VOCAB = 8192, 32000
TITLE = "## On a GPU"


def calls_ns(group):
    """The times of each call of a step, and of the five together."""
    labels = torch.ones(1, dtype=torch.int64, device="cuda")
    with tally.torch.Step(group, 8, device="cuda:0") as step:
        # Else launches queue up, and then wait.
        return call_times(step, labels, ROUNDS, torch.cuda.synchronize)


def losses_ms(group):
    """Loss and backward; Tally's with count, reduction and the end of its step."""
    torch.manual_seed(0)
    leaf = (
        torch.randn(TOKENS, VOCAB, device="cuda", dtype=torch.bfloat16) * 2
    ).requires_grad_()
    labels = torch.randint(0, VOCAB, (TOKENS,), device="cuda")
    scale = torch.tensor(1 / TOKENS, device="cuda")

    def formula():
        leaf.grad = None
        total = functional.cross_entropy(
            leaf.float(), labels, reduction="sum", ignore_index=-100
        )
        (total * scale).backward()

    def of_tally(inplace):
        module = tally.torch.TallyLoss(
            VOCAB, group, device="cuda", inplace=inplace
        )
        hidden = leaf.detach()

        def step():
            # In place the logits are nobody's: as those of a last layer.
            logits = hidden.requires_grad_() if not inplace else Logits.apply(leaf)
            logits_grad(module, logits, labels)

        return module, step

    def copy():
        target.copy_(leaf.detach())

    target = torch.empty_like(leaf)
    yield "a copy of the logits", milliseconds(copy)
    yield "eager formula", milliseconds(formula)
    for name, inplace in (("tally.torch", False), ("tally.torch, in place", True)):
        module, step = of_tally(inplace)
        yield name, milliseconds(step)
        module.close()


class Logits(torch.autograd.Function):
    """Hands out a tensor that is no leaf, without a copy, and takes its gradient."""

    @staticmethod
    def forward(ctx, leaf):
        return leaf.detach()

    @staticmethod
    def backward(ctx, gradient):
        return None


def logits_grad(module, logits, labels):
    logits.grad = None
    module.begin([labels])
    module(logits, labels).backward()
    module.end()


def main():
    beside = Path(__file__).parent / "PYTHON.md"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else beside
    with tally.torch.open() as opened, tally.torch.group(opened) as group:
        calls = {
            name: sorted(values) for name, values in calls_ns(group).items()
        }
        losses = dict(losses_ms(group))
    text = [
        TITLE,
        "",
        f"Written by `bench/python_cuda.py`: {torch.cuda.get_device_name()}, PyTorch "
        f"{torch.__version__}. One rank.",
        "Calls only enqueue: this is the host's time, of one token, "
        f"{ROUNDS} steps.",
        "",
        "| call | p50 us | p99 us |",
        "|---|---|---|",
    ]
    for name, values in calls.items():
        p50, p99 = values[len(values) // 2], values[len(values) * 99 // 100]
        text.append(f"| {name} | {p50 / 1e3:.2f} | {p99 / 1e3:.2f} |")
    text += [
        "",
        f"Loss and backward, T = {TOKENS}, V = {VOCAB}, bfloat16, median of {RUNS}:",
        "",
        "| | ms |",
        "|---|---|",
    ]
    text += [f"| {name} | {value:.3f} |" for name, value in losses.items()]
    before = path.read_text().split(TITLE)[0].rstrip() if path.exists() else ""
    path.write_text(f"{before}\n\n" + "\n".join(text) + "\n")
    print("\n".join(text))


main()

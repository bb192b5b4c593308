#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Writes doc/conformance.md: the conformance suite for Tally and for the losses
# that trainers bring along.
#     doc/conformance.sh BUILD
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-build}" && pwd)
TALLY_LIBRARY=$build/.libs/libtally.so
PYTHONPATH=$here/../python
export TALLY_LIBRARY PYTHONPATH
python=${PYTHON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tally/venv}/bin/python
table=$(mktemp)
trap 'rm -f "$table"' EXIT
peers=tally.conformance.peers

# Its status says that some loss fails, which is what the table is for.
"$python" -m tally.conformance --markdown "$table" --loss tally \
    --loss $peers:Transformers --loss $peers:TransformersPerRank \
    --loss $peers:Torchtitan --loss $peers:MegatronMeans \
    --loss $peers:MegatronPerToken --loss local-mean --loss count-of-the-dead || true
[ -s "$table" ]

{
    cat <<'END'
# Does every token count once?

Written by `doc/conformance.sh`; do not edit.

`python -m tally.conformance` asks that of a loss: four ranks train a small model
for one step in each of twenty-nine ways, and each parameter's gradient is compared
with that of one process on all the data, in float64. A number is the largest relative
error over parameters and ranks, in float32; a step passes with 1e-6. **Bold** is
what fails; **NaN**: a gradient or a loss was not a number.

    python -m tally.conformance --loss mypackage.module:my_loss
    python -m tally.conformance --loss tally --json cases.json --markdown table.md

`my_loss` is a function `(logits, labels) -> loss`, as most loops use one, or a
class of `tally.conformance.losses.Loss`, which is told what a trainer knows: the
labels of the step before it begins, and the groups of ranks.

| labels | of a step |
|---|---|
| even | all count |
| uneven | no two ranks and no two micro-batches have as many |
| silent rank | one rank has none |
| empty step | no rank has any: the gradient is 0, the loss is 0 |
| packed | documents end to end, each with a prompt that does not count |
| weights | tokens with a weight each; left out for losses that take none |

M is the number of micro-batches. In "replica 2 of 2 dies" two of the four ranks
are lost between the count and the reduction of gradients, so the count has to be
that of the others; nobody really dies. In "4 replicas, 1 is killed" four processes
are replica groups ([fault.md](fault.md)): they take a step together, one gets
SIGKILL between its count and its gradient, the others sum again without it and take
one step more. Each survivor's gradient is compared in all three steps. Losses that
know nothing of replica groups have no such row. CP cuts sequences in two; with
attention, in four, of which a rank has the outer two or the inner two, and keys and
values go around by PyTorch's ring attention. "DeepSpeed" is an engine of it, of each
stage of ZeRO, which divides by the micro-batches, too. Some trainers do not drive all
of these; there the rows show their loss with the count that they would make.

In "Megatron-core" its schedules run the step (1F1B with two stages), its data
parallelism and finalize_model_grads reduce the gradients; in "Megatron-core GPT" the
model is its GPTModel, too, of layers by its local spec, without TransformerEngine: with
TP 2 the vocabulary is spread, and its vocab_parallel_cross_entropy gives the loss of
each token; with SP finalize_model_grads sums the gradients of norms and biases over
TP; interleaved, each stage has two of four parts. In "torchtitan" its Trainer takes its
own train_step, with a Llama of two layers, and log. They get Tally's integrations,
their own losses as they are, and other losses by their conventions; by Megatron's, a
loss without a count is multiplied by CP.

Three modules are the suite's, where the trainers' own do not run on a CPU. The local
spec's norm and attention refuse: `sequence parallel not supported by torch LayerNorm`
(here PyTorch's LayerNorm, marked as Megatron marks its others), `Context parallelism is
only supported by TEDotProductAttention!`. Nor has PyTorch's context_parallel(), which
torchtitan takes, a rule for the attention of a CPU: `Operator
aten._scaled_dot_product_flash_attention_for_cpu.default does not have a sharding
strategy registered.` Both get the ring attention of above.
Both take a GPU for granted; what stands in for it, and for packages that they import
and the step does not use, is in
[host.py](../python/tally/conformance/host.py), and none of it computes. With PyTorch
2.13 two things of torchtitan 0.3 do not run on any device: its default SPMD backend
"spmd_types", whose parameters FSDP refuses (here it is "partial_dtensor"), and its
call of a pipeline's schedule (`Expecting 2 arg_mbs but got 1`), which is renamed
here. Its CUDA graphs and FlexAttention are not run.

END
    "$python" - "$table" <<'END'
import importlib.metadata as metadata
import sys

versions = {
    name: f"{name} {metadata.version(name)}"
    for name in ("torch", "transformers", "torchtitan", "megatron-core")
}
text = open(sys.argv[1], encoding="utf-8").read()
peers = "### tally.conformance.peers:"
for title, better in {
    "### tally\n": "## Tally\n",
    peers + "Transformers\n": f"## {versions['transformers']}, as its Trainer "
    "calls its loss\n",
    peers + "TransformersPerRank\n": f"## {versions['transformers']} with "
    "average_tokens_across_devices=False\n",
    peers + "Torchtitan\n": f"## {versions['torchtitan']}, CrossEntropyLoss by "
    "the trainer's count\n",
    peers + "MegatronMeans\n": f"## {versions['megatron-core']}, (sum, count) if "
    "nothing is set\n",
    peers + "MegatronPerToken\n": f"## {versions['megatron-core']}, (sum, count) "
    "with calculate_per_token_loss\n",
    "### local-mean\n": f"## {versions['torch']}, F.cross_entropy's mean\n",
    "### count-of-the-dead\n": "## A count by hand, which keeps the dead\n",
}.items():
    text = text.replace(title, better)
print(text.rstrip())
END
} >"$here/conformance.md"

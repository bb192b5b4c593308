# SPDX-License-Identifier: BSD-3-Clause
"""A GPT of Megatron-core with experts and multi-token prediction, over two stages:
gradients are those of its own division by the count of all tokens."""

import json
import os
import tempfile
import unittest
import warnings
from functools import partial

import torch
import torch.distributed as dist

import tally.torch
from tally.conformance import forks
from tally.conformance.engines import not_installed
from tally.conformance.gpt import small_config
from tally.conformance.host import CudaIsHost
from tally.conformance.megatron import core
from tally.integrations.megatron import MegatronLoss

STAGES = 2
VOCAB, ROWS, LENGTH = 32, 2, 8
COUNTED = (0.2, 0.9, 0.5)  # of the tokens of each micro-batch
LOSS_SCALE = 128.0  # as of float16; a power of two, to the bit


def batches():
    random = torch.Generator().manual_seed(3)
    shape = (ROWS, LENGTH)
    return [
        (
            torch.randint(VOCAB, shape, generator=random),
            torch.randint(VOCAB, shape, generator=random),
            (torch.rand(shape, generator=random) < counted).float(),
        )
        for counted in COUNTED
    ]


class Stage:
    def __init__(self):
        state = core("parallel_state")
        state.initialize_model_parallel(pipeline_model_parallel_size=STAGES)
        # Of TransformerEngine, without which it is not even None.
        core("transformer.moe.moe_utils").te_general_gemm = None
        self.config = small_config(
            2,
            pipeline_model_parallel_size=STAGES,
            add_bias_linear=False,
            calculate_per_token_loss=True,
            num_moe_experts=4,
            moe_router_topk=2,
            moe_router_load_balancing_type="aux_loss",
            moe_aux_loss_coeff=0.1,
            moe_z_loss_coeff=0.05,
            moe_token_dispatcher_type="allgather",
            mtp_num_layers=1,
            mtp_loss_scaling_factor=0.3,
        )
        specs = core("models.gpt.gpt_layer_specs")
        spec = specs.get_gpt_layer_local_spec(num_experts=4, moe_grouped_gemm=False)
        self.model = core("models.gpt").GPTModel(
            self.config,
            spec,
            VOCAB,
            LENGTH,
            pre_process=state.is_pipeline_first_stage(),
            post_process=state.is_pipeline_last_stage(),
            mtp_block_spec=specs.get_gpt_mtp_block_spec(
                self.config, spec, use_transformer_engine=False
            ),
        )
        distributed = core("distributed")
        self.spread = distributed.DistributedDataParallel(
            self.config, distributed.DistributedDataParallelConfig(), self.model
        )
        self.config.no_sync_func = self.spread.no_sync
        self.config.finalize_model_grads_func = distributed.finalize_model_grads
        self.config.grad_scale_func = lambda loss: loss * LOSS_SCALE

    def gradients(self, function):
        self.spread.zero_grad_buffer()
        positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
        hidden = torch.ones(1, 1, LENGTH, LENGTH).triu(1).bool()

        def forward_step(iterator, model):
            tokens, labels, mask = next(iterator)
            output = model(tokens, positions, hidden, labels=labels, loss_mask=mask)
            return output, partial(function, loss_mask=mask)

        core("pipeline_parallel").get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter(batches()),
            model=[self.spread],
            num_microbatches=len(COUNTED),
            seq_length=LENGTH,
            micro_batch_size=ROWS,
        )
        return {
            name: parameter.main_grad / LOSS_SCALE
            for name, parameter in self.model.named_parameters()
        }

    def with_tally(self, loss_fn):
        loss_fn.begin([mask for _, _, mask in batches()])
        found = self.gradients(loss_fn)
        loss_fn.end()
        return found


def of_megatron(output, loss_mask):
    total = (output.reshape(-1).float() * loss_mask.reshape(-1)).sum()
    return total, loss_mask.sum().int(), {}


def error(got, want):
    """The worst of all parameters, each relative to its largest."""
    return max(
        ((got[name] - want[name]).abs().max() / want[name].abs().max()).item()
        for name in want
    )


def stage(rank, folder):
    warnings.simplefilter("ignore")  # advice on what is faster on a GPU
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=STAGES
    )
    torch.manual_seed(1)
    with CudaIsHost():
        it = Stage()
        want = it.gradients(of_megatron)
        from megatron.core import parallel_state

        opened = tally.torch.open()
        ranks = parallel_state.get_data_parallel_group(with_context_parallel=True)
        group = tally.torch.group(opened, ranks)
        loss_fn = MegatronLoss(group)
        alone = error(it.with_tally(loss_fn), want)
        config = it.config
        config.grad_scale_func = loss_fn.grad_scale_func(config.grad_scale_func)
        both = error(it.with_tally(loss_fn), want)
        loss_fn.close()
        group.close()
        opened.close()
    experts = [name for name in want if "router" in name]
    with open(f"{folder}/found.{rank}", "w", encoding="utf-8") as file:
        json.dump({"alone": alone, "both": both, "routers": len(experts)}, file)
    dist.barrier()


@unittest.skipIf(not_installed("megatron"), "Megatron-core is not installed")
class MegatronExpertsTest(unittest.TestCase):
    def test_losses_of_experts_and_of_further_tokens_weigh_as_in_megatron(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in ("models.gpt", "models.gpt.gpt_layer_specs", "distributed"):
                core(name)
        with tempfile.TemporaryDirectory() as folder:
            stages = [forks.fork(stage, rank, folder) for rank in range(STAGES)]
            self.assertEqual(forks.wait(stages), [0] * STAGES)
            for rank in range(STAGES):
                path = os.path.join(folder, f"found.{rank}")
                with open(path, encoding="utf-8") as file:
                    found = json.load(file)
                self.assertLess(found["both"], 1e-6)
                # They do not pass by a loss function.
                self.assertGreater(found["alone"], 1)
                self.assertGreater(found["routers"], 0)

# SPDX-License-Identifier: BSD-3-Clause
"""transformers' Trainer under DDP, two micro-batches a step and rank:
    torchrun --nproc-per-node 2 examples/torch/transformers_trainer.py"""

import os
import tempfile

import torch
from task import LENGTH, SEQUENCES, VOCAB, Sequences
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from tally.integrations.transformers import TallyTrainer


class InOrder(TallyTrainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def end_step(self):
        super().end_step()
        totals = self.tally_loss.result(wait=True).channels[0]
        if self.args.process_index == 0:
            step = self.state.global_step
            print(f"step {step} tokens {totals.count} loss {totals.mean:.4f}")


def main(steps=4):
    torch.manual_seed(1)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=LENGTH,
            n_embd=32,
            n_layer=1,
            n_head=2,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=steps,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=SEQUENCES // ranks,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        InOrder(
            model=model,
            args=arguments,
            train_dataset=Sequences(steps),
            vocab=VOCAB,
        ).train()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: BSD-3-Clause
"""transformers' Trainer under DDP, two micro-batches a step and rank:
    torchrun --nproc-per-node 2 examples/torch/transformers_trainer.py"""

import os
import tempfile

import torch
from task import LENGTH, SEQUENCES, VOCAB, Sequences
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
    TrainingArguments,
)

from tally.integrations.transformers import TallyTrainer


class Totals(TrainerCallback):
    def __init__(self, loss):
        self.loss = loss

    def on_step_end(self, arguments, state, *_, **__):
        totals = self.loss.result(wait=True).channels[0]  # only to print it
        if arguments.process_index == 0:
            step = state.global_step - 1
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
            per_device_eval_batch_size=SEQUENCES // ranks,
            train_sampling_strategy="sequential",
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
        trainer = TallyTrainer(
            model=model,
            args=arguments,
            train_dataset=Sequences(steps),
            vocab=VOCAB,
        )
        trainer.add_callback(Totals(trainer.tally_loss))
        trainer.train()
        loss = trainer.evaluate(Sequences(1))["eval_loss"]
        if arguments.process_index == 0:
            print(f"step {steps} evaluates to {loss:.4f}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: BSD-3-Clause
"""What the examples train: a tiny model, on sequences of which only some labels
count. How many ranks share a step's sequences changes nothing but who has them.
"""

import torch
from torch import nn

from tally.torch import IGNORE_INDEX

VOCAB = 64
LENGTH = 16
SEQUENCES = 4  # of a step, over all ranks and micro-batches


class TinyModel(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(VOCAB, 32)
        self.inner = nn.Linear(32, 32)
        self.head = nn.Linear(32, VOCAB)

    def forward(self, inputs):
        return self.head(torch.relu(self.inner(self.embedding(inputs))))


def sequence(step, index):
    """Inputs and labels [1, LENGTH]; prompts of very different lengths do not
    count."""
    source = torch.Generator().manual_seed(100 * step + index)
    inputs = torch.randint(0, VOCAB, (1, LENGTH), generator=source)
    labels = (inputs * 7 + 3) % VOCAB
    labels[:, : [15, 2, 9, 16][(index + step) % SEQUENCES]] = IGNORE_INDEX
    return inputs, labels


def micro_batches(step, rank, ranks):
    """This rank's share of a step."""
    return [sequence(step, index) for index in range(rank, SEQUENCES, ranks)]


class Sequences(torch.utils.data.Dataset):
    """The sequences of all steps, in their order, for trainers that share them
    out themselves."""

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return self.steps * SEQUENCES

    def __getitem__(self, index):
        inputs, labels = sequence(index // SEQUENCES, index % SEQUENCES)
        return {"input_ids": inputs[0], "labels": labels[0]}

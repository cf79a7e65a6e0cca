"""Pieces that NLRD's networks share: fully connected layers with Xavier's start, and the bounded latent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from posekit.nn.precision import precise

LEAK = 0.2


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Builds a fully connected layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(widths: Sequence[int], last_relu: bool = False) -> nn.Sequential:
    """Builds fully connected layers with ReLU between them (and after the last, if asked for)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))


class Bounded(nn.Module):
    """``a tanh(x / a)``: a latent in (-a, a).

    Args:
        limit: a.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        """Squashes, in full precision: the sentinel compares with the limit."""
        return self.limit * torch.tanh(precise(x) / self.limit)

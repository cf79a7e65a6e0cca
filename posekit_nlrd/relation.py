"""The relation networks T: what a transform of the input does to the latent (section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from posekit_nlrd.layers import Bounded, mlp

WIDTHS = (1024, 512, 256)


class RelationNetwork(nn.Module):
    """Maps the latent of a pose or motion to that of its transform.

    Args:
        size: Latent dimensions: 32 (poses) or 128 (motions).
        latent_range: a of the latent's range (-a, a).
        widths: Hidden layers.
    """

    def __init__(self, size: int, latent_range: float = 1.0, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.layers = mlp([size, *widths, size])
        self.bound = Bounded(latent_range)

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents (..., size) to latents (..., size)."""
        return cast(Tensor, self.bound(self.layers(latent)))

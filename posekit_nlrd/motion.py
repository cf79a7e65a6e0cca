"""The motion auto-encoder: E_m and D_m, bidirectional LSTMs over pose latents (section 3.4)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from posekit_nlrd.layers import Bounded, linear
from posekit_nlrd.pose import LATENT

LENGTH = 30
"""Frames of a motion, at 30 frames a second."""
MOTION_LATENT = 128
HIDDEN = 128
LAYERS = 2


class MotionEncoder(nn.Module):
    """E_m: 30 pose latents to one motion latent.

    The last layer's forward state after the last frame and its backward state after the first one are what is kept.

    Args:
        latent_range: a of the latent's range (-a, a).
    """

    def __init__(self, latent_range: float = 1.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(LATENT, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.out = linear(2 * HIDDEN, MOTION_LATENT)
        self.bound = Bounded(latent_range)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps pose latents (B, T, 32) to motion latents (B, 128)."""
        _, (hidden, _) = self.lstm(latents)
        return cast(Tensor, self.bound(self.out(torch.cat([hidden[-2], hidden[-1]], dim=-1))))


class MotionDecoder(nn.Module):
    """D_m: one motion latent to 30 pose latents; the latent is every layer's initial state.

    Args:
        latent_range: a of the latent's range (-a, a).
        feed_latent: Feed the latent as the input of every step as well (the release's); zeros otherwise.
    """

    def __init__(self, latent_range: float = 1.0, feed_latent: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MOTION_LATENT, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.out = linear(2 * HIDDEN, LATENT)
        self.bound = Bounded(latent_range)
        self.feed_latent = feed_latent

    def forward(self, motion: Tensor, length: int = LENGTH) -> Tensor:
        """Maps motion latents (B, 128) to pose latents (B, T, 32)."""
        state = motion.expand(2 * LAYERS, *motion.shape).contiguous()
        steps = motion[:, None].expand(-1, length, -1)
        outputs, _ = self.lstm(steps if self.feed_latent else torch.zeros_like(steps), (state, state))
        return cast(Tensor, self.bound(self.out(outputs)))

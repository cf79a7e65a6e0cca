"""The pose synthesizer: where a part is in the short time between two frames.

Each joint moves along the straight line from its place in the previous frame to its place in the next one (supplement,
figure 1). What is learned is when it is where: increasing fractions of the line, from the appearance at both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from posekit.heatmaps import gaussian_heatmaps, mean_position
from posekit.nn.precision import full_precision, precise

BETA = 25.0
HIDDEN = 32


class Located(NamedTuple):
    """Joints as the single-frame network sees them in N frames."""

    points: Tensor  # (N, J, 2) heatmap px
    confidence: Tensor  # (N, J) in [0, 1]
    appearance: Tensor  # (N, J, C) feature at the point

    def take(self, index: Tensor) -> Located:
        """Returns the frames of an index (M,)."""
        return Located(*(value.index_select(0, index) for value in self))


class Interim(NamedTuple):
    """Synthesized joints of M key frames."""

    points: Tensor  # (M, J, K, 2) heatmap px
    confidence: Tensor  # (M, J) the lesser of the two ends
    heatmaps: Tensor  # (M, J, K, h, w) Gaussians of height 1


def soft_argmax(heatmaps: Tensor, beta: float = BETA) -> Tensor:
    """Returns the mean position (…, 2) in heatmap px under a softmax of ``beta`` times the maps (…, h, w)."""
    height, width = heatmaps.shape[-2:]
    with full_precision(heatmaps):
        share = functional.softmax(beta * precise(heatmaps).flatten(-2), dim=-1)
        return mean_position(share.unflatten(-1, (height, width)))


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Reads features (N, C, h, w) at points (N, J, 2) in heatmap px, bilinearly; returns (N, J, C)."""
    height, width = features.shape[-2:]
    with full_precision(features):
        x, y = precise(points).unbind(-1)
        grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
        found = functional.grid_sample(precise(features), grid[:, :, None], align_corners=True)  # (N, C, J, 1)
    return found[..., 0].transpose(1, 2)


def locate(features: Tensor, rough: Tensor, beta: float = BETA) -> Located:
    """Finds the joints of frames: once per frame, however many windows it is in.

    Args:
        features: (N, C, h, w).
        rough: (N, J, h, w) heatmaps of the single-frame head.
        beta: Factor of the maps in the soft argmax.
    """
    points = soft_argmax(rough, beta)
    confidence = precise(rough).amax((-2, -1)).clamp(0, 1)
    return Located(points, confidence, sample_features(features, points))


class PoseSynthesizer(nn.Module):
    """Places K poses between two frames.

    A network of two layers sees both ends' features, the displacement as a share of the map and its length, and gives
    K + 1 time steps; their softmax, summed up, is the increasing sequence of fractions 0 < t_1 < … < t_K < 1. It
    starts at even steps k / (K + 1).

    Args:
        channels: Channels C of the features.
        num_interim: K.
        sigma: Standard deviation of the drawn Gaussians, heatmap px.
        learned: False keeps the even steps: plain linear interpolation, without parameters.
        residual_offset: Also learn an offset off the line, at most half the line's length on each axis.
    """

    def __init__(
        self,
        channels: int,
        num_interim: int = 3,
        sigma: float = 3.0,
        learned: bool = True,
        residual_offset: bool = False,
    ) -> None:
        super().__init__()
        self.num_interim = num_interim
        self.sigma = sigma
        self.residual_offset = residual_offset and learned
        self.steps: nn.Sequential | None = None
        if learned:
            outputs = num_interim + 1 + (2 * num_interim if self.residual_offset else 0)
            last = nn.Linear(HIDDEN, outputs)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.steps = nn.Sequential(nn.Linear(2 * channels + 3, HIDDEN), nn.ReLU(inplace=True), last)

    def forward(self, before: Located, after: Located, size: Sequence[int]) -> Interim:
        """Synthesizes the poses between two frames.

        Args:
            before: The previous frame's joints.
            after: The next frame's joints.
            size: (h, w) of the maps.
        """
        with full_precision(before.points):
            line = after.points - before.points
            fractions, offset = self._fractions(before, after, line, size)
            points = before.points[..., None, :] + fractions[..., None] * line[..., None, :]
            if offset is not None:
                points = points + offset
            maps = gaussian_heatmaps(points, torch.ones_like(points[..., 0]), size, self.sigma)
        return Interim(points, torch.minimum(before.confidence, after.confidence), maps)

    def fractions(self, before: Located, after: Located, size: Sequence[int]) -> Tensor:
        """Returns the fractions (M, J, K) of the line, for tests and pictures; arguments as of :meth:`forward`."""
        return self._fractions(before, after, after.points - before.points, size)[0]

    def _fractions(
        self, before: Located, after: Located, line: Tensor, size: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        count = self.num_interim
        if self.steps is None:
            even = torch.arange(1, count + 1, device=line.device, dtype=line.dtype) / (count + 1)
            return even.expand(*line.shape[:-1], count), None
        # The scale is made on the device; a tensor of numbers would be copied there.
        share = torch.stack([line[..., 0] / size[1], line[..., 1] / size[0]], dim=-1)
        length = torch.sqrt(share.square().sum(-1, keepdim=True) + 1e-12)
        seen = torch.cat([before.appearance, after.appearance, share, length], dim=-1)
        raw = cast(Tensor, self.steps(precise(seen)))
        steps = functional.softmax(raw[..., : count + 1], dim=-1)
        fractions = steps.cumsum(-1)[..., :-1]
        if not self.residual_offset:
            return fractions, None
        reach = 0.5 * torch.linalg.vector_norm(line, dim=-1)[..., None, None]
        return fractions, reach * torch.tanh(raw[..., count + 1 :].unflatten(-1, (count, 2)))

"""What a small network's heatmaps say of each joint, as numbers for layers behind it: where it is, how surely."""

from __future__ import annotations

import torch
from torch import Tensor

from posekit.nn.precision import precise

SOFTMAX_SCALE = 10.0  # with which the shipped network was trained
PLACE_GAIN = 3.0  # coordinates lie in [-1, 1]; so they weigh as much as normed features


def joint_places(maps: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Reads each joint's place, and the decoder's feature there.

    Args:
        maps: (B, K, h, w) raw heatmaps.
        features: (B, C, h, w) of the decoder.

    Returns:
        (B, K, 3) float32: the mean of the softmaxed map in half crops from the centre (x, y) and its highest value, all
        times :data:`PLACE_GAIN`; and (B, K, C), the feature's mean over the softmaxed map.
    """
    mass = torch.softmax(SOFTMAX_SCALE * precise(maps.flatten(2)), -1)
    place = torch.cat([mass @ cell_centres(maps).to(mass), mass.amax(-1, keepdim=True)], -1) * PLACE_GAIN
    return place, mass.to(features.dtype) @ features.flatten(2).transpose(1, 2)


def cell_centres(maps: Tensor) -> Tensor:
    """Returns the cells' centres (cells, 2) of maps (B, K, h, w), in halves of the longer side from the middle."""
    height, width = maps.shape[-2:]
    x = torch.arange(width, device=maps.device) + 0.5 - width / 2
    y = torch.arange(height, device=maps.device) + 0.5 - height / 2
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).reshape(-1, 2)
    return grid / (max(height, width) / 2)

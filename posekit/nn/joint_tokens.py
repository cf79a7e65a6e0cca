"""What a small network's heatmaps say of each joint, as numbers for layers behind it: where it is, how surely."""

from __future__ import annotations

import torch
from torch import Tensor

from posekit.heatmaps import mean_position
from posekit.nn.precision import precise

SOFTMAX_SCALE = 10.0  # with which the shipped network was trained
PLACE_GAIN = 3.0  # coordinates lie in [-1, 1]; so they weigh as much as normed features


def joint_places(maps: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Reads each joint's place, and the decoder's feature there.

    Args:
        maps: (B, K, h, w) raw heatmaps.
        features: (B, C, h, w) of the decoder.

    Returns:
        (B, K, 3) float32: the mean of the softmaxed map from the centre (x, y), in halves of the longer side, and its
        highest value, all times :data:`PLACE_GAIN`; and (B, K, C), the feature's mean over the softmaxed map.
    """
    height, width = maps.shape[-2:]
    half = max(height, width) / 2
    mass = torch.softmax(SOFTMAX_SCALE * precise(maps.flatten(2)), -1)
    x, y = mean_position(mass.unflatten(-1, (height, width))).unbind(-1)
    place = torch.stack([(x - (width - 1) / 2) / half, (y - (height - 1) / 2) / half, mass.amax(-1)], -1)
    return PLACE_GAIN * place, mass.to(features.dtype) @ features.flatten(2).transpose(1, 2)

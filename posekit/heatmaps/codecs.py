"""Codecs: joints of a crop to heatmaps to learn from, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from posekit.errors import UserError, one_of
from posekit.heatmaps.decoders import DECODERS, decode_heatmaps
from posekit.heatmaps.mapping import MAPPINGS, from_heatmap, to_heatmap
from posekit.heatmaps.targets import corner_targets, gaussian_heatmaps


class HeatmapTarget(NamedTuple):
    """What a crop's joints ask of its heatmaps."""

    heatmaps: Tensor  # (B, K, H, W) targets; empty for joints of weight 0
    points: Tensor  # (B, K, 2) joints, heatmap px; (0, 0) for joints of weight 0
    weight: Tensor  # (B, K) 1 for visible joints on the map, else 0


@dataclass(frozen=True)
class _Codec:
    """Geometry that the codecs share.

    Args:
        input_size: (H, W) of the crop, px.
        heatmap_size: (H, W) of the heatmap, px.
        decoder: Name of the decoder.
        mapping: Name of the map between crop and heatmap pixels.

    Raises:
        UserError: An unknown name or a map smaller than 2x2.
    """

    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    decoder: str = "window"
    mapping: str = "udp"

    def __post_init__(self) -> None:
        one_of("decoder", self.decoder, DECODERS)
        one_of("mapping", self.mapping, MAPPINGS)
        if min(self.heatmap_size) < 2:
            raise UserError(f"heatmaps must be at least 2x2 pixels, not {self.heatmap_size}")

    def encode(self, points: Tensor, visible: Tensor) -> HeatmapTarget:
        """Draws the targets of joints.

        Args:
            points: (B, K, 2) joints (x, y), crop px. Joints off the map by more than half a pixel get weight 0.
            visible: (B, K) above 0 where the joint is labelled.
        """
        height, width = self.heatmap_size
        dots = to_heatmap(points, self.input_size, self.heatmap_size, self.mapping)
        x, y = dots.unbind(-1)
        on_map = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        weight = ((visible > 0) & on_map).to(dots.dtype)
        dots = torch.where(weight[..., None] > 0, dots, torch.zeros_like(dots))
        dots = torch.stack([dots[..., 0].clamp(0, width - 1), dots[..., 1].clamp(0, height - 1)], dim=-1)
        return HeatmapTarget(self._draw(dots, weight), dots, weight)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Reads joints (B, K, 2) in crop px and scores (B, K) from heatmaps (B, K, H, W)."""
        points, scores = decode_heatmaps(heatmaps, self.decoder)
        return from_heatmap(points, self.input_size, self.heatmap_size, self.mapping), scores

    def _draw(self, dots: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class GaussianCodec(_Codec):
    """Gaussians of height 1.

    Args:
        input_size: (H, W) of the crop, px.
        heatmap_size: (H, W) of the heatmap, px.
        decoder: Name of the decoder; ``parabola`` and ``dark`` undo the encoding.
        mapping: Name of the map between crop and heatmap pixels.
        sigma: Standard deviation, heatmap px.
        round_center: Centre on the nearest pixel, as HRNet's code does.
    """

    decoder: str = "parabola"
    sigma: float = 2.0
    round_center: bool = False

    def _draw(self, dots: Tensor, weight: Tensor) -> Tensor:
        return gaussian_heatmaps(dots, weight, self.heatmap_size, self.sigma, self.round_center)


@dataclass(frozen=True)
class DistributionCodec(_Codec):
    """Unit mass on the four pixels around the joint, with bilinear weights; ``window`` undoes it exactly."""

    def _draw(self, dots: Tensor, weight: Tensor) -> Tensor:
        index, share = corner_targets(dots, self.heatmap_size)
        empty = dots.new_zeros(*dots.shape[:-1], self.heatmap_size[0] * self.heatmap_size[1])
        return empty.scatter_add(-1, index, share * weight[..., None]).unflatten(-1, self.heatmap_size)


def flip_heatmaps(heatmaps: Tensor, flip_index: Tensor | Sequence[int]) -> Tensor:
    """Turns the maps (B, K, H, W) of a mirrored crop into maps of the crop: mirrors them and swaps left and right.

    Args:
        heatmaps: Maps of the mirrored crop.
        flip_index: (K,) for each joint the joint it becomes in the mirror (``Skeleton.flip_index``).
    """
    index = torch.as_tensor(flip_index, device=heatmaps.device)
    return heatmaps.index_select(1, index).flip(-1)


def shift_heatmaps(heatmaps: Tensor, shift: float) -> Tensor:
    """Moves maps (…, W) to the right by a part of a pixel, linearly; the first column stays.

    Args:
        heatmaps: Maps of values that may be averaged: no logarithms.
        shift: Heatmap px in [0, 1]; 1 is ``SHIFT_HEATMAP`` of HRNet's code.
    """
    if shift == 0:
        return heatmaps
    return torch.lerp(heatmaps, torch.cat([heatmaps[..., :1], heatmaps[..., :-1]], dim=-1), shift)

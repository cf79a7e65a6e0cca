"""From dense maps to initial poses: flip merging, centres by non-maximum suppression, joints by offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.nn.precision import precise
from posekit_logocap.network import STRIDE, DenseMaps
from posekit_logocap.sampling import to_cells, to_pixels


class Centres(NamedTuple):
    """The best centres of each picture, by falling score."""

    xy: Tensor  # (B, T, 2) float32, input px
    score: Tensor  # (B, T); 0 where there was nothing


def merge_flipped(maps: DenseMaps, mirrored: DenseMaps, flip_index: Tensor) -> DenseMaps:
    """Averages maps with those of the mirrored pictures; the embedding is that of the pictures as they are.

    Args:
        maps: Of the pictures.
        mirrored: Of their mirror images.
        flip_index: (K,) the joint set's left-right permutation.
    """
    joints = flip_index.numel()
    channels = torch.cat([flip_index, flip_index.new_full((1,), joints)])
    heatmaps = mirrored.heatmaps.flip(-1).index_select(1, channels)
    batch, _, height, width = mirrored.offsets.shape
    offsets = mirrored.offsets.flip(-1).view(batch, joints, 2, height, width).index_select(1, flip_index)
    offsets = torch.cat([-offsets[:, :, :1], offsets[:, :, 1:]], dim=2).flatten(1, 2)
    return DenseMaps(0.5 * (maps.heatmaps + heatmaps), 0.5 * (maps.offsets + offsets), maps.embedding)


def average_scales(maps: Sequence[DenseMaps]) -> DenseMaps:
    """Averages the maps of several sizes of the same pictures on the grid of the first of them.

    Heatmaps and features are resampled (``align_corners=False``); offsets are lengths and are scaled as well.
    """
    first = maps[0]
    height, width = first.heatmaps.shape[-2:]
    resized = [first]
    for other in maps[1:]:
        heatmaps, offsets, embedding = (F.interpolate(x, size=(height, width), mode="bilinear") for x in other)
        scale = offsets.new_tensor([width / other.offsets.shape[-1], height / other.offsets.shape[-2]])
        offsets = offsets * scale.repeat(offsets.shape[1] // 2)[:, None, None]
        resized.append(DenseMaps(heatmaps, offsets, embedding))
    return DenseMaps(*(sum(group[1:], group[0]) / len(maps) for group in zip(*resized, strict=True)))


def find_centres(heatmaps: Tensor, sizes: Tensor, top_k: int, stride: int = STRIDE) -> Centres:
    """Finds the local maxima of the centre map at the input's resolution (method page, section 4).

    A pixel survives where it equals the largest of its 3x3 neighbours, negative values counting as 0; neighbours of
    exactly equal value survive together. The order of equal scores is arbitrary.

    Args:
        heatmaps: (B, K + 1, h, w), the centre last; beyond a picture's own size it must repeat the border's values.
        sizes: (B, 2) H, W of each picture in px; centres beyond are left out.
        top_k: T, at most the number of pixels.
        stride: Input px per cell of the heatmaps.
    """
    full = precise(heatmaps[:, -1:])
    if stride > 1:
        full = F.interpolate(full, scale_factor=stride, mode="bilinear", align_corners=False)
    height, width = full.shape[-2:]
    peaks = full.clamp(min=0)
    kept = torch.where(F.max_pool2d(peaks, 3, stride=1, padding=1) == full, full, torch.zeros_like(full))[:, 0]
    rows = torch.arange(height, device=full.device)[:, None] < sizes[:, 0, None, None]
    columns = torch.arange(width, device=full.device) < sizes[:, 1, None, None]
    kept = torch.where(rows & columns, kept, torch.zeros_like(kept))
    score, index = kept.flatten(1).topk(min(top_k, height * width), dim=1)
    xy = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return Centres(xy.to(score.dtype), score)


def initial_poses(centres: Tensor, offsets: Tensor, mapping: str) -> Tensor:
    """Reads the joints of each centre from the offset field.

    ``legacy`` reads the offset at the truncated cell and takes it from the centre itself, as the official code does.
    ``half_pixel`` takes it from the cell's own middle, where it was learned.

    Args:
        centres: (B, T, 2) input px.
        offsets: (B, 2 K, h, w) cells.
        mapping: One of ``MAPPINGS``.

    Returns:
        (B, T, K, 2) input px.
    """
    batch, channels, height, width = offsets.shape
    cell = torch.div(centres, STRIDE, rounding_mode="floor").long()
    index = cell[..., 1].clamp(0, height - 1) * width + cell[..., 0].clamp(0, width - 1)
    field = precise(offsets).flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    field = field.transpose(1, 2).reshape(batch, -1, channels // 2, 2)
    base = to_cells(centres, STRIDE, mapping) if mapping == "legacy" else cell.to(field.dtype)
    return to_pixels(base[:, :, None] - field, STRIDE, mapping)

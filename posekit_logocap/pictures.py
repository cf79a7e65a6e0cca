"""Pictures to maps: the official affines, extension to the network's grid, flip test and several scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from posekit.arrays import Bytes, Float64
from posekit.data.images import require_picture
from posekit.data.scenes import scene_affine
from posekit.data.transforms import normalize_image, warp
from posekit_logocap.decode import average_scales, merge_flipped
from posekit_logocap.network import GRID, STRIDE, DenseMaps

_ROUND = 64  # px: sides of test inputs are multiples of it
_UNIT = 200.0  # px: the official code counts sizes in units of this


def official_affine(center: Sequence[float], scale: float, rotation: float, size: tuple[int, int]) -> Float64:
    """Returns the official code's map (2, 3) of a square of 200 ``scale`` px around a centre to a picture of ``size``.

    Args:
        center: (x, y), px of the original; it lands on size / 2.
        scale: Of the square's width, in units of 200 px.
        rotation: Degrees.
        size: (W, H) of the output, px.
    """
    angle, zoom = math.radians(rotation), size[0] / (scale * _UNIT)
    linear = zoom * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    offset = np.array(size) / 2 - linear @ np.asarray(center, dtype=np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def official_test_view(size: tuple[int, int], short_side: int) -> tuple[Float64, tuple[int, int]]:
    """Returns the official map (2, 3) of a test picture to the network's input, and the input's size.

    Args:
        size: (W, H) of the picture, px.
        short_side: Of the input, rounded up to a multiple of 64; the longer side is rounded up as well.
    """
    short = _round_up(short_side)
    zoom = short / min(size)
    output = tuple(short if side == min(size) else _round_up(side * zoom) for side in size)
    center = (int(size[0] / 2 + 0.5), int(size[1] / 2 + 0.5))
    return official_affine(center, output[0] / zoom / _UNIT, 0.0, (output[0], output[1])), (output[0], output[1])


def _round_up(length: float) -> int:
    return int((length + _ROUND - 1) // _ROUND * _ROUND)


def network_input(picture: Bytes, short_side: int, mapping: str) -> tuple[Tensor, Float64]:
    """Scales a picture for the network.

    Args:
        picture: (H, W, 3) uint8 RGB.
        short_side: Px.
        mapping: ``legacy`` takes the official affine, which belongs to it.

    Returns:
        The normalised input (3, H', W') and the map (2, 3) from picture to input.

    Raises:
        UserError: The picture is of another type or shape.
    """
    require_picture(picture)
    size = (picture.shape[1], picture.shape[0])
    if mapping == "legacy":
        affine, output = official_test_view(size, short_side)
    else:
        affine, output = scene_affine(size, (short_side, short_side), "short_side")
    return normalize_image(warp(picture, affine, output)), affine


def dense_maps(
    network: Callable[[Tensor], DenseMaps],
    images: Tensor,
    flip_index: Tensor | None,
    scales: Sequence[float],
    maps: DenseMaps | None = None,
) -> DenseMaps:
    """Runs the network on pictures, their mirror images and other sizes of them, and averages the maps.

    Args:
        network: Gives maps at stride 4.
        images: (B, 3, H, W) normalised.
        flip_index: (K,) for the flip test, or None.
        scales: Factors of the pictures' size, the first of them 1.
        maps: Those of the pictures themselves, where they are known.
    """
    height, width = images.shape[-2:]
    # Extended before it is mirrored: a cell of the mirror image then covers the same pixels.
    extended = F.pad(images, (0, -width % GRID, 0, -height % GRID))
    if maps is not None and extended.shape != images.shape:
        maps = None
    found = []
    for scale in scales:
        view = extended if scale == 1 else _resize(extended, scale)
        part = maps if scale == 1 and maps is not None else network(view)
        found.append(part if flip_index is None else merge_flipped(part, network(view.flip(-1)), flip_index))
    merged = found[0] if len(found) == 1 else average_scales(found)
    rows, columns = math.ceil(height / STRIDE), math.ceil(width / STRIDE)
    return DenseMaps(*(x[..., :rows, :columns] for x in merged))


def _resize(images: Tensor, scale: float) -> Tensor:
    """Resizes pictures to the nearest multiples of the network's grid, at least one."""
    size = [max(1, round(side * scale / GRID)) * GRID for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)

"""Bilinear sampling on regular grids of points, as a product of one small matrix per axis.

A window of P x P points around a joint reads an m x m patch of the map: values = Wy patch Wx^T. Both matrices follow
from positions alone, so a window costs one gather of whole cells, whatever the number of channels, and several linear
steps along an axis (upsampling, a Gaussian prior, a Winograd transform) become one matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from posekit.errors import one_of

SAMPLINGS = ("official", "border")
"""What lies beyond the map.

``border``: positions are clamped to the map, as ``grid_sample`` does with border padding.
``official``: the same, except that values fade out from the last cell but one and grow again: at the last row or column
they are exactly 0, one cell beyond it they are the border's (the rule of LOGO-CAP's code, where both of its bilinear
weights vanish there).
"""

MAPPINGS = ("legacy", "half_pixel")
"""How a stride s is understood: cell = x / s (the official code's) or cell = (x + 0.5) / s - 0.5 (pixels are areas)."""


class AxisWeights(NamedTuple):
    """Linear interpolation along one axis, for a patch of m neighbouring cells."""

    start: Tensor  # (…) int64, first cell of the patch
    weight: Tensor  # (…, P, m) float32, row p reads position p from cells start .. start + m - 1


def check_names(sampling: str, mapping: str) -> None:
    """Checks the two rules' names.

    Raises:
        UserError: One is unknown.
    """
    one_of("sampling", sampling, SAMPLINGS)
    one_of("mapping", mapping, MAPPINGS)


def patch_cells(span: float) -> int:
    """Returns how many neighbouring cells always suffice for positions that lie within ``span`` cells."""
    return math.floor(span + 1e-4) + 3


def to_cells(points: Tensor, stride: int, mapping: str) -> Tensor:
    """Maps input pixels to cells of a map."""
    return points / stride if mapping == "legacy" else (points + 0.5) / stride - 0.5


def to_pixels(cells: Tensor, stride: int, mapping: str) -> Tensor:
    """Maps cells of a map to input pixels: the inverse of :func:`to_cells`."""
    return cells * stride if mapping == "legacy" else (cells + 0.5) * stride - 0.5


def hat(positions: Tensor, cells: Tensor) -> Tensor:
    """Returns the bilinear weights relu(1 - |x - q|) of cells q (…, m) for positions x (…, P): shape (…, P, m)."""
    return (1 - (positions[..., None] - cells[..., None, :]).abs()).clamp(min=0)


def fade(positions: Tensor, size: Tensor, sampling: str) -> Tensor | None:
    """Returns the factor of the official rule at the far border, of the positions' shape; None for ``border``.

    Args:
        positions: In cells of a map of ``size`` cells.
        size: Broadcasts to the positions.
        sampling: One of ``SAMPLINGS``.
    """
    if sampling == "border":
        return None
    beyond = positions - (size - 1)
    return torch.where(beyond < 0, torch.ones_like(beyond), beyond.clamp(max=1))


def axis_weights(positions: Tensor, size: Tensor, cells: int, sampling: str) -> AxisWeights:
    """Makes the weights that sample a map along one axis.

    Args:
        positions: (…, P) in cells, ascending, spanning few enough cells for the patch (:func:`patch_cells`).
        size: (…) cells of the map along this axis (of each window's own image).
        cells: m, the patch's length.
        sampling: One of ``SAMPLINGS``.
    """
    last = (size - 1).to(positions.dtype)[..., None]
    inside = torch.minimum(positions.clamp(min=0), last)
    start = inside[..., 0].floor()
    weight = hat(inside, start[..., None] + torch.arange(cells, device=positions.device))
    factor = fade(positions, last + 1, sampling)
    return AxisWeights(start.long(), weight if factor is None else weight * factor[..., None])


def upsampled_axis_weights(positions: Tensor, size: Tensor, stride: int, cells: int, sampling: str) -> AxisWeights:
    """Makes the weights that sample, along one axis, a map which was first upsampled to the input's size.

    The upsampled map has ``size * stride`` pixels. Upsampling is bilinear with ``align_corners=False``; sampling the
    result by ``sampling`` is a second interpolation.

    Args:
        positions: (…, P) input px, ascending.
        size: (…) cells of the map.
        stride: Input px per cell.
        cells: m, the patch's length.
        sampling: One of ``SAMPLINGS``.
    """
    last, last_cell = ((n - 1).to(positions.dtype)[..., None] for n in (size * stride, size))
    inside = torch.minimum(positions.clamp(min=0), last)
    low = inside.floor()
    share = inside - low
    factor = fade(positions, last + 1, sampling)
    if factor is None:
        factor = torch.ones_like(share)
    sources = [((x + 0.5) / stride - 0.5).clamp(min=0) for x in (low, torch.minimum(low + 1, last))]
    sources = [torch.minimum(source, last_cell) for source in sources]
    start = sources[0][..., 0].floor()
    grid = start[..., None] + torch.arange(cells, device=positions.device)
    weight = hat(sources[0], grid) * ((1 - share) * factor)[..., None]
    weight = weight + hat(sources[1], grid) * (share * factor)[..., None]
    return AxisWeights(start.long(), weight)


def gather_cells(maps: Tensor, image: Tensor, start_y: Tensor, start_x: Tensor, cells: int) -> Tensor:
    """Cuts patches of whole cells, all channels of each.

    Args:
        maps: (B, C, h, w).
        image: (N,) int64, the picture of each row.
        start_y: (N, K) int64 first rows.
        start_x: (N, K) int64 first columns.
        cells: m, side of a patch. Cells outside the map repeat the border; their weights are 0.

    Returns:
        (N, K, m, m, C).
    """
    batch, channels, height, width = maps.shape
    steps = torch.arange(cells, device=maps.device)
    y = (start_y[..., None] + steps).clamp(0, height - 1)
    x = (start_x[..., None] + steps).clamp(0, width - 1)
    index = (image[:, None, None, None] * height + y[..., :, None]) * width + x[..., None, :]
    rows = maps.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    return rows.index_select(0, index.reshape(-1)).view(*index.shape, channels)


def gather_own_channel(maps: Tensor, image: Tensor, start_y: Tensor, start_x: Tensor, cells: int) -> Tensor:
    """Cuts patches (N, K, m, m) of which the k-th looks at channel k of maps (B, K, h, w); arguments as above."""
    _, channels, height, width = maps.shape
    steps = torch.arange(cells, device=maps.device)
    y = (start_y[..., None] + steps).clamp(0, height - 1)
    x = (start_x[..., None] + steps).clamp(0, width - 1)
    plane = image[:, None] * channels + torch.arange(channels, device=maps.device)
    index = (plane[..., None, None] * height + y[..., :, None]) * width + x[..., None, :]
    return maps.reshape(-1).index_select(0, index.reshape(-1)).view(index.shape)

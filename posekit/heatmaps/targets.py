"""Heatmaps to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from posekit.errors import UserError


def gaussian_heatmaps(
    points: Tensor, weight: Tensor, size: Sequence[int], sigma: float = 2.0, round_center: bool = False
) -> Tensor:
    """Draws Gaussians of height 1, as the product of a row and a column.

    Args:
        points: (…, 2) centres (x, y), heatmap px; may lie outside.
        weight: (…) 0 leaves the map empty, whatever the point.
        size: (H, W) of the maps.
        sigma: Standard deviation, heatmap px.
        round_center: Centre on the nearest pixel, as HRNet's code does, in place of the point itself.

    Returns:
        (…, H, W) maps.

    Raises:
        UserError: ``sigma`` is not above 0.
    """
    if not sigma > 0:
        raise UserError(f"sigma must be above 0, not {sigma!r}")
    use = _usable(points, weight)
    center = torch.where(use[..., None], points, torch.zeros_like(points))
    center = (center + 0.5).floor() if round_center else center
    column, row = (
        torch.exp(
            -0.5 * ((torch.arange(n, device=points.device, dtype=points.dtype) - center[..., i, None]) / sigma) ** 2
        )
        for i, n in ((0, size[1]), (1, size[0]))
    )
    return (row * use[..., None].to(row.dtype))[..., :, None] * column[..., None, :]


def dot_heatmaps(points: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """Sets the pixel nearest to each point to 1; halves round up. Points outside leave the map empty.

    Args:
        points: (…, 2) points (x, y), heatmap px.
        weight: (…) 0 leaves the map empty, whatever the point.
        size: (H, W) of the maps.

    Returns:
        (…, H, W) maps.
    """
    use = _usable(points, weight)
    center = (torch.where(use[..., None], points, torch.full_like(points, -1.0)) + 0.5).floor()
    column, row = (
        torch.arange(n, device=points.device, dtype=points.dtype) == center[..., i, None]
        for i, n in ((0, size[1]), (1, size[0]))
    )
    return (row[..., :, None] & column[..., None, :]).to(points.dtype)


def bilinear_cells(points: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Splits points over the four pixels of the cells they lie in, so that the weighted mean is the point.

    A point on the last row or column belongs to the cell before it; a point outside moves to the border.

    Args:
        points: (…, 2) finite points (x, y), heatmap px.
        size: (H, W) of the maps, at least 2x2.

    Returns:
        Column and row (…) int64 of each cell's first pixel, and weights (…, 4) of the pixels (dx, dy) =
        (0, 0), (1, 0), (0, 1), (1, 1), sum 1.
    """
    height, width = size
    if height < 2 or width < 2:
        raise UserError(f"a map of corner targets must be at least 2x2 pixels, not {height}x{width}")
    x, y = points[..., 0].clamp(0, width - 1), points[..., 1].clamp(0, height - 1)
    column, row = x.floor().clamp(max=width - 2), y.floor().clamp(max=height - 2)
    u, v = x - column, y - row
    weight = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], dim=-1)
    return column.long(), row.long(), weight


def corner_targets(points: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns flat pixel indices (…, 4) int64 and weights (…, 4) of `bilinear_cells`.

    Args:
        points: (…, 2) finite points (x, y), heatmap px.
        size: (H, W) of the maps, at least 2x2.
    """
    column, row, weight = bilinear_cells(points, size)
    first = row * size[1] + column
    return torch.stack([first, first + 1, first + size[1], first + size[1] + 1], dim=-1), weight


def _usable(points: Tensor, weight: Tensor) -> Tensor:
    return (weight > 0) & torch.isfinite(points).all(-1)

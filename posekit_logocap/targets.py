"""Training targets of the dense heads: heatmaps with their weight map, and the offset field (method page, section 9).

All in cells of the output map; people of all pictures at once, padded to one number of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from posekit.nn.constants import constants
from posekit_logocap.network import STRIDE
from posekit_logocap.sampling import to_cells

JOINT_SIGMA = 2.0
CENTRE_SIGMA = 4.0
CENTRE_RADIUS = 4
BACKGROUND = 0.1

OVERLAPS = ("official", "smaller")
"""Who owns the offsets of a cell that the squares of several people share: see :func:`offset_targets`.

``smaller``: for each joint the person of least area, of equal ones the later. ``official``: what the official code
does, which is that for two people with the same labelled joints.
"""


class Persons(NamedTuple):
    """The labelled people of B pictures, padded to G rows; input px."""

    keypoints: Tensor  # (B, G, K, 2)
    visible: Tensor  # (B, G, K) bool, labelled joints inside the picture; False in padding rows
    area: Tensor  # (B, G) px^2; 0 in padding rows


class DenseTargets(NamedTuple):
    """Targets of the heads on the output grid."""

    heatmaps: Tensor  # (B, K + 1, h, w)
    heatmap_weight: Tensor  # (B, 1, h, w) without the mask
    offsets: Tensor  # (B, 2 K, h, w) cells
    offset_weight: Tensor  # (B, 2 K, h, w)


def stack_persons(keypoints: Sequence[Tensor], visible: Sequence[Tensor], area: Sequence[Tensor]) -> Persons:
    """Pads the person lists of a ``SceneBatch`` to one length, at least 1.

    Args:
        keypoints: B of (N, K, 2) input px.
        visible: B of (N, K).
        area: B of (N,) px^2.
    """
    rows = max(1, *(len(a) for a in area))

    def pad(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.cat([v, v.new_zeros(rows - len(v), *v.shape[1:])]) for v in values])

    return Persons(pad(keypoints).float(), pad(visible) > 0, pad(area).float())


def output_points(points: Tensor, mirrored: Tensor, mapping: str) -> Tensor:
    """Maps points (B, …, 2) from input px to cells of the output map.

    Under ``legacy`` the official code divides by the stride before it mirrors, so a mirrored picture's targets lie
    (s - 1) / s cells further left.

    Args:
        points: Input px, after the mirror.
        mirrored: (B,) bool.
        mapping: One of ``MAPPINGS``.
    """
    cells = to_cells(points, STRIDE, mapping)
    if mapping != "legacy":
        return cells
    shift = mirrored.to(cells.dtype).view(-1, *[1] * (cells.ndim - 2)) * ((STRIDE - 1) / STRIDE)
    return torch.stack([cells[..., 0] - shift, cells[..., 1]], dim=-1)


def centres_of(points: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each person's centre (…, 2), the mean of the labelled joints, and whether there is one (…)."""
    weight = visible.to(points.dtype)[..., None]
    count = weight.sum(-2)
    return (points * weight).sum(-2) / count.clamp(min=1), count[..., 0] > 0


def dense_targets(
    joints: Tensor,
    visible: Tensor,
    centre: Tensor,
    has_centre: Tensor,
    area: Tensor,
    size: tuple[int, int],
    overlap: str = "official",
) -> DenseTargets:
    """Makes the targets of both dense heads.

    Args:
        joints: (B, G, K, 2) cells.
        visible: (B, G, K) bool.
        centre: (B, G, 2) cells.
        has_centre: (B, G) bool; without it a person has neither centre nor offsets.
        area: (B, G) px^2 of the network's input.
        size: (h, w) of the output map.
        overlap: One of ``OVERLAPS``.
    """
    heatmaps, weight = heatmap_targets(
        torch.cat([joints, centre[:, :, None]], dim=2), torch.cat([visible, has_centre[..., None]], dim=2), size
    )
    with_offsets = visible & has_centre[..., None]
    return DenseTargets(heatmaps, weight, *offset_targets(joints, with_offsets, centre, area, size, overlap))


def heatmap_targets(points: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Paints Gaussians at sub-cell positions, merged by their maximum.

    Each is painted in a box of 3 sigma and a little more; the weight is 1 in any box and ``BACKGROUND`` elsewhere.

    Args:
        points: (B, G, K + 1, 2) cells, the centre last.
        valid: (B, G, K + 1) bool.
        size: (h, w).

    Returns:
        Heatmaps (B, K + 1, h, w) and weights (B, 1, h, w).
    """
    batch, _, channels, _ = points.shape
    height, width = size
    heatmaps = points.new_zeros(batch, channels, height * width)
    weight = points.new_full((batch, 1, height * width), BACKGROUND)
    for part, sigma in ((slice(0, channels - 1), JOINT_SIGMA), (slice(channels - 1, None), CENTRE_SIGMA)):
        value, inside, index = _patches(points[:, :, part], valid[:, :, part], sigma, size)
        # (B, G, c, n) -> (B, c, G n): people of one channel write to the same map; the greatest value stays.
        target, flat = value.transpose(1, 2).flatten(2), index.transpose(1, 2).flatten(2)
        heatmaps[:, part] = heatmaps[:, part].scatter_reduce(2, flat, target, "amax")
        weight = weight.scatter_reduce(2, index.flatten(1)[:, None], inside.flatten(1)[:, None], "amax")
    return heatmaps.view(batch, channels, height, width), weight.view(batch, 1, height, width)


def _patches(points: Tensor, valid: Tensor, sigma: float, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns value, whether it is painted (0 or 1) and flat cell of each cell of the boxes, each (B, G, c, n)."""
    height, width = size
    extent = constants((width, height), points)
    low = (points - 3 * sigma - 1).floor()
    high = (points + 3 * sigma + 2).ceil()
    steps = torch.arange(int(6 * sigma + 3) + 2, device=points.device)
    cells = low[..., None, :] + steps[:, None]  # (B, G, c, s, 2)
    within = (cells < high[..., None, :]) & (cells >= 0) & (cells < extent)
    # Joints outside the grid are skipped: the official code truncates the position first.
    whole = points.trunc()
    drawn = valid & ((points >= 0) & (whole < extent)).all(-1)
    bell = torch.exp(-((cells - points[..., None, :]) ** 2) / (2 * sigma**2))
    inside = within[..., :, None, 1] & within[..., None, :, 0] & drawn[..., None, None]
    value = bell[..., :, None, 1] * bell[..., None, :, 0] * inside
    clamped = torch.minimum(cells.clamp(min=0), (extent - 1).to(cells.dtype)).long()
    index = clamped[..., :, None, 1] * width + clamped[..., None, :, 0]
    return value.flatten(3), inside.to(value.dtype).flatten(3), index.flatten(3)


def offset_targets(
    joints: Tensor,
    valid: Tensor,
    centre: Tensor,
    area: Tensor,
    size: tuple[int, int],
    overlap: str = "official",
) -> tuple[Tensor, Tensor]:
    """Fills the square around each centre with the way from every joint to the cell.

    Args:
        joints: (B, G, K, 2) cells.
        valid: (B, G, K) bool; joints outside the grid are left out besides.
        centre: (B, G, 2) cells.
        area: (B, G) px^2; the weight is one over its root.
        size: (h, w).
        overlap: Who owns a cell that several people claim; one of ``OVERLAPS``.

    Returns:
        Offsets and weights, each (B, 2 K, h, w).
    """
    batch, people, count, _ = joints.shape
    height, width = size
    extent = constants((width, height), joints)
    steps = torch.arange(-CENTRE_RADIUS, CENTRE_RADIUS, device=joints.device)
    corner = centre.trunc().long()  # of the square's middle; (B, G, 2)
    x, y = corner[..., :1] + steps, corner[..., 1:] + steps  # (B, G, s)
    cells = torch.stack([x[:, :, None].expand(-1, -1, len(steps), -1), y[..., None].expand(-1, -1, -1, len(steps))], -1)
    cells = cells.flatten(2, 3)  # (B, G, s^2, 2)
    inside = ((corner >= 0) & (corner < extent)).all(-1, keepdim=True)
    claims = valid & inside & ((joints >= 0) & (joints < extent)).all(-1)
    if overlap == "official":
        order = torch.arange(people, device=joints.device).expand(batch, -1)
        written = _official_writes(claims, corner, cells, area)
    else:
        # The greatest order wins: the smallest person, and of equal ones the later.
        order = (-area).argsort(dim=1, stable=True).argsort(dim=1)
        written = claims[:, :, None].expand(-1, -1, cells.shape[2], -1)
    on_grid = ((cells >= 0) & (cells < extent)).all(-1)
    mark = (order[..., None, None] + 1) * (written & on_grid[..., None])  # (B, G, s^2, K)
    clamped = torch.minimum(cells.clamp(min=0), extent - 1)
    flat = (clamped[..., 1] * width + clamped[..., 0]).flatten(1)[:, None].expand(-1, count, -1)
    owner = torch.zeros(batch, count, height * width, dtype=mark.dtype, device=mark.device)
    owner = owner.scatter_reduce(2, flat, mark.permute(0, 3, 1, 2).flatten(2), "amax")
    position = torch.arange(people, device=joints.device).expand(batch, -1)
    by_order = torch.zeros_like(position).scatter(1, order, position)
    who = by_order[:, None].expand(-1, count, -1).gather(2, (owner - 1).clamp(min=0))
    owned = (owner > 0).to(joints.dtype)
    weight = owned * area.clamp(min=1e-6).rsqrt()[:, None].expand(-1, count, -1).gather(2, who)
    ys = torch.arange(height, device=joints.device).repeat_interleave(width)
    xs = torch.arange(width, device=joints.device).repeat(height)
    fields = [owned * (grid - joints[..., i].transpose(1, 2).gather(2, who)) for i, grid in enumerate((xs, ys))]
    offsets = torch.stack(fields, dim=2).view(batch, 2 * count, height, width)
    return offsets, weight.repeat_interleave(2, dim=1).view(offsets.shape)


def _official_writes(claims: Tensor, corner: Tensor, cells: Tensor, area: Tensor) -> Tensor:
    """Returns which joints a person writes into each cell of its square, people taken in order: (B, G, n, K) bool.

    The official code keeps one area per cell, of whoever wrote last. A joint that somebody wrote before stays where
    that area is smaller than the person's own; but the first joint that nobody wrote before sets the area to the
    person's own, so all joints after it are written as well.

    Args:
        claims: (B, G, K) bool.
        corner: (B, G, 2) middle of each square.
        cells: (B, G, n, 2).
        area: (B, G).
    """
    people, side = claims.shape[1], 2 * CENTRE_RADIUS
    place = cells[:, :, :, None] - corner[:, None, None] + CENTRE_RADIUS  # (B, G, n, G, 2) in the others' squares
    earlier = torch.ones(people, people, dtype=torch.bool, device=area.device).tril(-1)[:, None]
    covers = ((place >= 0) & (place < side)).all(-1) & earlier
    owned = (covers.flatten(1, 2).float() @ claims.float()).unflatten(1, cells.shape[1:3]) > 0.5
    free = claims[:, :, None] & ~owned
    started = free.cumsum(-1) > 0
    # Whether an earlier person wrote anything depends on those before: a fixed point, reached by the number of people.
    local = (place[..., 1] * side + place[..., 0]).clamp(0, side * side - 1)
    number = torch.arange(1, people + 1, device=area.device)
    # The official code keeps areas in single precision: float64 ones, as of its records, may lose against themselves.
    kept = area.float().to(area.dtype)
    areas = torch.cat([area.new_zeros(len(area), 1), kept], dim=1)
    acts = claims.any(-1)[..., None].expand(-1, -1, cells.shape[2])
    larger = torch.zeros_like(acts)
    for _ in range(people):
        there = acts.transpose(1, 2)[:, None].expand(-1, people, -1, -1).gather(2, local) & covers
        last = (there * number).amax(-1)
        stored = areas[:, None].expand(-1, people, -1).gather(2, last)
        larger = (stored >= area[..., None]) & (last > 0)
        acts = larger & claims.any(-1)[..., None] | free.any(-1)
    return claims[:, :, None] & (larger[..., None] | free | (started & (kept >= area)[..., None, None]))

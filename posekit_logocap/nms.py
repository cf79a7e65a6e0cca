"""Suppression of poses that are found twice, for many pictures at once."""

from __future__ import annotations

import torch
from torch import Tensor


def pose_nms(
    poses: Tensor, scores: Tensor, valid: Tensor | None = None, distance: float = 0.05, least_joints: int = 8
) -> Tensor:
    """Tells which poses stay (DEKR's rule, method page section 11).

    Two poses are neighbours when more than ``least_joints`` joints are closer than ``distance`` times the diagonal of
    the first one's extent. In order of the rows: unless a pose is ignored by now, the best of its neighbours (itself
    among them) stays and all its neighbours are ignored; if that best one is ignored already, nothing happens. A pose
    of no extent has no neighbours and is dropped.

    The rule is sequential, but whether a row acts depends on earlier rows only. So the acting rows are the fixed point
    of one Boolean product, which is reached after at most as many passes as there are rows.

    Args:
        poses: (B, N, K, 2) px.
        scores: (B, N).
        valid: (B, N) bool, rows that are there at all.
        distance: See above.
        least_joints: See above.

    Returns:
        (B, N) bool.
    """
    batch, count = scores.shape
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
    near = neighbours(poses.float(), distance, least_joints) & valid[:, :, None] & valid[:, None, :]
    best = torch.where(near, scores[:, None].float(), -torch.inf).argmax(-1)  # (B, N)
    # Row i is blocked by an earlier acting row k that ignores i, or ignores the best neighbour of i.
    blocked_by = near.transpose(1, 2) | near.transpose(1, 2).gather(1, best[..., None].expand(-1, -1, count))
    earlier = torch.ones(count, count, dtype=torch.bool, device=scores.device).tril(-1)
    able = near.any(-1)
    blocked = (blocked_by & earlier).float()
    acting = able
    for _ in range(count):
        acting = able & ((blocked @ acting[..., None].float())[..., 0] < 0.5)
    kept = torch.zeros(batch, count, device=scores.device, dtype=torch.float32)
    return kept.scatter_reduce(1, best, acting.float(), "amax") > 0


def neighbours(poses: Tensor, distance: float, least_joints: int) -> Tensor:
    """Returns (B, N, N) bool: whether a row's pose has the column's pose as its neighbour; poses (B, N, K, 2)."""
    extent = poses.amax(2) - poses.amin(2)
    reach = distance * extent.square().sum(-1).sqrt()  # (B, N)
    apart = (poses[:, :, None] - poses[:, None]).square().sum(-1).sqrt()  # (B, N, N, K)
    return (apart < reach[:, :, None, None]).sum(-1) > least_joints

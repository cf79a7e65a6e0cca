"""Brings sampled shapes from the sculpted A-pose to the T-pose that SMPL's format starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from body_builder.sources import BODY, Sources
from posekit.skeletons import SMPL24

Floats = NDArray[np.float64]

# From joint, to joint, and the direction that their line gets, for the left side; x changes its sign on the right.
_LIMBS = (
    (16, 18, (1.0, 0.0, 0.0)),
    (18, 20, (1.0, 0.0, 0.0)),
    (20, 22, (1.0, 0.0, 0.0)),
    (1, 4, (0.06, -1.0, 0.0)),
    (4, 7, (0.03, -1.0, -0.03)),
)
_FOOT = (7, 10, (0.12, 0.0, 1.0))


def shape_adults(sources: Sources, weights: NDArray[np.float32]) -> tuple[NDArray[np.float32], Floats]:
    """Returns vertices (N, B, 3) and joint centres (N, 24, 3) in the A-pose of adults given by target weights."""
    flat = sources.targets.reshape(len(sources.targets), -1)
    points = (weights @ flat).reshape(len(weights), -1, 3)
    points += sources.base.astype(np.float32)
    return points[:, :BODY], points[:, BODY:].reshape(len(weights), 24, 8, 3).mean(2, dtype=np.float64)


def straighten(vertices: NDArray[np.float32], centres: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """T-poses shapes, pelvis at the origin.

    The vertices are those that linear blend skinning, from the T-pose back to the A-pose, takes to the sculpted ones
    exactly; so bodies with hanging arms look as sculpted.

    Args:
        vertices: (N, B, 3) in the A-pose.
        centres: (N, 24, 3) joint centres in the A-pose.
        weights: (B, 24) skinning weights.

    Returns:
        Vertices (N, B, 3) and centres (N, 24, 3).
    """
    turns = rest_turns(centres)
    straight = np.zeros_like(centres)
    for j, p in enumerate(SMPL24.parents):
        if p >= 0:
            straight[:, j] = straight[:, p] + (turns[:, p] @ (centres[:, j] - centres[:, p])[..., None])[..., 0]
    back = turns.swapaxes(-1, -2)
    shift = centres - (back @ straight[..., None])[..., 0]
    motion = np.concatenate([back, shift[..., None]], -1).reshape(len(centres), 24, 12)
    blended = (weights @ motion).reshape(len(centres), -1, 3, 4)
    offset = vertices - blended[..., 3]
    return np.linalg.solve(blended[..., :3], offset[..., None])[..., 0], straight


def rest_turns(centres: Floats) -> Floats:
    """Returns the world rotation (N, 24, 3, 3) of each joint that takes the A-pose to the T-pose."""
    turns = np.broadcast_to(np.eye(3), (len(centres), 24, 3, 3)).copy()
    for side, sign in ((0, 1.0), (1, -1.0)):
        for start, end, (x, y, z) in _LIMBS:
            bone = centres[:, end + side] - centres[:, start + side]
            turns[:, start + side] = _least_turn(bone, np.array([sign * x, y, z]))
        turns[:, 22 + side] = turns[:, 20 + side]
        ankle, ball, (x, y, z) = _FOOT
        foot = (centres[:, ball + side] - centres[:, ankle + side]) * [1, 0, 1]
        turns[:, ankle + side] = turns[:, ball + side] = _least_turn(foot, np.array([sign * x, y, z]))
    return turns


def _least_turn(start: Floats, end: Floats) -> Floats:
    """Returns the rotations (N, 3, 3) by the smallest angle from directions (N, 3) to a direction (3,)."""
    a = start / np.linalg.norm(start, axis=-1, keepdims=True)
    b = end / np.linalg.norm(end)
    cross = np.cross(a, b)
    x, y, z = cross.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return np.eye(3) + skew + skew @ skew / (1 + a @ b)[:, None, None]

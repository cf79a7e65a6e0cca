"""From the joint sets of data modules to NLRD's 17 joints (section 7 of the reconstruction)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from posekit.errors import UserError
from posekit.skeletons import LIMB17, get_skeleton
from posekit_nlrd.geometry import LEVELS, PARENTS, pick

# What stands in for a joint where a set has no joint of that name. A bone keeps its direction only, so the head's
# joint serves for its top. In Human3.6M's set the thorax is the mocap's neck, and the joint called neck is the nose.
_STANDINS = {"neck": ("thorax", "upper_neck"), "head_top": ("head",)}
_OWN = {"H36M17": {"neck": "thorax"}, "SPIN49": {"neck": "neck", "head_top": "head_top"}}
_HIPS = (LIMB17.index("right_hip"), LIMB17.index("left_hip"))
OPTIONAL = ("left_foot", "right_foot")


@lru_cache(maxsize=32)
def limb_sources(skeleton: str) -> tuple[int, ...]:
    """Returns the joint of a set that gives each of the 17 joints; -1 where it has none (feet only).

    The pelvis is not looked up: it is the midpoint of the hips in every set.

    Raises:
        UserError: The set lacks a joint that NLRD cannot do without.
    """
    joints = get_skeleton(skeleton).joints
    sources = []
    for joint in LIMB17.joints:
        names = (_OWN.get(skeleton, {}).get(joint, joint), *_STANDINS.get(joint, ()))
        found = next((joints.index(name) for name in names if name in joints), -1)
        sources.append(0 if joint == "pelvis" else found)
    missing = [j for j, s in zip(LIMB17.joints, sources, strict=True) if s < 0 and j not in OPTIONAL]
    if missing:
        raise UserError(
            f"joint set {skeleton} lacks {', '.join(missing)}, which NLRD needs; sets that do: LIMB17, SMPL24, H36M17"
        )
    return tuple(sources)


def to_limb17(points: Tensor, skeleton: str, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Takes points of a joint set to the 17 joints, the pelvis (midpoint of the hips) at 0.

    A foot that the set lacks continues its shin, with weight 0. A joint whose weight is 0 stands where it was given;
    those behind it get weight 0 as well, since bones and canonical poses are made from the root outwards. So without
    both hips nothing has a weight.

    Args:
        points: (..., K, 3), any frame.
        skeleton: Name of their joint set.
        weight: (..., K), 0 where not labelled; None: all are.

    Returns:
        Points (..., 17, 3) and weights (..., 17), float32.

    Raises:
        UserError: The set lacks a needed joint, or the points are not of that set.
    """
    sources = limb_sources(skeleton)
    size = len(get_skeleton(skeleton))
    if points.shape[-2] != size:
        raise UserError(f"3D joints have {points.shape[-2]} rows, but {skeleton} has {size}")
    points = points.float()
    share = points.new_ones(points.shape[:-1]) if weight is None else weight.to(points).expand(points.shape[:-1])
    rows = list(pick(points, [max(s, 0) for s in sources]).unbind(-2))
    weights = [share[..., s] if s >= 0 else torch.zeros_like(share[..., 0]) for s in sources]
    rows[0] = (rows[_HIPS[0]] + rows[_HIPS[1]]) / 2
    weights[0] = torch.minimum(weights[_HIPS[0]], weights[_HIPS[1]])
    for name in OPTIONAL:
        foot = LIMB17.index(name)
        if sources[foot] < 0:
            ankle, knee = foot - 1, foot - 2
            rows[foot] = 1.4 * rows[ankle] - 0.4 * rows[knee]
    for joint in (joint for level in LEVELS for joint in level):
        weights[joint] = weights[joint] * (weights[PARENTS[joint]] > 0)
    return torch.stack(rows, dim=-2) - rows[0][..., None, :], torch.stack(weights, dim=-1)

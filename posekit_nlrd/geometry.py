"""Limb geometry: the view frame, canonical bones, local limb frames and the kinematics that undo them.

Frame V (x image right, y away from the camera, z up), root-relative. A pose is (..., 17, 3) in the order of
``posekit.skeletons.LIMB17``. Bone vectors point from the child to its parent: ``d_i = S[parent i] - S[i]``.

Local limb frames follow Akhter & Black, "Pose-conditioned joint angle limits", CVPR 2015, as Pose2vec (Kundu et al.,
WACV 2019) uses them: bones of the trunk stay in V, so they carry the view; every other bone is written in a frame that
its parent bone spans, so it does not change when the person turns.

Nothing here uses matrix products, so autocast leaves the arithmetic in float32 (or in float64, if that is what came).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from posekit.nn.constants import constants
from posekit.nn.precision import precise
from posekit.skeletons import LIMB17

NUM_JOINTS = len(LIMB17)
PARENTS = (0, *LIMB17.parents[1:])  # the root is its own parent: its bone has length 0
FLIP = LIMB17.flip_index

# Length of the bone from each joint to its parent; a head is 2 units (the release's ratios, doubled).
_RATIOS = {
    "neck": 2.375, "shoulder": 0.685, "elbow": 1.4, "wrist": 1.2, "head_top": 1.0,
    "hip": 0.525, "knee": 2.1, "ankle": 1.8, "foot": 1.0, "pelvis": 0.0,
}  # fmt: skip
CANONICAL = tuple(2 * _RATIOS[j.removeprefix("left_").removeprefix("right_")] for j in LIMB17.joints)

TORSO = (0, 1, 2, 5, 9, 13)  # bones that stay in V
LEVELS = ((1, 9, 13), (2, 5, 8, 10, 14), (3, 6, 11, 15), (4, 7, 12, 16))  # each level's parents lie in the one before
_BY_SHOULDERS, _BY_HIPS = (3, 6, 8), (10, 14)
_NEXT, _LAST = ((4, 7, 11, 15), (3, 6, 10, 14)), ((12, 16), (11, 15))  # joints, and the joints whose frames they turn

_AXIS = (0.9975, 0.0023, 0.0709)  # the fixed direction of the public static-pose file
_SPARE = (0.0, 1.0, 0.0)  # in its place where a limb runs along it
_DEGENERATE = 1e-6  # of a cross product's length
_EPS = 1e-16  # under square roots: gradients stay finite at zero

# Place of each joint in the order in which bones are found.
_FOUND = (*TORSO, *_BY_SHOULDERS, *_BY_HIPS, *_NEXT[0], *_LAST[0])
_PLACE = tuple(_FOUND.index(i) for i in range(NUM_JOINTS))


def camera_to_view(points: Tensor) -> Tensor:
    """Turns camera coordinates (..., 3) (x right, y down, z forward) into frame V: (x, z, -y), a rotation."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, z, -y], dim=-1)


def view_to_camera(points: Tensor) -> Tensor:
    """Undoes :func:`camera_to_view`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], dim=-1)


def canonical_lengths(like: Tensor) -> Tensor:
    """Returns the canonical bone lengths (17,) in units, of the device of ``like``."""
    return _constant(CANONICAL, precise(like))


def unit(vectors: Tensor) -> Tensor:
    """Scales vectors (..., 3) to length 1; zero stays zero, with a finite gradient."""
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + _EPS)


def bones(pose: Tensor) -> Tensor:
    """Returns bone vectors (..., 17, 3) from each joint to its parent; the root's is zero."""
    pose = precise(pose)
    return pick(pose, PARENTS) - pose


def bone_lengths(pose: Tensor) -> Tensor:
    """Returns the lengths (..., 17) of a pose's bones, in its own unit."""
    return torch.linalg.vector_norm(bones(pose), dim=-1)


def accumulate(vectors: Tensor) -> Tensor:
    """Walks from the root outwards: joints (..., 17, 3) of bone vectors (..., 17, 3), the root at 0."""
    found = {0: torch.zeros_like(vectors[..., 0, :])}
    for level in LEVELS:
        for joint in level:
            found[joint] = found[PARENTS[joint]] - vectors[..., joint, :]
    return torch.stack([found[j] for j in range(NUM_JOINTS)], dim=-2)


def with_lengths(pose: Tensor, lengths: Tensor) -> Tensor:
    """Keeps the direction of every bone and replaces its length.

    Args:
        pose: (..., 17, 3), any unit.
        lengths: (17,) or (..., 17), the unit of the result.

    Returns:
        (..., 17, 3), the root at 0.
    """
    return accumulate(unit(bones(pose)) * lengths[..., None])


def fit_canonical(pose: Tensor) -> Tensor:
    """Refits poses (..., 17, 3) to the canonical bones, in units."""
    return with_lengths(pose, canonical_lengths(pose))


def to_local(pose: Tensor) -> Tensor:
    """Returns the local unit vectors (..., 17, 3) of poses (..., 17, 3); the root's is zero."""
    d = bones(pose)
    shoulders, hips = trunk_frames(d)
    parts = [pick(d, TORSO), _turn(shoulders, pick(d, _BY_SHOULDERS)), _turn(hips, pick(d, _BY_HIPS))]
    frames = _limb_frames(shoulders, hips)
    for joints, parents in (_NEXT, _LAST):
        frames = child_frames(pick(d, parents), frames)
        parts.append(_turn(frames, pick(d, joints)))
        frames = frames[..., -2:, :, :]  # of the two ankles, whose feet are left
    return unit(pick(torch.cat(parts, dim=-2), _PLACE))


def forward_kinematics(local: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Turns local unit vectors into a pose; the inverse of :func:`to_local`, differentiable.

    Args:
        local: (..., 17, 3) unit vectors; the root's is not looked at.
        lengths: (17,) or (..., 17); the canonical ones when None.

    Returns:
        (..., 17, 3) in the unit of the lengths, the root at 0.
    """
    local = precise(local)
    lengths = canonical_lengths(local) if lengths is None else lengths.to(local)
    scaled = local * lengths[..., None]
    shoulders, hips = trunk_frames(scaled)
    by_shoulders = _turn_back(shoulders, pick(scaled, _BY_SHOULDERS))
    by_hips = _turn_back(hips, pick(scaled, _BY_HIPS))
    parts = [pick(scaled, TORSO), by_shoulders, by_hips]
    frames = _limb_frames(shoulders, hips)
    limbs = torch.cat([by_shoulders[..., :2, :], by_hips], dim=-2)  # elbows and knees
    for joints, _ in (_NEXT, _LAST):
        frames = child_frames(limbs, frames)
        limbs = _turn_back(frames, pick(scaled, joints))
        parts.append(limbs)
        frames, limbs = frames[..., -2:, :, :], limbs[..., -2:, :]
    return accumulate(pick(torch.cat(parts, dim=-2), _PLACE))


def _limb_frames(shoulders: Tensor, hips: Tensor) -> Tensor:
    """Returns the frames (..., 4, 3, 3) of the two elbows and the two knees."""
    return torch.cat([shoulders, shoulders, hips, hips], dim=-3)


def trunk_frames(d: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the frames (..., 1, 3, 3), as rows, that the shoulders and the hips span with the spine.

    Args:
        d: (..., 17, 3) bone vectors with their lengths.
    """
    spine = d[..., 1, :]
    across = torch.stack([d[..., 5, :] - d[..., 2, :], d[..., 13, :] - d[..., 9, :]], dim=-2)
    u, v = unit(across), unit(spine)[..., None, :].expand_as(across)
    cross = torch.linalg.cross(u, v)
    spare = _constant(_SPARE, u).expand_as(u)  # a spine along the shoulders: any other axis will do
    frames = _rows(u, torch.where(_vanishes(cross), torch.linalg.cross(u, spare), cross))
    return frames[..., :1, :, :], frames[..., 1:, :, :]


def child_frames(limbs: Tensor, frames: Tensor) -> Tensor:
    """Returns the frames (..., J, 3, 3), as rows, that parent bones span for their children.

    Where a bone runs along the fixed direction of its own frame (an arm straight along the shoulders), another fixed
    direction takes its place, per sample and joint, in both directions of the map.

    Args:
        limbs: (..., J, 3) parent bones, any length.
        frames: (..., J, 3, 3) their own frames, as rows.
    """
    u = unit(limbs)
    first = torch.linalg.cross(_turn_back(frames, _constant(_AXIS, u).expand_as(u)), u)
    second = torch.linalg.cross(_turn_back(frames, _constant(_SPARE, u).expand_as(u)), u)
    v = unit(torch.where(_vanishes(first), second, first))
    return torch.stack([u, v, unit(torch.linalg.cross(u, v))], dim=-2)


def azimuth_matrix(angle: Tensor) -> Tensor:
    """Returns rotations (..., 3, 3) about the vertical z by angles (...) in radians."""
    return _plane_rotation(angle, 0, 1)


def tilt_matrix(angle: Tensor) -> Tensor:
    """Returns rotations (..., 3, 3) about the depth axis y: positive turns the picture counter-clockwise."""
    return _plane_rotation(angle, 0, 2)


def turn_matrix(degrees: float, like: Tensor) -> Tensor:
    """Returns :func:`tilt_matrix` (3, 3) of one angle in degrees, of the device and type of ``like``."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _constant((cos, 0.0, -sin, 0.0, 1.0, 0.0, sin, 0.0, cos), like).view(3, 3)


def rotate(pose: Tensor, matrix: Tensor) -> Tensor:
    """Applies rotations (..., 3, 3) to all points of poses (..., J, 3)."""
    pose = precise(pose)
    return (matrix[..., None, :, :] * pose[..., None, :]).sum(-1)


def _plane_rotation(angle: Tensor, i: int, j: int) -> Tensor:
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [[one if a == b else zero for b in range(3)] for a in range(3)]
    rows[i][i] = rows[j][j] = cos
    rows[i][j], rows[j][i] = -sin, sin
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _rows(u: Tensor, cross: Tensor) -> Tensor:
    """Completes unit vectors u to orthonormal rows (u, v, w), w along ``cross``."""
    w = unit(cross)
    return torch.stack([u, torch.linalg.cross(w, u), w], dim=-2)


def _turn(frames: Tensor, vectors: Tensor) -> Tensor:
    return (frames * vectors[..., None, :]).sum(-1)


def _turn_back(frames: Tensor, vectors: Tensor) -> Tensor:
    return (frames * vectors[..., :, None]).sum(-2)


def _vanishes(cross: Tensor) -> Tensor:
    return cross.detach().square().sum(-1, keepdim=True) < _DEGENERATE**2


def pick(points: Tensor, joints: Sequence[int]) -> Tensor:
    """Returns rows (..., len(joints), 3) of (..., J, 3): views and one copy, where an index list goes to the device."""
    return torch.stack([points[..., j, :] for j in joints], dim=-2)


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    return constants(values, like, like.dtype)

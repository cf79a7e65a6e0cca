"""Left and right exchanged in 3D, for flip augmentation. Functions take torch tensors or numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

from posekit.geometry.rotations import ArrayT, _namespace
from posekit.skeletons import SMPL24


def mirror_body_pose(pose: ArrayT) -> ArrayT:
    """Mirrors SMPL-format poses at the plane x = 0: left and right joints swap, y and z of each rotation vector flip.

    Args:
        pose: (…, 24, 3) axis-angle relative to the parent; row 0 may be in the camera's frame.

    Returns:
        (…, 24, 3).
    """
    swapped = pose[..., list(SMPL24.flip_index), :]
    return _namespace(pose).stack([swapped[..., 0], -swapped[..., 1], -swapped[..., 2]], -1)


def mirror_body_rotations(rotations: ArrayT) -> ArrayT:
    """Mirrors SMPL-format poses given as matrices (…, 24, 3, 3); see :func:`mirror_body_pose`."""
    swapped = rotations[..., list(SMPL24.flip_index), :, :]
    xp = _namespace(rotations)
    # M R M with M = diag(-1, 1, 1): the signs of the first row and the first column change, their corner's twice.
    columns = xp.stack([-swapped[..., 0], swapped[..., 1], swapped[..., 2]], -1)
    return xp.stack([-columns[..., 0, :], columns[..., 1, :], columns[..., 2, :]], -2)


def mirror_joints3d(joints: ArrayT, flip_index: Sequence[int], pivot: Sequence[int] = ()) -> ArrayT:
    """Mirrors joints and swaps left and right.

    Args:
        joints: (…, K, 3 or more) x, y, z in metres; further columns (confidences) move with their joint.
        flip_index: The skeleton's ``flip_index``.
        pivot: Joints whose mean x, before the flip, is the mirror plane (both hips: MAED's published code); none is
            x = 0, which matches a picture mirrored about its principal point.

    Returns:
        The same shape.
    """
    x = joints[..., list(flip_index), :1]
    plane = 2 * joints[..., list(pivot), :1].mean(-2)[..., None, :] if len(pivot) else 0.0
    return _namespace(joints).concatenate([plane - x, joints[..., list(flip_index), 1:]], -1)

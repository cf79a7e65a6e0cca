"""3D labels that move with the pixels: what an image-to-crop affine does to points, bodies and the camera.

A picture that is turned or mirrored shows a world that is turned about the optical axis or mirrored; everything else
that an affine does (scale, shift) belongs to the camera. So with the intrinsics K and the affine A as 3x3 matrices,
A K = K' Q, where K' is upper triangular with a positive diagonal and Q an orthogonal map of the x and y axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, mirror_body_pose

Float = NDArray[np.float64]


class CameraMove(NamedTuple):
    """An affine, divided into what the world and what the camera takes."""

    world: Float  # (3, 3) orthogonal, of the x and y axes; determinant -1 for a mirror image
    camera: Float  # (3, 3) intrinsics of the crop's pixels


def split_affine(affine: Float, camera: Float | None = None) -> CameraMove:
    """Divides an affine.

    Args:
        affine: (2, 3) image px -> crop px.
        camera: (3, 3) pinhole intrinsics of the image; None takes the identity, that is square pixels.
    """
    whole = np.vstack([affine, [0.0, 0.0, 1.0]]) @ (np.eye(3) if camera is None else camera)
    a, b = whole[0, :2]
    length = np.linalg.norm(whole[1, :2])
    second = whole[1, :2] / length
    first = np.array([second[1], -second[0]]) * np.sign(a * second[1] - b * second[0])
    world = np.eye(3)
    world[:2, :2] = first, second
    return CameraMove(world, whole @ world.T)


def move_points(points: Float, world: Float, flip_index: tuple[int, ...]) -> Float:
    """Moves points (…, K, 3), camera frame; a mirror image swaps left and right joints."""
    moved = points @ world.T
    return moved[..., list(flip_index), :] if np.linalg.det(world) < 0 else moved


def move_body(pose: Float, world: Float) -> Float:
    """Moves SMPL-format poses (…, 24, 3), axis-angle, whose first row is the root in the camera's frame."""
    turn = world
    if np.linalg.det(world) < 0:
        pose = mirror_body_pose(pose)
        turn = world * np.array([-1.0, 1.0, 1.0])  # mirrored at x = 0 first, then turned
    if np.allclose(turn, np.eye(3), atol=1e-9):
        return pose
    pose = pose.copy()
    pose[..., 0, :] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[..., 0, :]))
    return pose


def move_translation(translation: Float, world: Float, pelvis: Float | None = None) -> Float:
    """Moves translations (…, 3) of bodies, camera frame.

    Args:
        translation: Of the body's origin.
        world: (3, 3) of :func:`split_affine`.
        pelvis: (…, 3) the body's pelvis in its rest pose, about which the root's rotation turns; None takes its origin.
    """
    if pelvis is None:
        return translation @ world.T
    # A mirrored body has a mirrored pelvis, but the label's is that of the symmetric body: x stays.
    return (translation + pelvis) @ world.T - pelvis

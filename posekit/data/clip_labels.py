"""3D labels that move with the pixels: what an image-to-crop affine does to points, bodies and the camera.

A picture that is turned or mirrored shows a world that is turned about the optical axis or mirrored; everything else
that an affine does (scale, shift) belongs to the camera. So with the intrinsics K and the affine A as 3x3 matrices,
A K = K' Q, where K' is upper triangular with a positive diagonal and Q an orthogonal map of the x and y axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Bool, Float64, Int64
from posekit.data.batch import LABEL_FIELDS
from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, mirror_body_pose

if TYPE_CHECKING:
    from posekit.data.clips import Track


_WEIGHTS = {"joints3d": "joints3d_weight", "body_pose": "body_weight"}
_SHAPES = {"body_pose": (24, 3), "body_shape": (10,), "body_translation": (3,), "camera": (3, 3)}


class CameraMove(NamedTuple):
    """An affine, divided into what the world and what the camera takes."""

    world: Float64  # (3, 3) orthogonal, of the x and y axes; determinant -1 for a mirror image
    camera: Float64  # (3, 3) intrinsics of the crop's pixels


def split_affine(affine: Float64, camera: Float64 | None = None) -> CameraMove:
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


def move_points(points: Float64, world: Float64, flip_index: tuple[int, ...]) -> Float64:
    """Moves points (…, K, 3), camera frame; a mirror image swaps left and right joints."""
    moved = points @ world.T
    return moved[..., list(flip_index), :] if np.linalg.det(world) < 0 else moved


def move_body(pose: Float64, world: Float64) -> Float64:
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


def move_translation(translation: Float64, world: Float64, pelvis: Float64 | None = None) -> Float64:
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


# -- labels of a clip -------------------------------------------------------------------------------------------------


def label_names(tracks: Iterable[Track]) -> list[str]:
    """Returns the 3D fields of a ``ClipBatch`` that some track has labels for, with their weights."""
    tracks = list(tracks)
    present = [name for name in LABEL_FIELDS if any(getattr(track, name) is not None for track in tracks)]
    return present + [weight for name, weight in _WEIGHTS.items() if name in present]


def move_labels(track: Track, rows: Int64, affines: Float64, flip_index: tuple[int, ...]) -> dict[str, Float64]:
    """Returns a track's 3D labels (T, …) in some rows, moved as the frames were.

    Args:
        track: The track.
        rows: (T,)
        affines: (T, 2, 3) original px -> crop px.
        flip_index: The skeleton's permutation, for mirror images.
    """
    cameras = [None] * len(rows) if track.camera is None else list(track.camera[rows])
    moves = [split_affine(affine, camera) for affine, camera in zip(affines, cameras, strict=True)]
    found: dict[str, Float64] = {}
    if track.camera is not None:
        found["camera"] = np.stack([move.camera for move in moves])
    if track.joints3d is not None:
        found["joints3d"] = _each(moves, lambda x, world: move_points(x, world, flip_index), track.joints3d[rows])
        weight = np.ones(found["joints3d"].shape[:2]) if track.joints3d_weight is None else track.joints3d_weight[rows]
        mirrored = np.linalg.det(moves[0].world) < 0
        found["joints3d_weight"] = weight[:, list(flip_index)] if mirrored else weight
    if track.body_pose is not None:
        found["body_pose"] = _each(moves, move_body, track.body_pose[rows])
        found["body_weight"] = np.ones(len(rows)) if track.body_weight is None else track.body_weight[rows]
    if track.body_shape is not None:
        found["body_shape"] = track.body_shape[rows]
    if track.body_translation is not None:
        pelvis = np.zeros((len(rows), 3)) if track.body_pelvis is None else track.body_pelvis[rows]
        both = np.stack([track.body_translation[rows], pelvis], axis=1)
        found["body_translation"] = _each(moves, lambda x, world: move_translation(x[0], world, x[1]), both)
    return found


def _each(moves: Sequence[CameraMove], move: Callable[[Float64, Float64], Float64], values: Float64) -> Float64:
    return np.stack([move(value, step.world) for value, step in zip(values, moves, strict=True)])


def fill_labels(names: Sequence[str], found: Mapping[str, Float64], valid: Bool, joints: int) -> dict[str, Tensor]:
    """Returns labels as tensors, zeros for those that are not there; weights are 0 on padding.

    Args:
        names: The fields of the data set, of :func:`label_names`.
        found: Labels of the clip.
        valid: (T,) frames that are not padding.
        joints: Size of the joint set.
    """
    shapes = {**_SHAPES, "joints3d": (joints, 3), "joints3d_weight": (joints,)}
    labels = {}
    for name in names:
        value = found.get(name)
        value = np.zeros((len(valid), *shapes.get(name, ()))) if value is None else value
        if name in _WEIGHTS.values():
            value = value * valid.reshape(-1, *[1] * (value.ndim - 1))
        labels[name] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    return labels

"""One similarity (flip, turn, scale, shift) for a layer's pixels and, exactly, for all its labels in 2D and 3D.

Turning a picture in its plane is turning the world about the optical axis; mirroring it is mirroring the world; scale
and shift belong to the intrinsics. So ``camera @ joints3d`` still gives the keypoints after any augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.arrays import Bytes, Float32, Float64
from posekit.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posekit.skeletons import SMPL24

_BODY_FLIP = list(SMPL24.flip_index)
_MIRROR = np.array([-1, 1, 1], dtype=np.float32)


@dataclass(frozen=True)
class Similarity:
    """x' = scale R(angle) (flip x) + shift, in px; ``flip`` maps x to width - 1 - x.

    Attributes:
        flip: Mirror first.
        angle: Radians, positive clockwise on the screen (x right, y down).
        scale: Factor.
        shift: (2,) px.
        width: Of the picture that is mirrored, px.
    """

    flip: bool
    angle: float
    scale: float
    shift: Float32
    width: int

    @property
    def turn(self) -> Float32:
        """The rotation (2, 2)."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]], dtype=np.float32)

    @property
    def matrix(self) -> Float64:
        """The affine (2, 3)."""
        linear = self.scale * self.turn.astype(np.float64)
        offset = self.shift.astype(np.float64)
        if self.flip:
            offset = offset + linear[:, 0] * (self.width - 1)
            linear = linear * [-1, 1]
        return np.concatenate([linear, offset[:, None]], 1)


def sample_similarity(rng: np.random.Generator, size: tuple[int, int], strength: float, full: bool) -> Similarity:
    """Draws a training augmentation about the crop's centre; the identity at strength 0.

    Args:
        rng: The composite's stream.
        size: (W, H) of the crop, px.
        strength: 1 = +-40 degrees (6 of 10 crops), scale 0.7 to 1.35, shift +-8 %.
        full: Whether to draw at all.
    """
    if not full or strength <= 0:
        return Similarity(False, 0.0, 1.0, np.zeros(2, np.float32), size[0])
    flip = bool(rng.random() < 0.5)
    angle = (
        float(np.clip(rng.normal(0, 0.35 * strength), -0.7 * strength, 0.7 * strength)) if rng.random() < 0.6 else 0.0
    )
    scale = float(np.exp(np.clip(rng.normal(0, 0.16 * strength), -0.35, 0.3)))
    center = (np.array(size) - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = center - scale * turn @ center + rng.uniform(-0.08, 0.08, 2) * strength * size
    return Similarity(flip, angle, scale, shift.astype(np.float32), size[0])


@dataclass(frozen=True)
class Labels:
    """A person's labels in the final crop; fields as in ``CropBatch``, one sample."""

    keypoints: Float32
    self_visible: Bytes
    joints3d: Float32
    pose: Float32
    betas: Float32
    translation: Float32
    camera: Float32


def transform_labels(record: np.void, similarity: Similarity, flip_index: tuple[int, ...]) -> Labels:
    """Applies a similarity to a layer's labels.

    Args:
        record: A layer's labels.
        similarity: What is done to its pixels.
        flip_index: The joint set's left-right permutation.
    """
    keypoints, joints3d = record["keypoints"], record["joints3d"]
    visible, pose = record["visible"], record["pose"]
    shift3d, pelvis, center = record["translation"], record["pelvis"], record["center"]
    rest_pelvis = pelvis - shift3d  # where the root joint rests; smplx turns the body about it
    if similarity.flip:
        order = list(flip_index)
        keypoints, joints3d, visible = keypoints[order], joints3d[order] * _MIRROR, visible[order]
        # Mirroring a rotation keeps the component of its axis across the mirror and turns the other two round.
        pose = pose[_BODY_FLIP] * np.array([1, -1, -1], dtype=np.float32)
        pelvis, rest_pelvis = pelvis * _MIRROR, rest_pelvis * _MIRROR
        last = np.float32(similarity.width - 1)
        center = np.array([last - center[0], center[1]], dtype=np.float32)
        keypoints = keypoints * _MIRROR[:2] + np.array([last, 0], dtype=np.float32)
    else:
        pose = pose.copy()
    turn, scale = similarity.turn, np.float32(similarity.scale)
    if similarity.angle:
        spin = np.eye(3, dtype=np.float32)
        spin[:2, :2] = turn
        joints3d, pelvis = joints3d @ spin.T, spin @ pelvis
        pose[0] = matrix_to_axis_angle(spin @ axis_angle_to_matrix(pose[0]))
    camera = np.eye(3, dtype=np.float32)
    camera[0, 0] = camera[1, 1] = record["focal"] * scale
    camera[:2, 2] = scale * (turn @ center) + similarity.shift
    keypoints = scale * (keypoints @ turn.T) + similarity.shift
    return Labels(keypoints, visible, joints3d, pose, record["betas"], pelvis - rest_pelvis, camera)

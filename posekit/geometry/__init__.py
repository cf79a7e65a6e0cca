"""Geometry: affine crops, rotations, cameras, mirroring. Functions take any leading shape."""

from posekit.geometry.affine import apply_affine, crop_affine, crop_points, fit_aspect, invert_affine, uncrop_points
from posekit.geometry.mirror import mirror_body_pose, mirror_body_rotations, mirror_joints3d
from posekit.geometry.projection import (
    crop_camera,
    project_points,
    project_weak_perspective,
    weak_perspective_to_translation,
)
from posekit.geometry.rot6d import matrix_to_rot6d, rot6d_to_matrix
from posekit.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
)

__all__ = [
    "apply_affine",
    "axis_angle_to_matrix",
    "crop_affine",
    "crop_camera",
    "crop_points",
    "fit_aspect",
    "invert_affine",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "matrix_to_rot6d",
    "mirror_body_pose",
    "mirror_body_rotations",
    "mirror_joints3d",
    "project_points",
    "project_weak_perspective",
    "quaternion_to_matrix",
    "rot6d_to_matrix",
    "uncrop_points",
    "weak_perspective_to_translation",
]

"""Geometry: affine crops and rotations. Functions take any leading shape."""

from posekit.geometry.affine import apply_affine, crop_affine, crop_points, fit_aspect, invert_affine, uncrop_points
from posekit.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

__all__ = [
    "apply_affine",
    "axis_angle_to_matrix",
    "crop_affine",
    "crop_points",
    "fit_aspect",
    "invert_affine",
    "matrix_to_axis_angle",
    "uncrop_points",
]

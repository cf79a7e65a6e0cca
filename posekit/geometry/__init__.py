"""Geometry: affine crops. Functions take any leading shape."""

from posekit.geometry.affine import apply_affine, crop_affine, fit_aspect, invert_affine, uncrop_points

__all__ = ["apply_affine", "crop_affine", "fit_aspect", "invert_affine", "uncrop_points"]

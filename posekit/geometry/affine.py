"""Affine maps between an original image, a crop and a heatmap. Pixel centres are integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from posekit.arrays import Float64


def crop_affine(center: ArrayLike, size: ArrayLike, output_size: Sequence[int], rotation: float = 0.0) -> Float64:
    """Returns the 2x3 map from image pixels to crop pixels.

    The box of width and height ``size`` around ``center`` becomes the whole crop: its left edge lands on x = 0 and its
    right edge on x = W - 1 (the unbiased form of UDP, Huang et al., CVPR 2020, Eq. 5), so flips and stride maps agree.

    Args:
        center: (x, y) of the box's centre, image px.
        size: (w, h) of the box, image px, of the crop's aspect ratio.
        output_size: (W, H) of the crop, px.
        rotation: Degrees; positive turns the picture's content counter-clockwise on the screen.
    """
    (cx, cy), (bw, bh), (w, h) = np.asarray(center, float), np.asarray(size, float), output_size
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    sx, sy = (w - 1) / bw, (h - 1) / bh
    linear = np.array([[sx * cos, sx * sin], [-sy * sin, sy * cos]])
    offset = np.array([(w - 1) / 2, (h - 1) / 2]) - linear @ np.array([cx, cy])
    return np.concatenate([linear, offset[:, None]], axis=1)


def fit_aspect(size: ArrayLike, aspect: float) -> Float64:
    """Grows the shorter side of boxes (…, 2) of (w, h) until w / h equals ``aspect``."""
    size = np.asarray(size, dtype=np.float64)
    w, h = size[..., 0], size[..., 1]
    return np.stack([np.maximum(w, h * aspect), np.maximum(h, w / aspect)], axis=-1)


def apply_affine(points: NDArray[np.floating], affine: NDArray[np.floating]) -> NDArray[np.floating]:
    """Maps points (…, 2) by an affine (2, 3)."""
    return points @ affine[:, :2].T + affine[:, 2]


def invert_affine(affine: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the inverse (2, 3) of an affine (2, 3)."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def crop_points(points: Tensor, affine: Tensor) -> Tensor:
    """Maps original points (B, …, 2) into the crops by each sample's image-to-crop affine (B, 2, 3), in float32."""
    a, b, c, d, tx, ty = _entries(points, affine)
    x, y = points[..., 0].float(), points[..., 1].float()
    return torch.stack([a * x + b * y + tx, c * x + d * y + ty], dim=-1)


def uncrop_points(points: Tensor, affine: Tensor) -> Tensor:
    """Maps crop points (B, …, 2) back to the original image with each sample's affine (B, 2, 3), in float32."""
    a, b, c, d, tx, ty = _entries(points, affine)
    x, y = points[..., 0].float() - tx, points[..., 1].float() - ty
    # By hand: torch.linalg.inv checks for singular matrices, which waits for the device.
    determinant = a * d - b * c
    return torch.stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant], dim=-1)


def _entries(points: Tensor, affine: Tensor) -> tuple[Tensor, ...]:
    """Returns the six numbers of each affine, shaped to broadcast over points.

    Products are written out, not as matrices: autocast would round those to half precision, which is whole pixels.
    """
    flat = affine.float().reshape(affine.shape[0], 6)
    shape = (affine.shape[0], *[1] * (points.ndim - 2))
    a, b, tx, c, d, ty = (flat[:, k].reshape(shape) for k in range(6))
    return a, b, c, d, tx, ty

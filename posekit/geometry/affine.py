"""Affine maps between an original image, a crop and a heatmap. Pixel centres are integers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def crop_affine(
    center: ArrayLike, size: ArrayLike, output_size: Sequence[int], rotation: float = 0.0
) -> NDArray[np.float64]:
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


def fit_aspect(size: ArrayLike, aspect: float) -> NDArray[np.float64]:
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
    """Maps original points (B, …, 2) into the crops by each sample's image-to-crop affine (B, 2, 3)."""
    flat = _rows(points)
    return (flat @ affine[:, :, :2].float().transpose(1, 2) + affine[:, None, :, 2].float()).reshape(points.shape)


def uncrop_points(points: Tensor, affine: Tensor) -> Tensor:
    """Maps crop points (B, …, 2) back to the original image with each sample's image-to-crop affine (B, 2, 3)."""
    shape = points.shape
    flat = _rows(points)
    linear, offset = affine[:, :, :2].float(), affine[:, :, 2].float()
    # A 2x2 inverse by hand: torch.linalg.inv checks for singular matrices, which waits for the device.
    a, b, c, d = linear[:, 0, 0], linear[:, 0, 1], linear[:, 1, 0], linear[:, 1, 1]
    inverse = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2) / (a * d - b * c)[:, None, None]
    return ((flat - offset[:, None]) @ inverse.transpose(1, 2)).reshape(shape)


def _rows(points: Tensor) -> Tensor:
    """Returns points (B, …, 2) as float32 rows (B, N, 2), also of an empty batch."""
    return points.reshape(points.shape[0], math.prod(points.shape[1:-1]), 2).to(torch.float32)

"""Cameras: the pinhole, the weak perspective of human mesh networks, and intrinsics of a crop.

Products are written out, not as matrices: autocast would round those to half precision, which is whole pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

FOCAL = 5000.0  # px, the fixed focal length of HMR, SPIN, VIBE and MAED for crops of CROP px
CROP = 224.0


def project_points(points: Tensor, camera: Tensor, near: float = 1e-3) -> Tensor:
    """Projects points by pinhole intrinsics, in float32.

    Args:
        points: (…, K, 3) metres, camera frame (x right, y down, z forward).
        camera: (…, 3, 3) intrinsics, px; those of :func:`crop_camera` may be turned and skewed.
        near: Metres; points nearer to the camera's plane, or behind it, are projected as if they were that far away,
            so that values and gradients stay finite.

    Returns:
        (…, K, 2) px.
    """
    x, y, z = points.float().unbind(-1)
    x, y = (v / z.clamp_min(near) for v in (x, y))
    rows = [[camera.float()[..., i, j, None] for j in range(3)] for i in range(2)]
    return torch.stack([a * x + b * y + c for a, b, c in rows], -1)


def crop_camera(camera: Tensor, affine: Tensor) -> Tensor:
    """Returns the intrinsics of a crop's pixels: the crop's affine after the camera of the whole image, in float32.

    Args:
        camera: (…, 3, 3) intrinsics of the original image, px.
        affine: (…, 2, 3) original px to crop px.

    Returns:
        (…, 3, 3) intrinsics that project camera-frame points straight into the crop.
    """
    linear, shift = affine.float()[..., :2, :2, None], affine.float()[..., :, 2]
    matrix = camera.float()
    top = (linear * matrix[..., None, :2, :]).sum(-2)
    top = torch.cat([top[..., :2], (top[..., 2] + shift)[..., None]], -1)
    last = torch.zeros_like(top[..., :1, :])
    last[..., 2] = 1
    return torch.cat([top, last], -2)


def weak_perspective_to_translation(camera: Tensor) -> Tensor:
    """Turns a weak-perspective camera into the body's translation before a pinhole of the focal length ``FOCAL``.

    A body of scale 1 in a crop of ``CROP`` px stands ``2 FOCAL / CROP`` metres away:
    ``(tx, ty, 2 FOCAL / (CROP s + 1e-9))``.

    Args:
        camera: (…, 3) of scale, tx, ty: tx and ty in metres, scale in half crops per metre.

    Returns:
        (…, 3) metres, camera frame.
    """
    scale, tx, ty = camera.float().unbind(-1)
    return torch.stack([tx, ty, 2 * FOCAL / (CROP * scale + 1e-9)], -1)


def project_weak_perspective(points: Tensor, camera: Tensor) -> Tensor:
    """Projects body-frame points into a square crop by the camera that a network predicts.

    Args:
        points: (…, K, 3) metres, camera axes, relative to the body's origin.
        camera: (…, 3) of scale, tx, ty; see :func:`weak_perspective_to_translation`.

    Returns:
        (…, K, 2) in half crops from the crop's centre: -1 is the left or top edge, 1 the right or bottom one. Pixels
        of a crop of any side are ``(result + 1) * side / 2``.
    """
    placed = points.float() + weak_perspective_to_translation(camera)[..., None, :]
    return placed[..., :2] / placed[..., 2:] * (FOCAL / (CROP / 2))

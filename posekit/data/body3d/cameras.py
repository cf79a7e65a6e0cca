"""Cameras of recordings."""

from __future__ import annotations

import numpy as np

from posekit.arrays import Bool, Float64


def fit_pinhole(points3d: Float64, points2d: Float64, known: Bool | None = None) -> Float64 | None:
    """Fits intrinsics to points and their projections: x = f X / Z + c along each axis, by least squares.

    Where the lens distorts it is a mean over the picture; labels of Human3.6M then differ from it by a few px.

    Args:
        points3d: (…, 3) camera frame.
        points2d: (…, 2) px.
        known: (…) which to use.

    Returns:
        (3, 3), or None where the points do not tell.
    """
    depth = points3d[..., 2]
    used = np.isfinite(points3d).all(-1) & np.isfinite(points2d).all(-1) & (depth > 1e-6)
    used = used if known is None else used & known
    if used.sum() < 8:
        return None
    matrix = np.eye(3)
    for axis in range(2):
        rays = points3d[used][:, axis] / depth[used]
        if np.ptp(rays) < 1e-4:
            return None
        system = np.stack([rays, np.ones_like(rays)], -1)
        focal, center = np.linalg.lstsq(system, points2d[used][:, axis], rcond=None)[0]
        if not focal > 0:
            return None
        matrix[axis, axis], matrix[axis, 2] = focal, center
    return matrix

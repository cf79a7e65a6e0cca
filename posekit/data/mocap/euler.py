"""Euler angles of motion files."""

from __future__ import annotations

import numpy as np

from posekit.arrays import Float64


def axis_rotation(axis: str, angle: Float64) -> Float64:
    """Returns rotations (…, 3, 3) by ``angle`` (…) radians about axis ``"x"``, ``"y"`` or ``"z"``, for columns."""
    angle = np.where(np.isfinite(angle), angle, np.nan)  # of which NumPy says nothing
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = {
        "x": [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]],
        "y": [[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]],
        "z": [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]],
    }[axis]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def euler_matrix(axes: str, angles: Float64) -> Float64:
    """Multiplies rotations in the order of the letters: ``"zyx"`` is Rz Ry Rx, which turns about x first.

    Args:
        axes: Letters of the axes, in the order of the product.
        angles: (…, len(axes)) radians.

    Returns:
        (…, 3, 3) for column vectors.
    """
    result = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for number, axis in enumerate(axes):
        result = result @ axis_rotation(axis, angles[..., number])
    return result

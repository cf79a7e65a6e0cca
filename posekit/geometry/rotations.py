"""Rotations in three dimensions. Functions take torch tensors or numpy arrays of any leading shape."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posekit.arrays import Float32, Float64

ArrayT = TypeVar("ArrayT", Tensor, Float32, Float64)

# Below this squared angle (rad^2) the series is more exact than the quotient, in float32 as in float64.
_SMALL = 1e-6


def _namespace(array: Tensor | NDArray[Any]) -> Any:
    return torch if isinstance(array, Tensor) else np


def axis_angle_to_matrix(axis_angle: ArrayT) -> ArrayT:
    """Turns rotation vectors into matrices by Rodrigues' formula; the gradient is finite everywhere.

    Args:
        axis_angle: (…, 3), radians times the unit axis.

    Returns:
        (…, 3, 3) matrices that act on column vectors.
    """
    xp = _namespace(axis_angle)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    squared = x * x + y * y + z * z
    small = squared < _SMALL
    angle = xp.sqrt(xp.where(small, xp.ones_like(squared), squared))
    sine = xp.where(small, 1 - squared / 6, xp.sin(angle) / angle)
    half = xp.sin(angle / 2) / angle
    versine = xp.where(small, 0.5 - squared / 24, 2 * half * half)
    sx, sy, sz = sine * x, sine * y, sine * z
    vxy, vxz, vyz = versine * x * y, versine * x * z, versine * y * z
    vxx, vyy, vzz = versine * x * x, versine * y * y, versine * z * z
    rows = [
        xp.stack([1 - vyy - vzz, vxy - sz, vxz + sy], -1),
        xp.stack([vxy + sz, 1 - vxx - vzz, vyz - sx], -1),
        xp.stack([vxz - sy, vyz + sx, 1 - vxx - vyy], -1),
    ]
    return xp.stack(rows, -2)


def matrix_to_axis_angle(matrix: ArrayT) -> ArrayT:
    """Turns rotation matrices into rotation vectors of an angle in [0, pi].

    It goes by way of the quaternion whose largest component is divided by (Shepperd's method), which stays exact
    near half turns, where the trace formula loses all digits.

    Args:
        matrix: (…, 3, 3) rotation matrices.

    Returns:
        (…, 3) radians times the unit axis.
    """
    xp = _namespace(matrix)
    quaternion = _unscaled_quaternion(matrix)
    w, vector = quaternion[..., 0], quaternion[..., 1:]
    squared = (vector * vector).sum(-1)
    # The candidates are not unit quaternions; atan2 and the quotient below do not mind the common factor.
    small = squared < _SMALL * 1e-6 * w * w
    norm = xp.sqrt(xp.where(small, xp.ones_like(squared), squared))
    scale = xp.where(small, 2 / xp.where(small, w, xp.ones_like(w)), 2 * xp.arctan2(norm, w) / norm)
    return vector * scale[..., None]


def matrix_to_quaternion(matrix: ArrayT) -> ArrayT:
    """Turns rotation matrices (…, 3, 3) into unit quaternions (…, 4) as w, x, y, z with w at least 0."""
    xp = _namespace(matrix)
    quaternion = _unscaled_quaternion(matrix)
    return quaternion / xp.sqrt((quaternion * quaternion).sum(-1))[..., None]


def quaternion_to_matrix(quaternion: ArrayT) -> ArrayT:
    """Turns quaternions (…, 4) as w, x, y, z of any length into rotation matrices (…, 3, 3).

    The zero quaternion gives the identity, with a gradient of zero.
    """
    xp = _namespace(quaternion)
    w, x, y, z = (quaternion[..., k] for k in range(4))
    squared = w * w + x * x + y * y + z * z
    zero = squared == 0
    double = xp.where(zero, xp.zeros_like(squared), 2 / xp.where(zero, xp.ones_like(squared), squared))
    wx, wy, wz = double * w * x, double * w * y, double * w * z
    xx, yy, zz = double * x * x, double * y * y, double * z * z
    xy, xz, yz = double * x * y, double * x * z, double * y * z
    rows = [
        xp.stack([1 - yy - zz, xy - wz, xz + wy], -1),
        xp.stack([xy + wz, 1 - xx - zz, yz - wx], -1),
        xp.stack([xz - wy, yz + wx, 1 - xx - yy], -1),
    ]
    return xp.stack(rows, -2)


def _unscaled_quaternion(matrix: ArrayT) -> ArrayT:
    """Returns w, x, y, z (…, 4) times a positive factor, w at least 0; a zero matrix counts as the identity."""
    xp = _namespace(matrix)
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    squares = xp.stack(
        [
            1 + m[0][0] + m[1][1] + m[2][2],
            1 + m[0][0] - m[1][1] - m[2][2],
            1 - m[0][0] + m[1][1] - m[2][2],
            1 - m[0][0] - m[1][1] + m[2][2],
        ],
        -1,
    )
    wx, wy, wz = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    candidates = xp.stack(
        [
            xp.stack([squares[..., 0], wx, wy, wz], -1),
            xp.stack([wx, squares[..., 1], xy, xz], -1),
            xp.stack([wy, xy, squares[..., 2], yz], -1),
            xp.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    largest = xp.argmax(squares, -1)
    quaternion = xp.zeros_like(candidates[..., 0, :])
    for row in range(4):
        quaternion = xp.where((largest == row)[..., None], candidates[..., row, :], quaternion)
    return xp.where(quaternion[..., :1] < 0, -quaternion, quaternion)

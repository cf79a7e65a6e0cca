"""Procrustes alignment of many poses at once: the similarity transform that brings one point set closest to another.

Source of the problem and its solution: Umeyama, "Least-squares estimation of transformation parameters between two
point patterns", PAMI 1991. Calling LAPACK's singular value decomposition once per pose costs more than everything
else, so the rotations of all poses are found together: in closed form from the invariants of the covariance where the
solution is well determined, and by one-sided Jacobi rotations (which are exact for every matrix) for the rest.

The arithmetic is numpy's in float64 on the CPU, which needs no thread start per operation; tensors go in and come out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Bool, Float64

_SWEEPS = 12  # five are enough for random matrices; convergence is quadratic
_TINY = 1e-300
_PART = 2048  # poses whose temporary arrays fit the cache


class Similarity(NamedTuple):
    """``x -> scale * rotation @ x + translation``; leading shape (...), float64."""

    rotation: Tensor  # (..., 3, 3), determinant +1
    scale: Tensor  # (...)
    translation: Tensor  # (..., 3)

    def __call__(self, points: Tensor) -> Tensor:
        """Transforms points (..., J, 3)."""
        scaled = self.rotation.mT * self.scale[..., None, None]
        return points.to(scaled) @ scaled + self.translation[..., None, :]


def procrustes(points: Tensor, target: Tensor, weight: Tensor | None = None, scale: bool = True) -> Similarity:
    """Finds the similarity transform of ``points`` with the least squared distance from ``target``.

    Reflections are excluded: a mirrored pose keeps an error. Meant for metrics: no gradient flows.

    Degenerate input has a defined result. Where the best rotation is not unique (both sets on a line, or one point),
    one of the best is taken: the error is unique though. Points that all coincide get scale 0, so they land on the
    target's centroid. Without any weight the transform is the identity.

    Args:
        points: (..., J, 3).
        target: (..., J, 3), same unit and leading shape.
        weight: (..., J) of each point, at least 0, or None for equal weights.
        scale: Fit the scale as well; otherwise it is 1.

    Returns:
        The transform, float64, on the device of ``points``.

    >>> pose = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    >>> turned = pose[:, [1, 2, 0]] * 2 + 5
    >>> (procrustes(pose, turned)(pose) - turned).abs().max().item() < 1e-12
    True
    """
    result = _procrustes(_array(points), _array(target), None if weight is None else _array(weight), scale)
    return Similarity(*(torch.from_numpy(np.asarray(part)).to(points.device) for part in result))


def procrustes_align(points: Tensor, target: Tensor, weight: Tensor | None = None, scale: bool = True) -> Tensor:
    """Returns ``points`` (..., J, 3) brought as close as possible to ``target``; see :func:`procrustes`. Float64."""
    x, y = _array(points), _array(target)
    aligned = np.empty(x.shape)
    for rows, part in _aligned(x, y, weight, scale):
        aligned.reshape(-1, *x.shape[-2:])[rows] = part
    return torch.from_numpy(aligned).to(points.device)


def procrustes_distances(
    points: Tensor, target: Tensor, weight: Tensor | None = None, scale: bool = True, unit: float = 1.0
) -> Tensor:
    """Returns the distances (..., J), times ``unit``, that remain after :func:`procrustes_align`. Float64."""
    x, y = _array(points), _array(target)
    distances = np.empty(x.shape[:-1])
    flat = y.reshape(-1, *y.shape[-2:])
    for rows, part in _aligned(x, y, weight, scale):
        part -= flat[rows]
        distances.reshape(-1, x.shape[-2])[rows] = unit * np.sqrt(np.einsum("njc,njc->nj", part, part))
    return torch.from_numpy(distances).to(points.device)


def _aligned(x: Float64, y: Float64, weight: Tensor | None, scale: bool) -> Iterator[tuple[slice, Float64]]:
    """Aligns part by part, so that temporary arrays stay in the cache; yields rows (of flattened poses) and poses."""
    lead, joints = x.shape[:-2], x.shape[-2]
    poses = int(np.prod(lead))
    x, y = x.reshape(poses, joints, 3), y.reshape(poses, joints, 3)
    w = None
    if weight is not None:
        w = np.broadcast_to(_array(weight), (*lead, joints)).reshape(poses, joints)
    for start in range(0, poses, _PART):
        rows = slice(start, start + _PART)
        rotation, size, translation = _procrustes(x[rows], y[rows], None if w is None else w[rows], scale)
        aligned = x[rows] @ (rotation.swapaxes(-1, -2) * size[..., None, None])
        aligned += translation[..., None, :]
        yield rows, aligned


def best_rotation(covariance: Tensor) -> Tensor:
    """Returns the rotation R (..., 3, 3) with the largest trace of ``R @ covariance``; determinant +1, float64.

    Args:
        covariance: (..., 3, 3) sums of ``x y^T`` where R is to turn x into y.
    """
    return torch.from_numpy(_best_rotation(_array(covariance))).to(covariance.device)


def _array(value: Tensor) -> Float64:
    return value.detach().to("cpu", torch.float64).numpy()


def _procrustes(x: Float64, y: Float64, weight: Float64 | None, fit_scale: bool) -> tuple[Float64, Float64, Float64]:
    if weight is None:
        share = np.full(x.shape[-2], 1.0 / max(x.shape[-2], 1))
    else:
        total = weight.sum(-1, keepdims=True)
        share = weight / np.maximum(total, _TINY)
        used = share[..., None] > 0
        x, y = np.where(used, x, 0.0), np.where(used, y, 0.0)  # NaN of unlabelled joints must not spread
    centre, middle = ((share[..., None, :] @ v)[..., 0, :] for v in (x, y))
    x, y = x - centre[..., None, :], y - middle[..., None, :]
    weighted = x if weight is None else x * share[..., None]
    covariance = weighted.swapaxes(-1, -2) @ y  # (..., 3, 3), sum of x y^T
    rotation = _best_rotation(covariance)
    size = np.ones(rotation.shape[:-2])
    if fit_scale:
        variance = np.einsum("...jc,...jc->...", weighted, x)
        gain = np.einsum("...ij,...ji->...", rotation, covariance)
        size = np.where(variance > 0, gain / np.maximum(variance, _TINY), 0.0)
    if weight is not None:
        size = np.where(total[..., 0] > 0, size, 1.0)
    return rotation, size, middle - size[..., None] * np.einsum("...ij,...j->...i", rotation, centre)


def _best_rotation(covariance: Float64) -> Float64:
    """Closed form where it is well conditioned, Jacobi elsewhere."""
    flat = covariance.reshape(-1, 3, 3)
    k = np.ascontiguousarray(flat.transpose(1, 2, 0))  # one matrix entry of all poses after the other: (3, 3, N)
    k = k / np.maximum(np.abs(k).max((0, 1)), _TINY)
    rotation, sure = _closed_form(k)
    rest = np.flatnonzero(~sure)
    if len(rest):
        rotation[:, :, rest] = _by_jacobi(k[:, :, rest])
    return np.ascontiguousarray(rotation.transpose(2, 0, 1)).reshape(covariance.shape)


def _cofactors(k: Float64) -> Float64:
    rows = [np.cross(k[1], k[2], axis=0), np.cross(k[2], k[0], axis=0), np.cross(k[0], k[1], axis=0)]
    return np.stack(rows)


def _closed_form(k: Float64) -> tuple[Float64, Bool]:
    """Rotation from invariants, and where it can be trusted to about 1e-13.

    With ``k = U diag(s1, s2, s3) V^T``, U and V rotations and s3 signed, ``U V^T`` is a combination of k, its cofactors
    and k k^T k; the coefficients follow from the Cayley-Hamilton theorem and i1 = s1 + s2 + s3. That sum is the largest
    root of a quartic (Horn 1987), found by Newton's method from above. It fails where s2 + s3 vanishes.
    """
    cofactor = _cofactors(k)
    square = (k * k).sum((0, 1))
    minors = (cofactor * cofactor).sum((0, 1))
    i3 = (k[0] * cofactor[0]).sum(0)
    constant = square * square - 4 * minors
    i1 = np.sqrt(3 * square)
    for _ in range(30):
        i1_square = i1 * i1
        slope = 4 * i1 * (i1_square - square) - 8 * i3
        step = ((i1_square - 2 * square) * i1_square - 8 * i3 * i1 + constant) / np.where(slope > 0, slope, np.inf)
        i1 = i1 - step
        if np.abs(step).max(initial=0.0) < 1e-14:  # roots that are nearly double converge slowly: they are not trusted
            break
    i2 = (i1 * i1 - square) / 2
    gaps = i1 * i2 - i3  # (s1 + s2)(s2 + s3)(s1 + s3)
    sure = gaps > 1e-2 * i1**3
    gram = np.einsum("jin,jkn->ikn", k, k)
    cubic = np.einsum("ijn,jkn->ikn", k, gram)
    turned = ((i1 * i1 - i2) * k + i1 * cofactor - cubic) / np.where(sure, gaps, 1.0)
    rotation: Float64 = turned.transpose(1, 0, 2)
    return rotation.copy(), sure


def _by_jacobi(k: Float64) -> Float64:
    """Rotation from a full decomposition by one-sided Jacobi rotations; correct for every matrix.

    The third axes are cross products of the first two, which picks the sign of s3 and needs no care where it is 0.
    """
    left, right = _orthogonalised(k)
    length = (left * left).sum(1)  # squared singular values (3, N)
    order = np.argsort(-length, axis=0, kind="stable")[:2, None]
    u, v = np.take_along_axis(left, order, 0), np.take_along_axis(right, order, 0)
    norm = np.sqrt((u * u).sum(1))
    none, line = norm[0] <= 0, norm[1] <= 1e-13 * norm[0]
    u1 = np.where(none, v[0], u[0] / np.maximum(norm[0], _TINY))
    second = np.where(line, _perpendicular(u1), u[1] / np.maximum(norm[1], _TINY))
    second = second - (second * u1).sum(0) * u1
    u2 = np.where(none, v[1], second / np.sqrt((second * second).sum(0)))
    u3, v3 = np.cross(u1, u2, axis=0), np.cross(v[0], v[1], axis=0)
    rotation: Float64 = v[0][:, None] * u1 + v[1][:, None] * u2 + v3[:, None] * u3
    return rotation


def _orthogonalised(k: Float64) -> tuple[Float64, Float64]:
    """Turns the columns of matrices (3, 3, N) until they are orthogonal.

    Returns:
        The columns of ``k @ V`` and of the rotation V, each (3 columns, 3, N).
    """
    eye = np.broadcast_to(np.eye(3)[:, :, None], k.shape)
    both = [np.concatenate([k[:, i], eye[:, i]]) for i in range(3)]  # a column of k, and below it that of V
    for _ in range(_SWEEPS):
        worst = 0.0
        for p, q in ((0, 1), (0, 2), (1, 2)):
            a, b = both[p], both[q]
            aa, bb, ab = ((m[:3] * n[:3]).sum(0) for m, n in ((a, a), (b, b), (a, b)))
            bent = ab * ab / np.maximum(aa * bb, _TINY)  # squared cosine of the angle between the columns
            worst = max(worst, float(np.nan_to_num(bent).max(initial=0.0)))  # a NaN pose ends no other one's sweeps
            turn = bent > 1e-32
            zeta = (bb - aa) / np.where(turn, 2 * ab, 1.0)
            tangent = np.where(turn, np.copysign(1 / (np.abs(zeta) + np.hypot(1, zeta)), zeta), 0.0)
            cosine = 1 / np.sqrt(1 + tangent * tangent)
            sine = cosine * tangent
            both[p], both[q] = cosine * a - sine * b, sine * a + cosine * b
        if worst < 1e-20:  # the next sweep would be below the rounding
            break
    columns = np.stack(both)
    return columns[:, :3], columns[:, 3:]


def _perpendicular(axis: Float64) -> Float64:
    """Returns unit vectors (3, N) perpendicular to unit vectors (3, N)."""
    helper = np.eye(3)[np.abs(axis).argmin(0)].T
    result: Any = np.cross(axis, helper, axis=0)
    return result / np.maximum(np.sqrt((result * result).sum(0)), _TINY)

"""Procrustes alignment of many poses at once: the similarity transform that brings one point set closest to another.

Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991. The 3 x 3
singular value decompositions are done by one-sided Jacobi rotations on all poses together (de Rijk 1989), because LAPACK,
called once per pose, costs more than everything else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SWEEPS = 12  # five are enough for random poses; convergence is quadratic


class Similarity(NamedTuple):
    """``x -> scale * rotation @ x + translation``; leading shape (...)."""

    rotation: Tensor  # (..., 3, 3), determinant +1
    scale: Tensor  # (...)
    translation: Tensor  # (..., 3)

    def __call__(self, points: Tensor) -> Tensor:
        """Transforms points (..., J, 3)."""
        turned = points @ self.rotation.mT
        return self.scale[..., None, None] * turned + self.translation[..., None, :]


def procrustes(points: Tensor, target: Tensor, weight: Tensor | None = None, scale: bool = True) -> Similarity:
    """Finds the similarity transform of ``points`` with the least squared distance from ``target``.

    Reflections are excluded: a mirrored pose keeps an error. Meant for metrics: no gradient flows.

    Degenerate input has a defined result. Where the best rotation is not unique (both sets on a line, or one point), one
    of the best is taken: the error is unique though. Points that all coincide get scale 0, so they land on the target's
    centroid. Without any weight the transform is the identity.

    Args:
        points: (..., J, 3).
        target: (..., J, 3), same unit.
        weight: (..., J) of each point, or None for equal weights.
        scale: Fit the scale as well; otherwise it is 1.

    Returns:
        The transform, float64.

    >>> pose = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    >>> turned = pose[:, [1, 2, 0]] * 2 + 5
    >>> (procrustes(pose, turned)(pose) - turned).abs().max().item() < 1e-12
    True
    """
    points, target = torch.broadcast_tensors(points.detach().double(), target.detach().double())
    if weight is None:
        centre, middle = points.mean(-2), target.mean(-2)
        x, y = points - centre[..., None, :], target - middle[..., None, :]
        weighted = x
    else:
        w = weight.detach().double()
        w = w / w.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        used = w[..., None] > 0
        points, target = points.where(used, 0.0), target.where(used, 0.0)  # NaN of unlabelled joints must not spread
        centre, middle = (w[..., None] * points).sum(-2), (w[..., None] * target).sum(-2)
        x, y = points - centre[..., None, :], target - middle[..., None, :]
        weighted = x * w[..., None]
    covariance = weighted.mT @ y  # (..., 3, 3), sum of x y^T
    rotation = best_rotation(covariance)
    if scale:
        variance = (weighted * x).sum((-1, -2))
        gain = (rotation * covariance.mT).sum((-1, -2))
        size = torch.where(variance > 0, gain / variance, 0.0)
    else:
        size = torch.ones_like(rotation[..., 0, 0])
    if weight is not None:
        size = torch.where(weight.sum(-1) > 0, size, 1.0)
    moved = middle - size[..., None] * (rotation * centre[..., None, :]).sum(-1)
    return Similarity(rotation, size, moved)


def procrustes_align(points: Tensor, target: Tensor, weight: Tensor | None = None, scale: bool = True) -> Tensor:
    """Returns ``points`` (..., J, 3) brought as close as possible to ``target``; see :func:`procrustes`. Float64."""
    return procrustes(points, target, weight, scale)(points.detach().double())


def best_rotation(covariance: Tensor) -> Tensor:
    """Returns the rotation R (..., 3, 3) with the largest trace of ``R @ covariance``, determinant +1.

    With the decomposition ``covariance = U S V^T`` it is ``V diag(1, 1, +-1) U^T``. The third axes are taken as cross
    products of the first two, which picks the sign and needs no care for singular values of 0.

    Args:
        covariance: (..., 3, 3) sums of ``x y^T`` where R is to turn x into y.
    """
    shape = covariance.shape
    flat = covariance.reshape(-1, 3, 3)
    flat = flat / flat.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    left, right = _orthogonalised(flat)
    length = torch.stack([(c * c).sum(0) for c in left])  # squared singular values (3, N)
    order = torch.argsort(length, dim=0, descending=True, stable=True)[:2, None].expand(2, 3, -1)
    u, v = torch.stack(left).gather(0, order), torch.stack(right).gather(0, order)
    norm = u.square().sum(1).sqrt()  # (2, N)
    zero, line = norm[0] <= 0, norm[1] <= 1e-13 * norm[0]
    u1 = torch.where(zero, v[0], u[0] / norm[0].clamp(min=1e-300))
    second = torch.where(line, _perpendicular(u1), u[1] / norm[1].clamp(min=1e-300))
    second = second - (second * u1).sum(0) * u1
    u2 = torch.where(zero, v[1], second / second.square().sum(0).sqrt())
    u3, v3 = torch.linalg.cross(u1, u2, dim=0), torch.linalg.cross(v[0], v[1], dim=0)
    rotation = v[0][:, None] * u1 + v[1][:, None] * u2 + v3[:, None] * u3  # (3, 3, N)
    return rotation.permute(2, 0, 1).reshape(shape)


def _orthogonalised(matrix: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Turns the columns of (N, 3, 3) matrices until they are orthogonal: one-sided Jacobi.

    Returns:
        The three columns of ``matrix @ V`` and of the rotation V, each (3, N).
    """
    columns = list(matrix.permute(2, 1, 0).contiguous())
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    basis = [eye[i][:, None].expand(3, len(matrix)) for i in range(3)]
    for _ in range(_SWEEPS):
        worst = 0.0
        for p, q in ((0, 1), (0, 2), (1, 2)):
            a, b = columns[p], columns[q]
            aa, bb, ab = (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)
            bent = (ab * ab) / (aa * bb).clamp(min=1e-300)  # squared cosine of the angle between the columns
            worst = max(worst, float(bent.amax()) if bent.numel() else 0.0)
            zeta = (bb - aa) / (2 * ab)
            tangent = torch.copysign((zeta.abs() + (1 + zeta * zeta).sqrt()).reciprocal(), zeta)
            tangent = tangent.where(bent > 1e-32, 0.0)
            cosine = (1 + tangent * tangent).rsqrt()
            sine = cosine * tangent
            columns[p], columns[q] = cosine * a - sine * b, sine * a + cosine * b
            basis[p], basis[q] = cosine * basis[p] - sine * basis[q], sine * basis[p] + cosine * basis[q]
        if worst < 1e-20:  # convergence is quadratic: the next sweep would be below the rounding
            break
    return columns, basis


def _perpendicular(axis: Tensor) -> Tensor:
    """Returns a unit vector (3, N) perpendicular to unit vectors (3, N)."""
    smallest = axis.abs().argmin(0)
    helper = torch.nn.functional.one_hot(smallest, 3).to(axis.dtype).T
    result = torch.linalg.cross(axis, helper, dim=0)
    return result / result.square().sum(0).sqrt().clamp(min=1e-300)

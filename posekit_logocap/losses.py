"""The training losses: dense heads, attraction maps and refined maps (method page, section 8).

Everything up to the message passing runs over (B, T) initial poses of all pictures at once. Squared distances split
into the two axes, so the OKS of all mesh points is an outer product of two short vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.nn.precision import full_precision, precise
from posekit_logocap.targets import DenseTargets, Persons

OFFSET_BETA = 1 / 9
TARGET_SIGMA = 4.0  # px, of the Gaussian that a refined map shall become


class Assignment(NamedTuple):
    """The person that each initial pose shall become, and how well its mesh covers that person."""

    person: Tensor  # (B, T) int64
    oks: Tensor  # (B, T) the best OKS of the person's joints moved together over the mesh
    along_x: Tensor  # (B, T, K, P) factor of the OKS of each joint by the mesh's column
    along_y: Tensor  # (B, T, K, P) by its row


class LossTerms(NamedTuple):
    """The four losses, times their factors."""

    heatmaps: Tensor
    offsets: Tensor
    attraction: Tensor
    refined: Tensor

    def total(self) -> Tensor:
        """Returns their sum."""
        return self.heatmaps + self.offsets + self.attraction + self.refined


def heatmap_loss(prediction: Tensor, targets: DenseTargets, mask: Tensor) -> Tensor:
    """Weighted mean squared error over (B, K + 1, h, w).

    Args:
        prediction: Raw heatmaps.
        targets: With the weight map.
        mask: (B, 1, h, w), 0 where nothing counts.
    """
    return (targets.heatmap_weight * mask * (precise(prediction) - targets.heatmaps).square()).mean()


def offset_loss(prediction: Tensor, targets: DenseTargets) -> Tensor:
    """Smooth L1 of the offsets, summed and divided by the number of weighted values."""
    weight = targets.offset_weight
    loss = F.smooth_l1_loss(precise(prediction), targets.offsets, reduction="none", beta=OFFSET_BETA)
    return (loss * weight).sum() / (weight > 0).sum().clamp(min=1)


def assign(mesh: Tensor, persons: Persons, sigmas: Tensor) -> Assignment:
    """Finds the person of each initial pose.

    Args:
        mesh: (B, T, K, 2, P) px along x and along y.
        persons: With G rows.
        sigmas: (K,) OKS deviations.
    """
    along_x, along_y = oks_factors(mesh, persons, sigmas)
    labelled = persons.visible.sum(-1).clamp(min=1)[:, None]  # (B, 1, G)
    best = (along_x.amax(-1) * along_y.amax(-1)).sum(-1) / labelled
    person = best.argmax(-1)  # (B, T)
    rows = person[:, :, None, None, None].expand(-1, -1, 1, *along_x.shape[3:])
    own_x, own_y = along_x.gather(2, rows)[:, :, 0], along_y.gather(2, rows)[:, :, 0]
    with full_precision(mesh):  # autocast would round the OKS, and so choose other poses
        together = torch.einsum("btky,btkx->btyx", own_y, own_x)
    oks = together.flatten(2).amax(-1) / labelled.expand(-1, person.shape[1], -1).gather(2, person[..., None])[..., 0]
    return Assignment(person, oks, own_x, own_y)


def oks_factors(mesh: Tensor, persons: Persons, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the OKS of each mesh point with each person's joint as two factors, each (B, T, G, K, P).

    The OKS of row y and column x is ``along_y[..., y] * along_x[..., x]``; it is 0 for joints without label.
    """
    variance = 2 * (2 * sigmas) ** 2 * persons.area[..., None]
    variance = variance.clamp(min=1e-6)[:, None, :, :, None]
    factors = []
    for axis in (0, 1):
        points = persons.keypoints[:, None, :, :, axis, None]
        factors.append(torch.exp(-((mesh[:, :, None, :, axis] - points) ** 2) / variance))
    return factors[0] * persons.visible[:, None, :, :, None], factors[1]


def select(assignment: Assignment, threshold: float) -> tuple[Tensor, Tensor]:
    """Returns which poses are trained on, (B, T) bool each: those kept, and those of them that count.

    A picture without a pose of enough OKS keeps its first one, which does not count, so that every parameter has a
    gradient.
    """
    counts = assignment.oks >= threshold
    first = torch.arange(counts.shape[1], device=counts.device) == 0
    return counts | (first & ~counts.any(1, keepdim=True)), counts


def attraction_target(assignment: Assignment, kept: tuple[Tensor, Tensor]) -> Tensor:
    """Returns the OKS of all mesh points (N, K, P, P) of the kept poses."""
    return assignment.along_y[kept][..., :, None] * assignment.along_x[kept][..., None, :]


def joint_weight(target: Tensor, counts: Tensor) -> Tensor:
    """Returns each joint's weight (N, K): what moving within the mesh can gain, 0 for poses that do not count."""
    middle = target.shape[-1] // 2
    return (target.flatten(2).amax(-1) - target[..., middle, middle]) * counts[:, None]


def attraction_loss(prediction: Tensor, target: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Weighted squared error of attraction maps (N, K, P, P), mean by pose, summed, divided by the counted poses."""
    error = (weight[..., None, None] * (precise(prediction) - target).square()).flatten(1).mean(1)
    return error.sum() / counts.sum().clamp(min=1)


def refined_target(points: Tensor, poses: Tensor, pixels: Tensor) -> Tensor:
    """Returns Gaussians (N, K, S, S) around the labelled joints on the windows around the initial ones.

    Args:
        points: (N, K, 2) labelled joints, input px.
        poses: (N, K, 2) initial joints, input px.
        pixels: (S,) steps of the window.
    """
    apart = poses[..., None] + pixels - points[..., None]  # (N, K, 2, S)
    bell = torch.exp(-apart.square() / (2 * TARGET_SIGMA**2))
    return bell[:, :, 1, :, None] * bell[:, :, 0, None, :]


def refined_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted squared error of refined maps (N, K, S, S), mean over all kept poses."""
    return (weight[..., None, None] * (precise(prediction) - target).square()).mean()

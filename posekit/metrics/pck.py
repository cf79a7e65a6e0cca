"""Share of correct keypoints: PCK and PCKh in the picture, PCK3D and AUC in space. All in per cent.

Rules of PCKh: Andriluka et al., CVPR 2014, and the published MPII evaluation (a joint counts when its distance is at
most the threshold times 0.6 of the head box's diagonal; pelvis and thorax are left out of the mean). Rules of PCK3D:
Mehta et al., "Monocular 3D Human Pose Estimation in the Wild", 3DV 2017, and its evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Float64
from posekit.metrics.joint_rows import JointMetric, Root, weighted_mean
from posekit.metrics.mpjpe import joint_errors

HEAD_SHARE = 0.6  # MPII's head boxes are larger than heads
PCK_THRESHOLD = 150.0  # mm, of MPI-INF-3DHP; an error equal to it does not count
AUC_THRESHOLDS: Float64 = np.arange(0, 151, 5, dtype=np.float64)  # mm, 31 of them, 0 included

MPII_COLUMNS = {
    "Head": (9,), "Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15), "Hip": (2, 3), "Knee": (1, 4),
    "Ankle": (0, 5),
}  # fmt: skip
MPII_LEFT_OUT = (6, 7)  # pelvis and thorax


def relative_distances(pred: Tensor, target: Tensor, size: Tensor) -> Tensor:
    """Returns distances of joints (..., J, 2) divided by a reference size (...), float64.

    A size that is not positive gives infinity: no threshold is met.
    """
    if pred.shape != target.shape:
        raise ValueError(f"prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
    distance = torch.linalg.vector_norm(pred.double() - target.double(), dim=-1)
    reference = size.to(distance)[..., None]
    return torch.where(reference > 0, distance / reference, float("inf"))


def pck(pred: Tensor, target: Tensor, size: Tensor, threshold: float = 0.2) -> Tensor:
    """Tells which joints are correct: distance at most ``threshold`` times the reference size.

    Args:
        pred: (..., J, 2) px.
        target: (..., J, 2) px.
        size: (...) px, for example the longer side of the person's box, or the torso's length.
        threshold: Share of the size.

    Returns:
        (..., J) bool.

    >>> pck(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), torch.tensor(10.0), 0.5).tolist()
    [True]
    """
    return relative_distances(pred, target, size) <= threshold


def head_sizes(boxes: Tensor) -> Tensor:
    """Returns 0.6 of the diagonal (...) of head boxes (..., 4) given as two corners x1, y1, x2, y2."""
    return HEAD_SHARE * torch.linalg.vector_norm(boxes[..., 2:].double() - boxes[..., :2].double(), dim=-1)


def pckh(pred: Tensor, target: Tensor, head_boxes: Tensor, threshold: float = 0.5) -> Tensor:
    """Tells which joints (..., J) are within ``threshold`` head sizes; see :func:`pck` and :func:`head_sizes`."""
    return pck(pred, target, head_sizes(head_boxes), threshold)


def pck3d(pred: Tensor, target: Tensor, threshold: float = PCK_THRESHOLD, root: Root = None) -> Tensor:
    """Tells which joints (..., J) of poses in metres are *closer* than ``threshold`` mm (strictly), after centring."""
    return joint_errors(pred, target, root) < threshold


def pck_and_auc(errors: Float64, weights: Float64, threshold: float = PCK_THRESHOLD) -> tuple[float, float]:
    """Returns MPI-INF-3DHP's PCK and AUC in per cent, pooled over all labelled joints; NaN without any.

    Args:
        errors: (N, J) mm.
        weights: (N, J), 0 where unlabelled.
        threshold: mm, of PCK; strict.
    """
    limits = (threshold, *AUC_THRESHOLDS)
    first, *shares = (weighted_mean((errors < limit).astype(np.float64), weights) for limit in limits)
    return 100.0 * first, 100.0 * float(np.mean(shares))


class PCK(JointMetric):
    """Share of joints in per cent whose distance is at most ``threshold`` times a reference size.

    The result is the share over all labelled joints. Boundary: a distance equal to the limit counts.

    Args:
        threshold: Share of the reference size.
        kwargs: See :class:`~posekit.metrics.joint_rows.JointMetric`.
    """

    label = "PCK"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, threshold: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        size: Tensor,
        weight: Tensor | None = None,
        sample_ids: Tensor | None = None,
    ) -> None:
        """Adds poses (..., J, 2) px with reference sizes (...) px, weights (..., J) or None, and sample ids (...)."""
        self.add_poses(relative_distances(pred, target, size), weight, sample_ids)

    def reduce(self, values: Float64, weights: Float64) -> float:
        """Returns the share in per cent within the threshold."""
        return 100.0 * weighted_mean((values <= self.threshold).astype(np.float64), weights)


class PCKh(PCK):
    """MPII's measure: PCK with 0.6 of the head box's diagonal as reference size, in per cent.

    ``compute()`` gives ``PCKh`` (mean at the first threshold), one ``PCKh@t`` for each further threshold, and at the
    first one the columns Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle (mean of left and right). The mean weighs
    joints by how often they are labelled and leaves pelvis and thorax out. A column without labelled joints is NaN.

    HRNet's evaluation code prints the value at 0.11 under the name Mean@0.1: ``thresholds=(0.5, 0.11)`` repeats it.

    Args:
        thresholds: Shares of the head size.
        columns: Joints of each column; by default for MPII's 16 joints.
        left_out: Joints left out of the mean.
        kwargs: See :class:`~posekit.metrics.joint_rows.JointMetric`.
    """

    label = "PCKh"

    def __init__(
        self,
        thresholds: Sequence[float] = (0.5, 0.1),
        columns: dict[str, Sequence[int]] | None = None,
        left_out: Sequence[int] = MPII_LEFT_OUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(threshold=thresholds[0], **kwargs)
        self.thresholds = tuple(float(t) for t in thresholds)
        self.columns = {name: tuple(members) for name, members in (columns or MPII_COLUMNS).items()}
        self.left_out = tuple(left_out)

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        head_boxes: Tensor,
        weight: Tensor | None = None,
        sample_ids: Tensor | None = None,
    ) -> None:
        """Adds poses.

        Args:
            pred: (..., J, 2) px.
            target: (..., J, 2) px.
            head_boxes: (..., 4) corners x1, y1, x2, y2 px, as annotated.
            weight: (..., J), 0 where unlabelled; None: all labelled.
            sample_ids: (...) unique per pose.
        """
        super().update(pred, target, head_sizes(head_boxes), weight, sample_ids)

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        more = [f"{self.label}@{t:g}" for t in self.thresholds[1:]]
        return [self.label, *more, *self.columns, *self.joints, *self.groups]

    def values(self) -> dict[str, float]:
        """Computes the means, the columns and the breakdowns."""
        values, weights = self.collected()
        if not len(values):
            return dict.fromkeys(self.names(), float("nan"))
        kept = np.setdiff1d(np.arange(values.shape[1]), self.left_out)
        result = {**super().values(), self.label: self.reduce(values[:, kept], weights[:, kept])}
        for t in self.thresholds[1:]:
            within = (values[:, kept] <= t).astype(np.float64)
            result[f"{self.label}@{t:g}"] = 100.0 * weighted_mean(within, weights[:, kept])
        for name, members in self.columns.items():
            result[name] = float(np.mean([self.reduce(values[:, j], weights[:, j]) for j in members]))
        return result


class PCK3D(JointMetric):
    """MPI-INF-3DHP's measure: share of joints closer than 150 mm (strictly), and its AUC, in per cent.

    ``compute()`` gives ``PCK`` and ``AUC``, the mean share over the 31 thresholds 0, 5, ..., 150 mm; both are pooled
    over all labelled joints. Choose the protocol's 14 joints by the weights or by what is passed.

    Args:
        threshold: mm; a distance equal to it does not count.
        root: Joint, or joints whose midpoint, both poses are centred on, whatever their weights; None: not at all.
        kwargs: See :class:`~posekit.metrics.joint_rows.JointMetric` (the breakdowns are of PCK).

    >>> metric = PCK3D()
    >>> metric.update(torch.tensor([[[0.15, 0, 0], [0.1, 0, 0]]], dtype=torch.float64), torch.zeros(1, 2, 3))
    >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
    {'PCK': 50.0, 'AUC': 16.129}
    """

    label = "PCK"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, threshold: float = PCK_THRESHOLD, root: Root = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        self.root = root

    def update(
        self, pred: Tensor, target: Tensor, weight: Tensor | None = None, sample_ids: Tensor | None = None
    ) -> None:
        """Adds poses (..., J, 3) in metres, weights (..., J) or None, and sample ids (...) or None."""
        self.add_poses(joint_errors(pred, target, self.root), weight, sample_ids)

    def reduce(self, values: Float64, weights: Float64) -> float:
        """Returns the share in per cent below the threshold."""
        return 100.0 * weighted_mean((values < self.threshold).astype(np.float64), weights)

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        return [self.label, "AUC", *self.joints, *self.groups]

    def values(self) -> dict[str, float]:
        """Computes PCK, AUC and the breakdowns."""
        _, auc = pck_and_auc(*self.collected(), self.threshold)
        return {**super().values(), "AUC": auc}

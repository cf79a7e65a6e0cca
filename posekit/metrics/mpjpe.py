"""3D errors in millimetres: MPJPE, its aligned forms, the per-vertex error, and acceleration.

Points are metres in, errors are millimetres out. Protocols: Ionescu et al., "Human3.6M", PAMI 2014 (MPJPE); Procrustes
alignment with scale, reflections excluded (PA-MPJPE); scale only (N-MPJPE, Rhodin et al., CVPR 2018); acceleration as
in Kanazawa et al., "Learning 3D Human Dynamics from Video", CVPR 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posekit.geometry.procrustes import procrustes_distances
from posekit.metrics.joint_rows import JointMetric, Root, centred, rooted

MM = 1000.0


def joint_errors(pred: Tensor, target: Tensor, root: Root = None) -> Tensor:
    """Returns distances (..., J) in mm of points (..., J, 3) in metres, float64, after centring on the root.

    Args:
        pred: (..., J, 3) metres.
        target: (..., J, 3) metres.
        root: Joint, or joints whose midpoint, both are centred on; None: not at all.
    """
    _same_shape(pred, target)
    difference = centred(pred.double(), root) - centred(target.double(), root)
    return MM * torch.linalg.vector_norm(difference, dim=-1)


def mpjpe(pred: Tensor, target: Tensor, weight: Tensor | None = None, root: Root = 0) -> Tensor:
    """Mean per-joint position error of each pose.

    Args:
        pred: (..., J, 3) metres.
        target: (..., J, 3) metres.
        weight: (..., J), 0 where unlabelled; None: all labelled.
        root: See :func:`joint_errors`.

    Returns:
        (...) mm, float64; NaN for a pose without labelled joints, or whose root is not labelled.

    >>> target = torch.zeros(2, 3)
    >>> mpjpe(target + torch.tensor([0.0, 0.0, 0.1]), target, root=None).round(decimals=3).item()
    100.0
    """
    return _mean(joint_errors(pred, target, root), weight, root)


def pa_mpjpe(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """MPJPE after the best similarity transform of each pose; see :func:`mpjpe` and ``geometry.procrustes``.

    Degenerate poses: points on a line give the (unique) least error; a prediction whose joints all coincide lands on
    the target's centroid; a mirrored pose keeps an error.
    """
    errors = pa_joint_errors(pred, target, weight)
    if weight is None and errors.shape[-1]:
        # numpy starts no threads for this, which would cost more than the work
        return torch.as_tensor(errors.cpu().numpy().mean(-1), device=errors.device)
    return _mean(errors, weight)


def pa_joint_errors(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns distances (..., J) in mm after the best similarity transform (of the labelled joints)."""
    _same_shape(pred, target)
    return procrustes_distances(pred, target, weight, unit=MM)


def n_mpjpe(pred: Tensor, target: Tensor, weight: Tensor | None = None, root: Root = 0) -> Tensor:
    """MPJPE after the best scaling of each (centred) pose; see :func:`mpjpe`. A pose of zero extent gets scale 0."""
    return _mean(n_joint_errors(pred, target, weight, root), weight, root)


def n_joint_errors(pred: Tensor, target: Tensor, weight: Tensor | None = None, root: Root = 0) -> Tensor:
    """Returns distances (..., J) in mm after centring and the best scaling (of the labelled joints)."""
    _same_shape(pred, target)
    x, y = centred(pred.double(), root), centred(target.double(), root)
    share = torch.ones_like(x[..., 0]) if weight is None else weight.to(x)
    used = share[..., None] > 0
    a, b = x.where(used, 0.0), y.where(used, 0.0)
    extent = (share[..., None] * a * a).sum((-1, -2))
    gain = (share[..., None] * a * b).sum((-1, -2))
    scale = torch.where(extent > 0, gain / extent.clamp(min=1e-300), 0.0)
    return joint_errors(scale[..., None, None] * x, y)


def pve(pred: Tensor, target: Tensor) -> Tensor:
    """Per-vertex error of each mesh (..., V, 3) in metres: (...) mm, without any alignment."""
    return joint_errors(pred, target).mean(-1)


def acceleration(points: Tensor) -> Tensor:
    """Returns the mean norm (..., T - 2) in mm/frame^2 of second differences of (..., T, J, 3) metres."""
    return MM * torch.linalg.vector_norm(_second_difference(points.double()), dim=-1).mean(-1)


def acceleration_error(pred: Tensor, target: Tensor, visible: Tensor | None = None) -> Tensor:
    """Error of the acceleration.

    Args:
        pred: (..., T, J, 3) metres, consecutive frames.
        target: (..., T, J, 3) metres.
        visible: (..., T) bool; a frame with an unlabelled pose takes its neighbours' accelerations with it. Or
            (..., T, J) bool: the mean is over the joints that are labelled in all three frames.

    Returns:
        (..., T - 2) mm/frame^2, NaN where one of the three frames is not visible; empty for fewer than 3 frames.
    """
    error = joint_acceleration_errors(pred, target)
    if visible is None:
        return error.mean(-1)
    if visible.ndim < error.ndim:
        return error.mean(-1).where(in_three_frames(visible, -1), float("nan"))
    seen = in_three_frames(visible, -2)
    return error.where(seen, 0.0).sum(-1) / seen.sum(-1)


def joint_acceleration_errors(pred: Tensor, target: Tensor) -> Tensor:
    """Returns norms (..., T - 2, J) in mm/frame^2 of second differences of pred - target, (..., T, J, 3) metres."""
    _same_shape(pred, target)
    return MM * torch.linalg.vector_norm(_second_difference(pred.double() - target.double()), dim=-1)


def in_three_frames(visible: Tensor, axis: int) -> Tensor:
    """Tells of every three frames in a row along an axis whether something is visible in all of them."""
    rows = visible.movedim(axis, 0)
    return (rows[:-2] & rows[1:-1] & rows[2:]).movedim(0, axis)


def _second_difference(points: Tensor) -> Tensor:
    return points[..., :-2, :, :] - 2 * points[..., 1:-1, :, :] + points[..., 2:, :, :]


def _same_shape(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape or pred.ndim < 2:
        raise ValueError(f"prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")


def _mean(errors: Tensor, weight: Tensor | None, root: Root = None) -> Tensor:
    if weight is None:
        return errors.mean(-1)
    share = rooted(weight.to(errors), root).clamp(min=0)
    return (errors.where(share > 0, 0.0) * share).sum(-1) / share.sum(-1)


class _Error(JointMetric):
    higher_is_better = False
    plot_lower_bound = 0.0


class MPJPE(_Error):
    """Mean per-joint position error in mm, over all labelled joints of all poses whose root is labelled.

    Args:
        root: Joint, or joints whose midpoint, predictions and targets are centred on; None: not at all. Poses in which
            one of them has weight 0 do not count.
        kwargs: See :class:`~posekit.metrics.joint_rows.JointMetric` (``joints``, ``groups``).

    >>> metric = MPJPE(root=0)
    >>> metric.update(torch.zeros(1, 2, 3), torch.tensor([[[1.0, 1, 1], [1, 1, 1.02]]]))
    >>> round(metric.compute().item(), 4)
    10.0
    """

    label = "MPJPE"

    def __init__(self, root: Root = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root

    def update(
        self, pred: Tensor, target: Tensor, weight: Tensor | None = None, sample_ids: Tensor | None = None
    ) -> None:
        """Adds poses.

        Args:
            pred: (..., J, 3) metres.
            target: (..., J, 3) metres.
            weight: (..., J), 0 where unlabelled; None: all labelled.
            sample_ids: (...) unique per pose, so that repeated ones are dropped.
        """
        self.add_poses(self.errors(pred, target, weight), self.counted(weight), sample_ids)

    def counted(self, weight: Tensor | None) -> Tensor | None:
        """Returns the weights of the joints that count."""
        return None if weight is None else rooted(weight, self.root)

    def errors(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Returns distances (..., J) in mm."""
        return joint_errors(pred, target, self.root)


class PAMPJPE(MPJPE):
    """MPJPE in mm after the best similarity transform of every pose; ``root`` is moot."""

    label = "PA-MPJPE"

    def errors(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Returns distances (..., J) in mm."""
        return pa_joint_errors(pred, target, weight)

    def counted(self, weight: Tensor | None) -> Tensor | None:
        """Returns the weights of the joints that count."""
        return weight


class NMPJPE(MPJPE):
    """MPJPE in mm after centring on the root and the best scaling of every pose (N-MPJPE)."""

    label = "N-MPJPE"

    def errors(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Returns distances (..., J) in mm."""
        return n_joint_errors(pred, target, weight, self.root)


class PVE(_Error):
    """Per-vertex error in mm, over all meshes, without alignment."""

    label = "PVE"

    def update(self, pred: Tensor, target: Tensor, sample_ids: Tensor | None = None) -> None:
        """Adds meshes (..., V, 3) in metres."""
        self.add_poses(pve(pred, target)[..., None], None, sample_ids)

"""JointMetric: metrics that are weighted means of one number per pose and joint, with breakdowns by joint and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Float64
from posekit.errors import one_of
from posekit.metrics.rows import RowsMetric, first_of_each

Root = int | Sequence[int] | None
Groups = Mapping[str, Sequence[int | str]]


def weighted_mean(values: Float64, weights: Float64) -> float:
    """Returns the mean of ``values`` where ``weights`` > 0, weighted; NaN where there is no weight at all."""
    share = np.where(weights > 0, weights, 0.0)
    total = share.sum()
    return float((np.where(weights > 0, values, 0.0) * share).sum() / total) if total > 0 else float("nan")


def _root_joints(root: int | Sequence[int]) -> list[int]:
    return [root] if isinstance(root, int) else list(root)


def centred(points: Tensor, root: Root) -> Tensor:
    """Subtracts the root joint, or the midpoint of several, from (..., J, C) points; None leaves them."""
    if root is None:
        return points
    return points - points[..., _root_joints(root), :].mean(-2, keepdim=True)


def rooted(weight: Tensor, root: Root) -> Tensor:
    """Returns weights (..., J) that are 0 in poses where a joint of the root has none: no label tells their centre."""
    if root is None:
        return weight
    known = (weight[..., _root_joints(root)] > 0).all(-1, keepdim=True)
    return weight.where(known, torch.zeros_like(weight))


def group_indices(joints: Sequence[str], groups: Groups | None) -> dict[str, list[int]]:
    """Returns the joint indices of each group, whose members are indices or names of ``joints``.

    Raises:
        UserError: A member is no joint.
    """

    def index(joint: int | str) -> int:
        if isinstance(joint, int):
            return joint
        one_of("joint", joint, joints)
        return list(joints).index(joint)

    return {name: [index(j) for j in members] for name, members in (groups or {}).items()}


class JointMetric(RowsMetric):
    """Base of metrics with one number per pose and joint.

    ``compute()`` returns the mean over all labelled joints of all poses, as a scalar; with ``joints`` or ``groups`` a
    dict: the mean under the class's name, then one entry per joint and per group. A mean without any labelled joint is
    NaN. Poses whose sample id came before (repeated by a distributed sampler) are dropped.

    Args:
        joints: Names of the joints, for an entry each.
        groups: Joints (names or indices) that get an entry together.
        kwargs: Arguments of ``torchmetrics.Metric``.
    """

    label = "mean"
    is_differentiable = False

    joint_values: list[Tensor]  # (N, J)
    joint_weights: list[Tensor]  # (N, J), 0 where unlabelled
    pose_ids: list[Tensor]  # (N,), -1 without

    def __init__(self, joints: Sequence[str] | None = None, groups: Groups | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.joints = tuple(joints or ())
        self.groups = group_indices(self.joints, groups)
        self.add_rows("joint_values")
        self.add_rows("joint_weights")
        self.add_rows("pose_ids", torch.int64)

    def add_poses(self, values: Tensor, weight: Tensor | None, sample_ids: Tensor | None) -> None:
        """Adds numbers of poses.

        Args:
            values: (..., J); leading axes are flattened.
            weight: (..., J), 0 where unlabelled; None: all labelled.
            sample_ids: One per pose, or None.

        Raises:
            ValueError: Shapes do not fit.
        """
        values = values.detach()
        joints = values.shape[-1]
        if self.joints and joints != len(self.joints):
            raise ValueError(f"{type(self).__name__}: {joints} joints, but {len(self.joints)} names")
        weight = torch.ones_like(values) if weight is None else weight.to(values).expand_as(values)
        rows = values.reshape(-1, joints)
        ids = torch.full((len(rows),), -1) if sample_ids is None else sample_ids.reshape(-1)
        if len(ids) != len(rows):
            raise ValueError(f"{type(self).__name__}: {len(ids)} sample ids for {len(rows)} poses")
        self.append(joint_values=rows, joint_weights=weight.reshape(-1, joints), pose_ids=ids)

    def collected(self) -> tuple[Float64, Float64]:
        """Returns values and weights (N, J) of all processes, without repeated samples."""
        count = len(self.joints) or 1
        keep = first_of_each(self.rows("pose_ids"))
        return (self.rows("joint_values", count)[keep].numpy(), self.rows("joint_weights", count)[keep].numpy())

    def per_joint(self) -> Tensor:
        """Returns the numbers of the joints (J,) of this process's rows, without names; NaN where never labelled."""
        values, weights = self.collected()
        return torch.tensor([self.reduce(values[:, j], weights[:, j]) for j in range(values.shape[1])])

    def reduce(self, values: Float64, weights: Float64) -> float:
        """Returns the number of a set of joints."""
        return weighted_mean(values, weights)

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        return [self.label, *self.joints, *self.groups]

    def values(self) -> dict[str, float]:
        """Computes the mean and the breakdowns."""
        values, weights = self.collected()
        result = {self.label: self.reduce(values, weights)}
        sets = {**{name: [j] for j, name in enumerate(self.joints)}, **self.groups}
        for name, members in sets.items():
            result[name] = self.reduce(values[:, members], weights[:, members]) if len(values) else float("nan")
        return result

    def compute(self) -> Any:
        """Returns the mean (a float64 scalar), or a dict where breakdowns were asked for."""
        values = self.computed()
        return values if len(values) > 1 else values[self.label]

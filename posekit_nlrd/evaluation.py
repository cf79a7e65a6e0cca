"""Evaluation by named protocols (section 6.1): whose bone lengths, how many joints; and how well motion is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from posekit.errors import one_of
from posekit.metrics.joint_rows import weighted_mean
from posekit.metrics.mpjpe import joint_errors, n_joint_errors, pa_joint_errors
from posekit.metrics.pck import pck_and_auc
from posekit.metrics.rows import RowsMetric, first_of_each
from posekit.skeletons import LIMB17
from posekit_nlrd.geometry import PARENTS, bone_lengths, canonical_lengths, fit_canonical, pick, with_lengths

FEET_AND_ROOT = ("pelvis", "left_foot", "right_foot")
JOINTS = {
    "17": tuple(range(len(LIMB17))),
    "14": tuple(i for i, name in enumerate(LIMB17.joints) if name not in FEET_AND_ROOT),
}
BONES = ("gt", "predicted")
PROTOCOLS = tuple(bones + joints for bones in BONES for joints in JOINTS)
"""``gt17`` and so on: the prediction's bones get the labels' lengths or keep their own; 17 joints or 3DHP's 14."""

METRICS = ("mpjpe", "pa_mpjpe", "n_mpjpe", "pck", "auc")


class PoseEvaluation(RowsMetric):
    """All errors of 3D poses under the chosen protocols, and those of the labels' own mean pose.

    ``compute()`` gives ``mpjpe_gt17`` (mm, root-aligned), ``pa_mpjpe_gt17``, ``n_mpjpe_gt17`` (best scale),
    ``pck_gt17`` and ``auc_gt17`` (per cent; MPI-INF-3DHP's, root-aligned), and so on for each protocol, and
    ``mean_pose_mpjpe_gt17`` and ``mean_pose_pa_mpjpe_gt17``: what one fixed pose, the mean of the labels, scores there.

    Args:
        protocols: Of :data:`PROTOCOLS`.
        kwargs: Arguments of ``torchmetrics.Metric``.

    Raises:
        UserError: An unknown protocol.
    """

    higher_is_better = None

    def __init__(self, protocols: Sequence[str] = ("gt17", "predicted17"), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in protocols:
            one_of("protocol", name, PROTOCOLS)
        self.protocols = tuple(protocols)
        for name in ("pred", "target", "weight"):
            self.add_rows(name)
        self.add_rows("ids", torch.int64)

    def update(self, pred: Tensor, target: Tensor, weight: Tensor, sample_ids: Tensor) -> None:
        """Adds poses.

        Args:
            pred: (N, 17, 3) root-relative, metres.
            target: (N, 17, 3) root-relative, metres, the same frame.
            weight: (N, 17), 0 where unlabelled.
            sample_ids: (N,) unique per pose.
        """
        self.append(pred=pred, target=target, weight=weight, ids=sample_ids)

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        found = [f"{metric}_{protocol}" for protocol in self.protocols for metric in METRICS]
        return found + [f"mean_pose_{metric}_{p}" for p in self.protocols for metric in ("mpjpe", "pa_mpjpe")]

    def values(self) -> dict[str, float]:
        """Computes all of them; NaN without any pose."""
        keep, weight = first_of_each(self.rows("ids")), self.rows("weight", 17)
        keep = keep[(weight[keep] > 0).any(1)]  # bodies without any label have no size
        pred, target, weight = self.rows("pred", 17, 3)[keep], self.rows("target", 17, 3)[keep], weight[keep]
        if not len(pred):
            return dict.fromkeys(self.names(), float("nan"))
        constant = mean_pose(target, weight).expand_as(target) * float(unit_of(target, weight))
        result = {}
        for protocol in self.protocols:
            result.update(pose_errors(pred, target, weight, protocol))
            still = pose_errors(constant, target, weight, protocol)
            result |= {f"mean_pose_{m}_{protocol}": still[f"{m}_{protocol}"] for m in ("mpjpe", "pa_mpjpe")}
        return result


class LatentSpread(RowsMetric):
    """How far latents deviate over all poses, the mean over dimensions: from each batch's mean and variance."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "variance", "count"):
            self.add_rows(name)

    def update(self, latents: Tensor) -> None:
        """Adds latents (N, D)."""
        variance, mean = torch.var_mean(latents.detach().float(), 0, correction=0, keepdim=True)
        self.append(mean=mean, variance=variance, count=torch.tensor([float(len(latents))]))

    def names(self) -> list[str]:
        """Returns the key of the result."""
        return ["z_std"]

    def values(self) -> dict[str, float]:
        """Computes it; NaN without any latent."""
        count = self.rows("count")
        if not len(count):
            return {"z_std": float("nan")}
        share, means = (count / count.sum())[:, None], self.rows("mean")
        variance = (share * (self.rows("variance") + (means - (share * means).sum(0)) ** 2)).sum(0)
        return {"z_std": float(variance.sqrt().mean())}


def pose_errors(pred: Tensor, target: Tensor, weight: Tensor, protocol: str = "gt17") -> dict[str, float]:
    """Computes the errors of poses under one protocol, pooled over all labelled joints.

    Args:
        pred: (N, 17, 3) root-relative, metres.
        target: (N, 17, 3) root-relative, metres, the same frame.
        weight: (N, 17).
        protocol: Of :data:`PROTOCOLS`.

    Returns:
        ``mpjpe``, ``pa_mpjpe``, ``n_mpjpe`` in mm, ``pck`` and ``auc`` in per cent, each with ``_PROTOCOL`` behind.
    """
    bones, joints = protocol[:-2], JOINTS[protocol[-2:]]
    if bones == "gt":
        pred = with_lengths(pred, label_lengths(target, weight))
    pred, target = pred - pred[:, :1], target - target[:, :1]
    pred, target, share = pick(pred, joints), pick(target, joints), weight[:, list(joints)]
    plain = joint_errors(pred, target).cpu().numpy()
    weights = share.double().cpu().numpy()
    pck, auc = pck_and_auc(plain, weights)
    found = {
        "mpjpe": weighted_mean(plain, weights),
        "pa_mpjpe": weighted_mean(pa_joint_errors(pred, target, share).cpu().numpy(), weights),
        "n_mpjpe": weighted_mean(n_joint_errors(pred, target, share, root=None).cpu().numpy(), weights),
        "pck": pck,
        "auc": auc,
    }
    return {f"{name}_{protocol}": value for name, value in found.items()}


def label_lengths(target: Tensor, weight: Tensor) -> Tensor:
    """Returns the labels' bone lengths (N, 17); bones without a label get canonical ones of the same body size."""
    known = (weight > 0) & (weight[:, list(PARENTS)] > 0)
    canonical = canonical_lengths(target)
    lengths = bone_lengths(target)
    size = (lengths * known).sum(1) / (canonical * known).sum(1).clamp(min=1e-6)
    return torch.where(known, lengths, canonical * size[:, None])


def mean_pose(target: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean (17, 3) of canonical poses, refitted to canonical bones; units."""
    share = weight[..., None]
    mean = (fit_canonical(target) * share).sum(0) / share.sum(0).clamp(min=1e-6)
    return fit_canonical(mean)


def unit_of(target: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean metres per unit of labelled bodies."""
    return (label_lengths(target, weight).sum(1) / canonical_lengths(target).sum()).mean()


def motion_mm(pred: Tensor, target: Tensor) -> Tensor:
    """Mean joint error in mm of canonical poses or motions against the recorded ones, bones as recorded.

    Args:
        pred: (..., 17, 3) any unit: directions count.
        target: (..., 17, 3) metres, the root at 0.
    """
    return joint_errors(with_lengths(pred, bone_lengths(target)), target).mean()

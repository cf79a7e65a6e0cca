"""The losses of MAED: 2D and 3D joints, pose, shape, size of the parameters, and acceleration.

The supplement writes sums of norms over joints; the published code computes weighted means of squares. Both are here,
by the option ``form``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posekit.errors import in_range, one_of
from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from posekit.nn.precision import full_precision
from posekit.skeletons import get_skeleton

WEIGHTS = {"points": 300.0, "joints3d": 600.0, "pose": 60.0, "shape": 0.06, "norm": 1.0, "acceleration": 0.0}
"""Coefficients of the terms in the supplement and in the published configs."""

FORMS = ("mean", "sum")


class Predicted(NamedTuple):
    """What the network says of clips."""

    points: Tensor  # (B, T, K, 2), half crops from the centre
    joints3d: Tensor  # (B, T, K, 3) metres
    rotations: Tensor  # (B, T, 24, 3, 3)
    shape: Tensor  # (B, T, 10)


class Targets(NamedTuple):
    """Labels of clips. Where a weight is 0 the label may be anything finite."""

    points: Tensor  # (B, T, K, 2), half crops from the centre
    confidence: Tensor  # (B, T, K), at least 0; fractions are allowed
    joints3d: Tensor  # (B, T, K, 3) metres
    joints3d_weight: Tensor  # (B, T, K)
    pose: Tensor  # (B, T, 24, 3) axis-angle
    shape: Tensor  # (B, T, 10)
    body_weight: Tensor  # (B, T), above 0 where pose and shape are labels
    valid: Tensor  # (B, T), 0 on padding


class BodyLoss(nn.Module):
    """The weighted sum of all terms.

    Frames that are padding count in no sum and no denominator. A clip counts as one with 3D labels if any of its joints
    or frames has a weight in 3D; the other clips take part in the 2D term alone.

    Args:
        weights: Coefficients by name, in place of those of :data:`WEIGHTS`.
        form: ``mean``: weighted means of squares, as the published code computes them; joints of no confidence count in
            the denominator. ``sum``: sums over joints of Euclidean norms, averaged over frames, as the supplement
            writes them.
        official_masking: Repeat the habits of the published code. In batches of pictures (clips of one frame) pose,
            shape and norm count of all people, labelled or not, so that unlabelled people are pulled to the zero pose,
            and the 3D term is a mean over all of them; and an acceleration is that of joints as they stand, not
            relative to the hips, and counts if its last frame is labelled, not only if all three are.
        skeleton: Joint set of the points; it has hips, whose midpoint the 3D term and the acceleration are relative to.

    Raises:
        UserError: An unknown name, or a negative coefficient.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        form: str = "mean",
        official_masking: bool = False,
        skeleton: str = "SPIN49",
    ) -> None:
        super().__init__()
        one_of("form of the loss", form, FORMS)
        for name, value in (weights or {}).items():
            one_of("term of the loss", name, WEIGHTS)
            in_range("MAED", f"loss_weights.{name}", value, "[0, inf)")
        self.weights = {**WEIGHTS, **(weights or {})}
        self.left_out: frozenset[str] = frozenset()  # terms that the run's labels cannot feed
        self.form = form
        self.official_masking = official_masking
        joints = get_skeleton(skeleton)
        self.hips = [joints.index("right_hip"), joints.index("left_hip")]

    def forward(self, predicted: Predicted, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the loss, in float32 also under autocast.

        Returns:
            The total, and every term with its coefficient, by name.
        """
        with full_precision(predicted.points):
            terms = self.terms(
                Predicted(*(value.float() for value in predicted)), Targets(*(value.float() for value in targets))
            )
            weighted = {name: self.weights[name] * value for name, value in terms.items()}
            return torch.stack(list(weighted.values())).sum(), weighted

    def terms(self, predicted: Predicted, targets: Targets) -> dict[str, Tensor]:
        """Returns the terms without coefficients; those of coefficient 0 and of ``left_out`` are not among them."""
        frames = targets.valid
        has3d = frames * self._has3d(targets)
        labelled = frames * (targets.body_weight > 0)
        if self.official_masking and frames.shape[1] == 1:
            labelled = has3d = frames
        on = {name for name, value in self.weights.items() if value > 0} - self.left_out
        moved = (lambda joints: joints) if self.official_masking else self._centred
        terms = {
            "points": lambda: self._joints(predicted.points - targets.points, targets.confidence, frames),
            "joints3d": lambda: self._joints(
                self._centred(predicted.joints3d) - self._centred(targets.joints3d), targets.joints3d_weight, has3d
            ),
            "pose": lambda: self._compare(
                (predicted.rotations - axis_angle_to_matrix(targets.pose)).flatten(-2), labelled
            ),
            "shape": lambda: self._compare((predicted.shape - targets.shape)[..., None, :], labelled),
            "norm": lambda: parameter_norm(predicted, has3d),
            "acceleration": lambda: acceleration_loss(
                moved(predicted.joints3d),  # it stands at the body's origin, wherever the person goes
                moved(targets.joints3d),
                targets.joints3d_weight,
                has3d,
                last_only=self.official_masking,
            ),
        }
        return {name: term() for name, term in terms.items() if name in on}

    def _has3d(self, targets: Targets) -> Tensor:
        """Returns (B, 1): whether anything of the clip is labelled in 3D."""
        any_joint = (targets.joints3d_weight.sum((1, 2)) > 0) | (targets.body_weight.sum(1) > 0)
        return any_joint[:, None].to(targets.valid)

    def _centred(self, joints: Tensor) -> Tensor:
        right, left = (joints[..., hip : hip + 1, :] for hip in self.hips)  # views: a list of rows would be copied
        return joints - (right + left) / 2

    def _joints(self, difference: Tensor, weight: Tensor, frames: Tensor) -> Tensor:
        """Compares joints: differences (B, T, K, C) with weights (B, T, K) in the frames (B, T) that count."""
        weight = weight * frames[..., None]
        difference = torch.where(weight[..., None] > 0, difference, torch.zeros_like(difference))
        if self.form == "sum":
            return (weight * _norm(difference)).sum() / frames.sum().clamp(min=1)
        count = frames.sum().clamp(min=1) * difference.shape[-2] * difference.shape[-1]
        return (weight[..., None] * difference.square()).sum() / count

    def _compare(self, difference: Tensor, frames: Tensor) -> Tensor:
        """Compares parameters (B, T, J, C) in the frames that count."""
        count = frames.sum().clamp(min=1)
        if self.form == "sum":
            return (frames[..., None] * _norm(difference)).sum() / count
        size = difference.shape[-2] * difference.shape[-1]
        return (frames[..., None, None] * difference.square()).sum() / (count * size)


def parameter_norm(predicted: Predicted, frames: Tensor) -> Tensor:
    """One Frobenius norm of all axis-angle poses and shapes of the frames that count, over the number of frames.

    (Not a mean of norms: the larger the batch, the less it weighs.)
    """
    parameters = torch.cat([matrix_to_axis_angle(predicted.rotations).flatten(-2), predicted.shape], -1)
    parameters = torch.where(frames[..., None] > 0, parameters, torch.zeros_like(parameters))
    return _norm(parameters.reshape(-1)) / frames.sum().clamp(min=1)


def acceleration_loss(
    joints: Tensor, target: Tensor, weight: Tensor, frames: Tensor, last_only: bool = False
) -> Tensor:
    """Mean square of the difference of second differences of joints, (metres per frame^2)^2.

    Args:
        joints: (B, T, K, 3) metres.
        target: (B, T, K, 3) metres.
        weight: (B, T, K), 0 where not labelled.
        frames: (B, T), 0 where a frame does not count; a triple of frames counts if all three do.
        last_only: Weigh a triple by its last frame's weights, not by the product of all three frames'.

    Returns:
        A scalar, 0 for clips of fewer than three frames. Unlabelled joints of frames that count are in the denominator.
    """
    weight = weight[:, 2:] if last_only else weight[:, :-2] * weight[:, 1:-1] * weight[:, 2:]
    counts = frames[:, :-2] * frames[:, 1:-1] * frames[:, 2:]
    difference = _second(joints) - _second(target)
    total = ((weight * counts[..., None])[..., None] * difference.square()).sum()
    return total / (counts.sum().clamp(min=1) * difference.shape[-2] * difference.shape[-1])


def _second(x: Tensor) -> Tensor:
    return x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm of the last axis, with a gradient of 0 at 0."""
    squared = x.square().sum(-1)
    zero = squared == 0
    return torch.where(zero, torch.zeros_like(squared), torch.where(zero, torch.ones_like(squared), squared).sqrt())

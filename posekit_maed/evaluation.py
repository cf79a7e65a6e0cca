"""The evaluation protocol: which joints are compared, by which rows of which regressor, and the errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from posekit.body import BodyOutput, SMPLBody
from posekit.data.batch import answered_rows
from posekit.errors import one_of
from posekit.geometry import axis_angle_to_matrix
from posekit.metrics import MPJPE, PAMPJPE, PVE, AccelerationError
from posekit.metrics.joint_rows import centred, rooted, weighted_mean
from posekit.metrics.mpjpe import joint_errors, pa_joint_errors
from posekit.metrics.rows import RowsMetric, first_of_each, updated_anywhere

HIPS = (2, 3)
"""Right and left hip in every evaluated set; their midpoint is subtracted."""

_LIMBS = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13)
_GROUND_TRUTH = tuple(range(25, 39))


class JointSet(NamedTuple):
    """Joints that are compared.

    Attributes:
        source: Joint set that the body is asked for.
        predicted: Rows of it.
        target: Rows of SPIN49 that the labels are in.
    """

    source: str
    predicted: tuple[int, ...]
    target: tuple[int, ...]


EVAL_JOINTS = {
    # Vertices times the Human3.6M regressor: the 14 joints of LSP (3DPW), or 17 of Human3.6M.
    "h36m14": JointSet("H36M17", (*_LIMBS, 8, 10), _GROUND_TRUTH),
    # Human3.6M's joint 9, the middle of the face, is SPIN49's head (VIBE's names), and its head is the head top. The
    # published picks 39, 41, 42, 43 are for SPIN's own label files, which call these two jaw and head.
    "h36m17": JointSet("H36M17", (*_LIMBS, 8, 0, 7, 9, 10), (*range(25, 38), 39, 41, 43, 38)),
    # The model's own joints: 17 of MPI-INF-3DHP, or the 14 of LSP.
    "mpii3d17": JointSet("SPIN49", (*_GROUND_TRUTH, 39, 41, 43), (*_GROUND_TRUTH, 39, 41, 43)),
    "spin14": JointSet("SPIN49", _GROUND_TRUTH, _GROUND_TRUTH),
}
"""Joint sets of evaluation by name."""

_OF_DATA = {
    "Human36M": {14: "h36m14", 17: "h36m17"},
    "MPIINF3DHP": {14: "spin14", 17: "mpii3d17"},
    "ThreeDPW": {14: "h36m14"},
}


def joints_asked_for(datamodule: Any) -> str | None:
    """Returns the name of the joint set that a data module's ``eval_joints`` stands for; None where it has none."""
    evaluated = getattr(datamodule, "evaluated", datamodule)  # of a mixture
    count = getattr(evaluated, "eval_joints", None)
    known = [_OF_DATA[base.__name__] for base in type(evaluated).__mro__ if base.__name__ in _OF_DATA]
    return known[0].get(count) if known and count is not None else None


def get_eval_joints(name: str) -> JointSet:
    """Looks a joint set of evaluation up.

    Raises:
        UserError: There is none of that name.
    """
    one_of("eval_joints", name, EVAL_JOINTS)
    return EVAL_JOINTS[name]


class EvaluatedJoints:
    """Takes the compared joints off a body.

    Args:
        body: The body.
        name: A name of :data:`EVAL_JOINTS`.

    Raises:
        UserError: The name is unknown, or the body lacks a regressor.
    """

    def __init__(self, body: SMPLBody, name: str) -> None:
        self.set = get_eval_joints(name)
        self.predicted = list(self.set.predicted)
        self.target = list(self.set.target)
        device = body.faces.device
        rest = body(torch.eye(3, device=device).expand(1, 24, 3, 3), torch.zeros(1, body.num_betas, device=device))
        self(body, rest)  # now, not at the first evaluation, is the time to say that a regressor is missing

    def __call__(self, body: SMPLBody, output: BodyOutput) -> Tensor:
        """Returns (N, J, 3) metres."""
        return body.joints(output, self.set.source)[:, self.predicted]


class MeanPoseError(RowsMetric):
    """Errors of always answering with the mean of all targets: the score that a network has to beat.

    Both numbers are in mm over all labelled joints of the poses whose hips are labelled, the mean being that of the
    evaluated poses themselves, which is the best constant answer there is.
    """

    target_points: list[Tensor]  # (N, J, 3) centred
    target_weights: list[Tensor]  # (N, J)
    pose_ids: list[Tensor]  # (N,)

    def __init__(self, joints: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.joints = joints
        self.add_rows("target_points")
        self.add_rows("target_weights")
        self.add_rows("pose_ids", torch.int64)

    def update(self, target: Tensor, weight: Tensor, pose_ids: Tensor) -> None:
        """Adds targets (N, J, 3) in metres with weights (N, J) and ids (N,)."""
        weight = rooted(weight, HIPS)
        points = centred(target.double(), HIPS).where(weight[..., None] > 0, 0.0)
        self.append(target_points=points, target_weights=weight, pose_ids=pose_ids)

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        return ["MPJPE_mean_pose", "PA-MPJPE_mean_pose"]

    def values(self) -> dict[str, float]:
        """Computes both errors."""
        keep = first_of_each(self.rows("pose_ids"))
        points = self.rows("target_points", self.joints, 3)[keep]
        weight = self.rows("target_weights", self.joints)[keep]
        if not len(points):
            return dict.fromkeys(self.names(), float("nan"))
        share = (weight > 0).double()[..., None]
        mean = (points * share).sum(0) / share.sum(0).clamp(min=1)
        constant = mean.expand_as(points)
        errors = (joint_errors(constant, points), pa_joint_errors(constant, points, weight))
        means = [weighted_mean(error.numpy(), weight.numpy()) for error in errors]
        return dict(zip(self.names(), means, strict=True))


class BodyMetrics(torch.nn.Module):
    """All errors of one stage, in mm: joints, joints after alignment, mesh, acceleration, and the mean pose's.

    Joints and accelerations are compared relative to the hips' midpoint, meshes as they are.

    Args:
        joints: Number J of compared joints.
        across_clips: See :class:`~posekit.metrics.AccelerationError`.

    Attributes:
        meshes: Whether meshes are compared: not where the labels' shapes are another body's.
    """

    def __init__(self, joints: int, across_clips: bool = False) -> None:
        super().__init__()
        self.meshes = True
        self.mpjpe = MPJPE(root=HIPS)
        self.pa_mpjpe = PAMPJPE()
        self.pve = PVE()
        self.acceleration = AccelerationError(across_clips=across_clips)
        self.mean_pose = MeanPoseError(joints)

    def reset(self) -> None:
        """Empties all metrics."""
        for metric in self.children():
            metric.reset()  # type: ignore[operator]

    def add_clips(
        self, batch: Mapping[str, Any], body: SMPLBody, compared: EvaluatedJoints, output: BodyOutput
    ) -> None:
        """Adds the frames that a batch's windows answer for, as far as they are labelled.

        Args:
            batch: Clips (B, T, ...) with weights.
            body: The body.
            compared: The joints that are compared.
            output: Predicted bodies of the B T frames.
        """
        lead = batch["valid"].shape
        counted = answered_rows(batch)
        ids = pose_ids(batch.get("row_ids"), batch["sample_id"], lead[1])
        if "joints3d" in batch:
            pred = compared(body, output).unflatten(0, lead)
            target = batch["joints3d"][..., compared.target, :]
            weight = batch["joints3d_weight"][..., compared.target]
            self._add_joints(batch, pred, target, weight, ids, counted)
        if "body_pose" in batch and self.meshes:
            # Also without any: the processes of a distributed run have to agree on which metrics there are.
            labelled = counted & (batch["body_weight"] > 0)
            true = body(axis_angle_to_matrix(batch["body_pose"][labelled].float()), batch["body_shape"][labelled])
            self.pve.update(output.vertices[labelled.flatten()], true.vertices, ids[labelled])

    def _add_joints(
        self, batch: Mapping[str, Any], pred: Tensor, target: Tensor, weight: Tensor, ids: Tensor, counted: Tensor
    ) -> None:
        """Adds the frames (B, T) that count; padding repeats a frame under its id, and must not come before it."""
        poses = [value[counted] for value in (pred, target, weight, ids)]
        self.mpjpe.update(*poses)
        self.pa_mpjpe.update(*poses)
        self.mean_pose.update(*poses[1:])
        if counted.shape[1] > 1:
            tracked = "track_id" in batch  # windows of one video follow each other; else each clip is its own
            clip = (batch["track_id"] if tracked else batch["sample_id"])[:, None].expand_as(counted)
            place = torch.arange(counted.shape[1], device=counted.device).expand_as(counted)
            frame = batch["frame"] if tracked else place
            seen = rooted(poses[2], HIPS) > 0
            # A prediction stands at the body's origin, a label in the camera's frame: the way it went is no error.
            pred, target = (centred(points, HIPS) for points in poses[:2])
            self.acceleration.update(pred, target, seen, clip[counted], frame[counted])

    def compute(self) -> dict[str, Tensor]:
        """Returns the numbers that there were data for, by name."""
        values: dict[str, Tensor] = {}
        metrics = (self.mpjpe, self.pve, self.acceleration)
        joints, meshes, clips = updated_anywhere(*metrics)
        if joints:
            values |= {"MPJPE": self.mpjpe.compute(), "PA-MPJPE": self.pa_mpjpe.compute()}
        if meshes:
            values["PVE"] = self.pve.compute()
        if clips:
            values["acceleration_error"] = self.acceleration.compute()
        if joints:
            values |= self.mean_pose.compute()
        return values


def pose_ids(rows: Tensor | None, sample_ids: Tensor, frames: int) -> Tensor:
    """Returns ids (B, T) that are unique per frame: the data set's own, or those of the sample and the place."""
    if rows is not None:
        return rows
    return sample_ids[:, None] * (1 << 20) + torch.arange(frames, device=sample_ids.device)

"""AccelerationError: smoothness of motion, frames arriving in any order, never across the border of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Bool, Float64, Int64
from posekit.metrics.joint_rows import Groups, group_indices
from posekit.metrics.mpjpe import in_three_frames, joint_acceleration_errors
from posekit.metrics.rows import RowsMetric, process_rank

LABEL = "acceleration_error"


class AccelerationError(RowsMetric):
    """Mean norm of the difference of accelerations, in mm/frame^2.

    An acceleration is the second difference of three consecutive frames of one clip. The mean is over the joints of all
    such triples that are labelled in all three frames; NaN without any. Frames that came before (same clip and frame)
    are dropped.

    Args:
        across_clips: True repeats what the published evaluation code of VIBE, MEVA and MAED does: all frames of all
            clips, in the order of clip and frame, count as one sequence, also across the clips' borders and gaps.
        joints: Names of the joints, for an entry each; the result is a dict then.
        groups: Joints (names or indices) that get an entry together; the result is a dict then.
        kwargs: Arguments of ``torchmetrics.Metric``.

    >>> still = torch.zeros(1, 5, 14, 3)
    >>> metric = AccelerationError()
    >>> metric.update(still, still)
    >>> metric.compute().item()
    0.0
    """

    is_differentiable = False
    higher_is_better = False
    plot_lower_bound = 0.0

    pred_points: list[Tensor]  # (N, J, 3)
    target_points: list[Tensor]  # (N, J, 3)
    frame_keys: list[Tensor]  # (N, 2) clip, frame
    joints_seen: list[Tensor]  # (N, J)

    def __init__(
        self,
        across_clips: bool = False,
        joints: Sequence[str] | None = None,
        groups: Groups | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.across_clips = across_clips
        self.joints = tuple(joints or ())
        self.groups = group_indices(self.joints, groups)
        self._clips = 0
        self.add_rows("pred_points")
        self.add_rows("target_points")
        self.add_rows("frame_keys", torch.int64)
        self.add_rows("joints_seen", torch.uint8)

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        visible: Tensor | None = None,
        clip_ids: Tensor | None = None,
        frame_ids: Tensor | None = None,
    ) -> None:
        """Adds frames.

        Args:
            pred: (B, T, J, 3) metres: clips of consecutive frames; or (N, J, 3): frames, which need both ids.
            target: Same shape.
            visible: (B, T) or (N,) bool, False where a frame has no label; or (B, T, J) or (N, J), where a joint has
                none.
            clip_ids: (B,) or (N,), unique per clip (per video, where windows of a video follow each other); without,
                every clip of the batch is one of its own, and repeated samples cannot be told.
            frame_ids: (B, T) or (N,) frame numbers in the clip; without, 0 .. T - 1.

        Raises:
            ValueError: Shapes differ, or frames come without ids.
        """
        if pred.shape != target.shape or pred.ndim not in (3, 4):
            raise ValueError(
                f"prediction {tuple(pred.shape)} and target {tuple(target.shape)}: need (B, T, J, 3) twice"
            )
        if pred.ndim == 3 and (clip_ids is None or frame_ids is None):
            raise ValueError("frames (N, J, 3) need clip_ids and frame_ids")
        lead = pred.shape[:-2]
        if clip_ids is None:
            clip_ids = -1 - (((self._clips + torch.arange(lead[0])) << 20) | process_rank())
            self._clips += lead[0]
        clips = clip_ids.cpu().reshape(-1, *[1] * (len(lead) - 1)).expand(lead)
        frames = (torch.arange(lead[-1]) if frame_ids is None else frame_ids.cpu()).expand(lead)
        seen = torch.ones(lead, dtype=torch.bool) if visible is None else visible > 0
        if seen.ndim <= len(lead):
            seen = seen[..., None]
        self.append(
            pred_points=pred.reshape(-1, *pred.shape[-2:]),
            target_points=target.reshape(-1, *pred.shape[-2:]),
            frame_keys=torch.stack([clips, frames], -1).reshape(-1, 2),
            joints_seen=seen.expand(pred.shape[:-1]).reshape(-1, pred.shape[-2]),
        )

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        return [LABEL, *self.joints, *self.groups]

    def values(self) -> dict[str, float]:
        """Computes the mean over all valid triples, of all joints and of each set asked for."""
        keys = self.rows("frame_keys", 2).numpy()
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys = keys[order]
        fresh = np.ones(len(keys), dtype=bool)
        fresh[1:] = (keys[1:] != keys[:-1]).any(1)
        keys, order = keys[fresh], order[fresh]
        if len(keys) < 3:
            return dict.fromkeys(self.names(), float("nan"))
        errors, counted = self._errors(torch.from_numpy(order), keys)
        everything = list(range(errors.shape[1]))
        sets = {LABEL: everything, **{name: [j] for j, name in enumerate(self.joints)}, **self.groups}
        return {name: _mean(errors[:, members], counted[:, members]) for name, members in sets.items()}

    def _errors(self, order: Tensor, keys: Int64) -> tuple[Float64, Bool]:
        """Returns the errors (N - 2, J) of frames in an order, with keys (N, 2), and which of them count."""
        pred, target = (self.rows(name, 1, 3)[order] for name in ("pred_points", "target_points"))
        errors = joint_acceleration_errors(pred, target).numpy()
        counted = in_three_frames(self.rows("joints_seen", 1)[order] > 0, 0).numpy() & np.isfinite(errors)
        if not self.across_clips:
            same = (keys[2:, 0] == keys[:-2, 0]) & (keys[2:, 1] == keys[:-2, 1] + 2)
            counted &= same[:, None]
        return errors, counted

    def compute(self) -> Any:
        """Returns the mean error in mm/frame^2 (a float64 scalar), or a dict where breakdowns were asked for."""
        values = self.computed()
        return values if len(values) > 1 else values[LABEL]


def _mean(errors: Float64, counted: Bool) -> float:
    return float(errors[counted].mean()) if counted.any() else float("nan")

"""MAED's published evaluation in one go, to compare with its recorded numbers."""

import torch
from torch import Tensor

from posekit.metrics import acceleration, acceleration_error, mpjpe, pa_mpjpe, pve
from posekit.metrics.joint_rows import centred
from posekit_maed.evaluation import HIPS


def summarize(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pred_vertices: Tensor | None = None,
    target_vertices: Tensor | None = None,
    official: bool = False,
) -> dict[str, float]:
    """Errors of consecutive poses in mm: ``MPJPE``, ``PA-MPJPE``, ``PVE``, ``acceleration`` and its error.

    Args:
        pred: (N, J, 3) metres, joints 2 and 3 the hips.
        target: (N, J, 3) metres.
        weight: (N, J), 0 where a joint has no label; None: all labelled.
        pred_vertices: (N, V, 3) metres.
        target_vertices: (N, V, 3) metres; compared without any alignment.
        official: Treat joints without label as the published code does: prediction and target are set to 0 before the
            hips' midpoint is subtracted, and they count. Otherwise they are left out, and so is the acceleration of
            triples of frames that hold one, and ``MPJPE`` of poses where a hip has no label.
    """
    if official and weight is not None:
        seen = (weight > 0)[..., None]
        pred, target, weight = pred.where(seen, 0.0), target.where(seen, 0.0), None
    aligned = pa_mpjpe(pred, target, weight)  # before what may lie under an unlabelled hip is taken off all joints
    pred, target = centred(pred.double(), HIPS), centred(target.double(), HIPS)
    seen_frames = None if weight is None else (weight > 0).all(-1)
    result = {
        "MPJPE": _mean(mpjpe(pred, target, weight, HIPS)),
        "PA-MPJPE": _mean(aligned),
        "acceleration": _mean(acceleration(pred)),
        "acceleration_error": _mean(acceleration_error(pred, target, seen_frames)),
    }
    if pred_vertices is not None and target_vertices is not None:
        result["PVE"] = _mean(pve(pred_vertices, target_vertices))
    return result


def _mean(values: Tensor) -> float:
    known = values[torch.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")

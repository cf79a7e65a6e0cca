"""``posekit evaluate h36m``: files of 3D poses, and their errors, by action where names of images tell it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.errors import UserError
from posekit.metrics._coco_match import Bools, Floats
from posekit.metrics.coco_files import content_of
from posekit.metrics.mpjpe import MPJPE, NMPJPE, PAMPJPE
from posekit.metrics.pose_files import METRES, PoseTable, check_finite, load_numpy, poses_of
from posekit.skeletons import H36M17


def evaluate_h36m(gt: str | Path, results: str | Path, unit: str = "m", root: int = 0) -> PoseTable:
    """MPJPE, PA-MPJPE and N-MPJPE in mm, in all and by action where the names of images tell it.

    Args:
        gt: .npz with ``S`` (N, J, 3 or 4) (mmpose's files), ``joints3d`` or ``positions_3d``; optional ``imgname`` or
            ``action``; a fourth column is the weight. Or .npy, or JSON.
        results: .npz with ``joints3d``, ``pred`` or ``S``, .npy, or a JSON list of N poses.
        unit: ``m`` or ``mm``, of both files.
        root: Joint that both poses are centred on.

    Raises:
        UserError: A file is missing or wrong.
    """
    target, pred, weight, names = _aligned(Path(gt), Path(results), unit)
    if not 0 <= root < target.shape[1]:
        raise UserError(
            f"root is joint {root}, but the poses of {Path(gt).name} have joints 0 to {target.shape[1] - 1}"
        )
    joints = H36M17.joints if target.shape[1] == len(H36M17) else None
    metrics = [cls(root=root, joints=joints, sync_on_compute=False) for cls in (MPJPE, PAMPJPE, NMPJPE)]
    labels = [metric.label for metric in metrics]

    def measure(chosen: Bools) -> list[dict[str, float]]:
        """Returns each metric's numbers over the chosen poses."""
        rows = [torch.from_numpy(values[chosen]) for values in (pred, target, weight)]
        return [_measure(metric, rows) for metric in metrics]

    overall = measure(np.ones(len(target), dtype=bool))
    values: dict[str, Any] = {"poses": len(target)}
    for label, entries in zip(labels, overall, strict=True):
        values |= {label: entries[label]} | {f"{label}/{k}": v for k, v in entries.items() if k != label}
    rows = [("all", [entries[label] for label, entries in zip(labels, overall, strict=True)])]
    actions = np.array(_actions(names))
    for action in sorted(set(actions.tolist())):
        cells = [entries[label] for label, entries in zip(labels, measure(actions == action), strict=True)]
        values |= {f"{label}/action/{action}": cell for label, cell in zip(labels, cells, strict=True)}
        rows.append((action, cells))
    if len(rows) > 1:
        means = np.mean([cells for _, cells in rows[1:]], axis=0).tolist()
        values |= {f"{label}/mean of actions": mean for label, mean in zip(labels, means, strict=True)}
        rows.append(("mean of actions", means))
    return PoseTable(values, [f"{label} mm" for label in labels], rows)


def _aligned(gt: Path, results: Path, unit: str) -> tuple[Floats, Floats, Floats, list[str]]:
    """Reads and checks both files: poses (N, J, 3) in metres, true and predicted, weights (N, J), and names."""
    target, names = _poses3d(gt)
    pred, _ = _poses3d(results)
    weight = target[..., 3] if target.shape[-1] == 4 else np.ones(target.shape[:2])
    target, pred = target[..., :3] * METRES[unit], pred[..., :3] * METRES[unit]
    if pred.shape != target.shape:
        raise UserError(f"{results.name}: poses of shape {pred.shape}, {gt.name} has {target.shape}")
    check_finite(pred, results)
    check_finite(np.where(weight[..., None] > 0, target, 0), gt)
    check_finite(weight, gt)
    if not (weight > 0).any():
        raise UserError(f"{gt.name} has no joint that counts, in {len(target)} poses")
    return target, pred, weight, names


def _measure(metric: MPJPE | PAMPJPE | NMPJPE, rows: Sequence[torch.Tensor]) -> dict[str, float]:
    """Returns a metric's numbers by name, its own under its label."""
    metric.reset()
    metric.update(*rows)
    result = metric.compute()
    return {k: float(v) for k, v in (result if isinstance(result, dict) else {metric.label: result}).items()}


def _actions(names: Sequence[str]) -> list[str]:
    """Reads actions from names such as ``S9_Walking_1.54138969_000001.jpg`` or plain ``Walking 1``."""
    actions = []
    for name in names:
        match = re.match(r"(?:S\d+_)?([A-Za-z]+)", Path(str(name)).name)
        actions.append(match.group(1) if match else "other")
    return actions


def _text(name: Any) -> str:
    """Returns a name as text; tools that write HDF5 or Python 2's arrays keep names as bytes."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _poses3d(path: Path) -> tuple[Floats, list[str]]:
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    if path.suffix == ".json":
        _, content = content_of(path, "poses")
        poses, names = poses_of(content, path), []
    else:
        arrays = load_numpy(path)
        key = next((k for k in ("joints3d", "pred", "S", "positions_3d", "") if k in arrays), None)
        if key is None:
            raise UserError(
                f"{path.name} has none of the arrays joints3d, pred, S, positions_3d; it has {', '.join(arrays)}"
            )
        poses = poses_of(arrays[key], path)
        named = next((k for k in ("action", "imgname") if k in arrays), None)
        names = [_text(n) for n in np.atleast_1d(arrays[named])] if named else []
    if poses.ndim != 3 or poses.shape[-1] not in (3, 4):
        raise UserError(f"{path.name}: poses of shape {poses.shape}, needed is (N, J, 3)")
    if names and len(names) != len(poses):
        raise UserError(f"{path.name}: {len(names)} names for {len(poses)} poses")
    return poses, names

"""``posekit evaluate h36m``: files of 3D poses, and their errors, by action where names of images tell it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from posekit.arrays import Bool, Float64
from posekit.errors import UserError
from posekit.metrics.coco_files import content_of
from posekit.metrics.mpjpe import MPJPE, NMPJPE, PAMPJPE
from posekit.metrics.pose_files import (
    METRES,
    PoseTable,
    check_finite,
    check_unit,
    compare_units,
    is_prediction,
    load_numpy,
    poses_of,
    row_arrays,
)
from posekit.metrics.shared_joints import NamedJoints, joints_of, named_joints, shared_joints
from posekit.skeletons import H36M17


def evaluate_h36m(gt: str | Path, results: str | Path, unit: str = "m", root: int = 0) -> PoseTable:
    """MPJPE, PA-MPJPE and N-MPJPE in mm, in all and by action where the names of images tell it.

    Where both files name their joints (``joints`` and ``skeleton``), or the ground truth has 17 without names, which
    are then Human3.6M's, joints are compared by name, and those that one file lacks not at all; else by their order.
    Poses whose root has weight 0 are left out of MPJPE and N-MPJPE; a note says how many.

    Args:
        gt: .npz with ``S`` (N, J, 3 or 4) (mmpose's files), ``joints3d`` or ``positions_3d``; optional ``imgname`` or
            ``action``; a fourth column is the weight, at least 0. Or .npy, or JSON.
        results: .npz with ``joints3d``, ``pred`` or ``S``, .npy, or a JSON list of N poses; also ``results.npz`` and
            ``results.json`` of a prediction.
        unit: ``m`` or ``mm``, of both files, but for a prediction's, which is in metres.
        root: Joint of the ground truth that both poses are centred on.

    Raises:
        UserError: A file is missing or wrong, or in the other unit, or the two have different joints that are not known
            by name.
    """
    pair = _aligned(Path(gt), Path(results), unit, root)
    target, pred, weight, names = pair.target, pair.pred, pair.weight, pair.actions
    classes = (MPJPE, PAMPJPE, NMPJPE)
    metrics = [cls(root=pair.root, joints=pair.joints, sync_on_compute=False) for cls in classes]
    labels = [metric.label for metric in metrics]

    def measure(chosen: Bool) -> list[dict[str, float]]:
        """Returns each metric's numbers over the chosen poses."""
        rows = [torch.from_numpy(values[chosen]) for values in (pred, target, weight)]
        return [_measure(metric, rows) for metric in metrics]

    overall = measure(np.ones(len(target), dtype=bool))
    values: dict[str, Any] = {"poses": len(target)}
    values |= {"joints": target.shape[1]} if pair.notes else {}
    rootless = int((weight[:, pair.root] <= 0).sum())
    values |= {"poses without root": rootless} if rootless else {}
    for label, entries in zip(labels, overall, strict=True):
        values |= {label: entries[label]} | {f"{label}/{k}": v for k, v in entries.items() if k != label}
    rows = [("all", [entries[label] for label, entries in zip(labels, overall, strict=True)])]
    actions = np.array(_actions(names))
    for action in sorted(set(actions.tolist())):
        cells = [entries[label] for label, entries in zip(labels, measure(actions == action), strict=True)]
        values |= {f"{label}/action/{action}": cell for label, cell in zip(labels, cells, strict=True)}
        rows.append((action, cells))
    if len(rows) > 1:
        means = [_mean_of(column) for column in zip(*(cells for _, cells in rows[1:]), strict=True)]
        values |= {f"{label}/mean of actions": mean for label, mean in zip(labels, means, strict=True)}
        rows.append(("mean of actions", means))
    notes = [*pair.notes, *([_rootless_note(pair, rootless)] if rootless else [])]
    return PoseTable(values, [f"{label} mm" for label in labels], rows, notes, pair.joints or ())


def _mean_of(actions: Sequence[float]) -> float:
    """Returns the mean over the actions that have a number: one may have no pose with a labelled root."""
    known = [value for value in actions if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _rootless_note(pair: _Pair, count: int) -> str:
    root = f"joint {pair.root}" if pair.joints is None else pair.joints[pair.root]
    verb = "pose has" if count == 1 else "poses have"
    what = f"{count:,} {verb} no labelled root ({root}), of {len(pair.target):,}"
    return f"{what}: MPJPE and N-MPJPE leave them out, and actions without others"


class _Poses(NamedTuple):
    """The poses of a file: (N, J, 3 or 4), the actions or pictures, which joints, and whether a prediction wrote it."""

    points: Float64
    actions: list[str]
    named: NamedJoints | None
    predicted: bool


class _Pair(NamedTuple):
    """Poses (N, J, 3) in metres, true and predicted, weights (N, J), actions, and the joints' names and root."""

    target: Float64
    pred: Float64
    weight: Float64
    actions: list[str]
    joints: tuple[str, ...] | None
    root: int
    notes: list[str]


def _aligned(gt: Path, results: Path, unit: str, root: int) -> _Pair:
    """Reads and checks both files, and takes the joints that they share."""
    truth, found = _poses3d(gt), _poses3d(results)
    points = truth.points
    for path, poses in ((gt, truth), (results, found)):
        if not len(poses.points):
            raise UserError(f"{path.name} holds no pose")
    weight = points[..., 3] if points.shape[-1] == 4 else np.ones(points.shape[:2])
    target, pred = (poses.points[..., :3] * METRES["m" if poses.predicted else unit] for poses in (truth, found))
    check_finite(pred, results)
    check_finite(np.where(weight[..., None] > 0, target, 0), gt)
    check_finite(weight, gt)
    if (weight < 0).any():
        row = int((weight < 0).any(1).argmax())
        raise UserError(f"{gt.name}: pose [{row}] has a weight below 0: {weight[row].min():g}")
    if not 0 <= root < target.shape[1]:
        raise UserError(f"root is joint {root}, but the poses of {gt.name} have joints 0 to {target.shape[1] - 1}")
    if not truth.predicted:
        check_unit(target, weight > 0, unit, gt)
    own = truth.named or (joints_of(H36M17) if target.shape[1] == len(H36M17) else None)
    pair = _Pair(target, pred, weight, truth.actions, own.names if own is not None else None, root, [])
    if own is not None and found.named is not None and own.names != found.named.names:
        pair = _by_name(pair, own, found.named, gt, results)
    if pair.pred.shape != pair.target.shape:
        raise UserError(f"{results.name}: poses of shape {pred.shape}, {gt.name} has {target.shape}")
    if not (pair.weight > 0).any():
        raise UserError(f"{gt.name} has no joint that counts, in {len(target)} poses")
    compare_units(pair.target, pair.pred, pair.weight > 0)
    return pair


def _by_name(pair: _Pair, own: NamedJoints, found: NamedJoints, gt: Path, results: Path) -> _Pair:
    """Takes the joints that both files have."""
    shared = shared_joints(own, found, gt, results)
    name = own.names[pair.root]
    if name not in shared.names:
        others = ", ".join(f"{own.names.index(n)} {n}" for n in shared.names if n in own.names)
        raise UserError(f"root is joint {pair.root} ({name}), which {results.name} lacks; give --root of: {others}")
    return pair._replace(
        target=shared.of_truth(pair.target),
        pred=shared.of_found(pair.pred),
        weight=shared.of_weight(pair.weight),
        joints=shared.names,
        root=shared.names.index(name),
        notes=[shared.note(own, found, gt, results)],
    )


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


def _poses3d(path: Path) -> _Poses:
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    arrays: dict[str, Any]
    if path.suffix == ".json":
        content = content_of(path, "poses")[1]
        arrays = row_arrays(content) or {"": content}
    else:
        arrays = load_numpy(path, "an array S (N, J, 3)")
    key = next((k for k in ("joints3d", "pred", "S", "positions_3d", "") if k in arrays), None)
    if key is None:
        raise UserError(
            f"{path.name} has none of the arrays joints3d, pred, S, positions_3d; it has {', '.join(arrays)}"
        )
    poses = poses_of(arrays[key], path)
    told = next((k for k in ("action", "imgname") if k in arrays), None)
    names = [_text(n) for n in np.atleast_1d(arrays[told])] if told else []
    if poses.ndim != 3 or poses.shape[-1] not in (3, 4):
        raise UserError(f"{path.name}: poses of shape {poses.shape}, needed is (N, J, 3)")
    if names and len(names) != len(poses):
        raise UserError(f"{path.name}: {len(names)} names for {len(poses)} poses")
    return _Poses(poses, names, named_joints(arrays, poses.shape[1], path), is_prediction(arrays))

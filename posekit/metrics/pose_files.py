"""Files for ``posekit evaluate mpii | h36m | 3dhp``: reading, checking, and the usual tables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.errors import UserError, listed, one_line
from posekit.mat5 import read_mat5
from posekit.metrics._coco_match import Floats
from posekit.metrics.coco_files import content_of
from posekit.metrics.mpjpe import MPJPE, NMPJPE, PAMPJPE
from posekit.metrics.pck import PCK3D, PCKh
from posekit.skeletons import H36M17, MPII16

TEST_JOINTS_3DHP = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
_EVALUATED_3DHP, _ROOT_3DHP = 14, 14  # PCK is over the first 14 joints, both poses centred on the pelvis
_LIMIT = 1e15  # of any number; squares of much larger ones overflow
_METRES = {"m": 1.0, "mm": 0.001}


@dataclass
class PoseTable:
    """Numbers by name, and the table that is printed."""

    values: dict[str, Any]
    columns: list[str]
    rows: list[tuple[str, list[float]]]


# -- MPII -------------------------------------------------------------------------------------------------------------


def evaluate_mpii(gt: str | Path, results: str | Path) -> PoseTable:
    """PCKh of MPII's validation set.

    The first pixel is 1 in the .mat files, as in MATLAB, and 0 in the JSON files, as everywhere in posekit.

    Args:
        gt: ``gt_valid.mat`` as HRNet's evaluation reads it: ``pos_gt_src`` (16, 2, N), ``jnt_missing`` (16, N),
            ``headboxes_src`` (2, 2, N). Or a JSON list of people with ``joints`` (16 x 2), ``joints_vis`` (16) and
            ``head_box`` [x1, y1, x2, y2].
        results: ``pred.mat`` with ``preds`` (N, 16, 2), or a JSON list of N poses 16 x 2 (or x 3), or of dicts with
            ``keypoints``.

    Raises:
        UserError: A file is missing or wrong.
    """
    target, visible, heads = _mpii_truth(Path(gt))
    pred = _mpii_results(Path(results))
    if len(pred) != len(target):
        raise UserError(
            f"{Path(results).name}: {len(pred)} poses for {len(target)} annotated people of {Path(gt).name}"
        )
    metric = PCKh(joints=MPII16.joints, sync_on_compute=False)
    metric.update(*(torch.from_numpy(a) for a in (pred, target, heads, visible)))
    values = {name: float(value) for name, value in metric.compute().items()}
    keys = [*metric.columns, "PCKh", "PCKh@0.1"]
    headings = [*metric.columns, "Mean", "Mean@0.1"]
    return PoseTable({**values, "people": len(target)}, headings, [("PCKh@0.5", [values[k] for k in keys])])


def _mat(path: Path, what: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"{what} file {path} does not exist")
    return read_mat5(path, [], f"{what} file")


def _field(content: Mapping[str, Any], name: str, path: Path) -> Floats:
    if content.get(name) is None:
        known = ", ".join(k for k, value in content.items() if value is not None and not k.startswith("__"))
        raise UserError(f"{path.name} has no {name!r}; it has {known}")
    found = np.asarray(content[name])
    if found.dtype.kind not in "buif":
        raise UserError(f"{path.name}: {name!r} holds no numbers")
    return found.astype(np.float64)


def _per_person(content: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Floats:
    """Returns an array (N, *shape), which the file has with N last."""
    found = _field(content, name, path)
    if found.ndim != len(shape) + 1 or found.shape[:-1] != shape:
        wanted = ", ".join(map(str, shape))
        raise UserError(f"{path.name}: {name!r} has shape {found.shape}, needed is ({wanted}, people)")
    return np.moveaxis(found, -1, 0)


def _mpii_truth(path: Path) -> tuple[Floats, Floats, Floats]:
    if path.suffix == ".mat":
        content = _mat(path, "ground truth")
        joints = _per_person(content, "pos_gt_src", (16, 2), path) - 1
        missing = _per_person(content, "jnt_missing", (16,), path)
        boxes = _per_person(content, "headboxes_src", (2, 2), path).reshape(-1, 4)
        if not len(joints) == len(missing) == len(boxes):
            raise UserError(f"{path.name}: {len(joints)} poses, {len(missing)} columns jnt_missing, {len(boxes)} boxes")
        return joints, 1 - missing, boxes
    _, people = content_of(path, "ground truth")
    if not isinstance(people, list):
        raise UserError(f"{path.name}: no list of people")
    for i, person in enumerate(people):
        for name, size in (("joints", 16), ("joints_vis", 16), ("head_box", 4)):
            value = person.get(name) if isinstance(person, Mapping) else None
            if not isinstance(value, list) or len(value) != size:
                hint = "; MPII's official head boxes are in gt_valid.mat" if name == "head_box" else ""
                raise UserError(f"{path.name}: person [{i}] has no {name} of length {size}{hint}")
    rows = [[p[k] for p in people] for k in ("joints", "joints_vis", "head_box")]
    joints, visible, boxes = (_poses(r, path) for r in rows)
    if joints.ndim != 3 or joints.shape[2] < 2 or visible.ndim != 2 or boxes.ndim != 2:
        raise UserError(f"{path.name}: joints must be 16 pairs, joints_vis 16 numbers and head_box 4 numbers each")
    for name, values in (("joints", joints[..., :2]), ("joints_vis", visible), ("head_box", boxes)):
        _finite(values, path, f"person [{{}}]'s {name}")
    return joints[..., :2], (visible > 0).astype(np.float64), boxes


def _mpii_results(path: Path) -> Floats:
    if path.suffix == ".mat":
        poses = _field(_mat(path, "results"), "preds", path) - 1
    else:
        _, content = content_of(path, "results")
        if not isinstance(content, list):
            raise UserError(f"{path.name}: no list of poses")
        for i, entry in enumerate(content):
            if isinstance(entry, Mapping) and "keypoints" not in entry:
                raise UserError(f"{path.name}: result [{i}] has no keypoints")
        poses = _poses([e["keypoints"] if isinstance(e, Mapping) else e for e in content], path)
    if poses.ndim == 2 and poses.shape[1] % 16 == 0:
        poses = poses.reshape(len(poses), 16, -1)
    if poses.ndim != 3 or poses.shape[1] != 16 or poses.shape[2] < 2:
        raise UserError(f"{path.name}: poses of shape {poses.shape}, needed is (N, 16, 2)")
    _finite(poses[..., :2], path)
    return poses[..., :2]


def _poses(content: Any, path: Path) -> Floats:
    try:
        found = np.asarray(content)
        if found.dtype.kind not in "buif":  # text would be read as numbers
            raise TypeError
        return found.astype(np.float64)
    except (OverflowError, TypeError, ValueError):
        raise UserError(f"{path.name}: poses of different length, or something that is no number") from None


def _finite(poses: Floats, path: Path, what: str = "pose [{}]") -> None:
    wrong = ~(np.abs(poses) < _LIMIT).reshape(len(poses), -1).all(1)
    if wrong.any():
        label = what.format(int(wrong.argmax()))
        raise UserError(f"{path.name}: {label} holds NaN or infinity, or more than {_LIMIT:g}")


# -- Human3.6M --------------------------------------------------------------------------------------------------------


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
    target, names = _poses3d(Path(gt))
    pred, _ = _poses3d(Path(results))
    weight = target[..., 3] if target.shape[-1] == 4 else np.ones(target.shape[:2])
    target, pred = target[..., :3] * _METRES[unit], pred[..., :3] * _METRES[unit]
    if pred.shape != target.shape:
        raise UserError(f"{Path(results).name}: poses of shape {pred.shape}, {Path(gt).name} has {target.shape}")
    if not 0 <= root < target.shape[1]:
        raise UserError(
            f"root is joint {root}, but the poses of {Path(gt).name} have joints 0 to {target.shape[1] - 1}"
        )
    _finite(pred, Path(results))
    _finite(np.where(weight[..., None] > 0, target, 0), Path(gt))
    _finite(weight, Path(gt))
    if not (weight > 0).any():
        raise UserError(f"{Path(gt).name} has no joint that counts, in {len(target)} poses")
    joints = H36M17.joints if target.shape[1] == len(H36M17) else None
    metrics = [cls(root=root, joints=joints, sync_on_compute=False) for cls in (MPJPE, PAMPJPE, NMPJPE)]
    labels = [m.label for m in metrics]
    actions = _actions(names)
    values: dict[str, Any] = {"poses": len(target)}
    rows = []
    groups = [("all", np.ones(len(target), dtype=bool))]
    groups += [(a, np.array([x == a for x in actions])) for a in sorted(set(actions))]
    for group, chosen in groups:
        cells = []
        for metric in metrics:
            metric.reset()
            metric.update(*(torch.from_numpy(a[chosen]) for a in (pred, target, weight)))
            result = metric.compute()
            entries = (
                {k: float(v) for k, v in result.items()} if isinstance(result, dict) else {metric.label: float(result)}
            )
            cells.append(entries[metric.label])
            if group == "all":
                values[metric.label] = cells[-1]
                values |= {f"{metric.label}/{k}": v for k, v in entries.items() if k != metric.label}
            else:
                values[f"{metric.label}/action/{group}"] = cells[-1]
        rows.append((group, cells))
    if len(rows) > 1:
        means = [float(np.mean([cells[i] for _, cells in rows[1:]])) for i in range(len(labels))]
        values |= {f"{label}/mean of actions": m for label, m in zip(labels, means, strict=True)}
        rows.append(("mean of actions", means))
    return PoseTable(values, [f"{label} mm" for label in labels], rows)


def _actions(names: Sequence[str]) -> list[str]:
    """Reads actions from names such as ``S9_Walking_1.54138969_000001.jpg`` or plain ``Walking 1``."""
    actions = []
    for name in names:
        match = re.match(r"(?:S\d+_)?([A-Za-z]+)", Path(str(name)).name)
        actions.append(match.group(1) if match else "other")
    return actions


def _poses3d(path: Path) -> tuple[Floats, list[str]]:
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    if path.suffix == ".json":
        _, content = content_of(path, "poses")
        poses, names = _poses(content, path), []
    else:
        arrays = _numpy(path)
        key = next((k for k in ("joints3d", "pred", "S", "positions_3d", "") if k in arrays), None)
        if key is None:
            raise UserError(
                f"{path.name} has none of the arrays joints3d, pred, S, positions_3d; it has {', '.join(arrays)}"
            )
        poses = _poses(arrays[key], path)
        named = next((k for k in ("action", "imgname") if k in arrays), None)
        names = [str(n) for n in np.atleast_1d(arrays[named])] if named else []
    if poses.ndim != 3 or poses.shape[-1] not in (3, 4):
        raise UserError(f"{path.name}: poses of shape {poses.shape}, needed is (N, J, 3)")
    if names and len(names) != len(poses):
        raise UserError(f"{path.name}: {len(names)} names for {len(poses)} poses")
    return poses, names


def _numpy(path: Path) -> dict[str, Any]:
    try:
        loaded = np.load(path)
        return {"": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except Exception as error:
        raise UserError(f"{path}: no numpy file that can be read ({one_line(error)})") from None


# -- MPI-INF-3DHP -----------------------------------------------------------------------------------------------------


def evaluate_3dhp(gt: str | Path, results: str | Path, unit: str = "mm") -> PoseTable:
    """PCK at 150 mm and AUC over 14 joints, MPJPE over all 17, pelvis-centred, by sequence and pooled.

    Args:
        gt: Folder with ``TS1`` .. ``TS6``, each with ``annot_data.mat`` (``univ_annot3`` in mm, ``valid_frame``; needs
            h5py), or an .npz with arrays ``TS1`` (F, 17, 3) and optionally ``TS1_valid`` (F,).
        results: .npz or JSON with one (F, 17, 3) array per sequence, of all frames or of the valid ones.
        unit: ``m`` or ``mm``, of .npz and JSON files.

    Raises:
        UserError: A file is missing or wrong.
    """
    truth = _sequences_3dhp(Path(gt), unit)
    pred = _named_poses(Path(results))
    others = [name for name in pred if name not in truth and not name.endswith("_valid")]
    if others:
        text = f"{Path(results).name}: sequences that the ground truth lacks are left out: {listed(others)}"
        warnings.warn(text, stacklevel=2)
    # Both poses are centred on the pelvis before the metrics see them, since it is none of the 14 joints.
    pooled = PCK3D(sync_on_compute=False, joints=TEST_JOINTS_3DHP[:_EVALUATED_3DHP])
    error = MPJPE(root=None, sync_on_compute=False)
    values: dict[str, Any] = {}
    rows = []
    for name, (target, valid) in truth.items():
        if name not in pred:
            raise UserError(f"{Path(results).name} has no sequence {name}; it has {', '.join(sorted(pred))}")
        found = pred[name] * _METRES[unit]
        if found.ndim == 3 and len(found) == len(valid):
            found = found[valid]
        if not valid.any():
            raise UserError(f"{Path(gt).name}: {name} has no valid frame")
        if found.shape != target[valid].shape:
            raise UserError(f"{Path(results).name}: {name} has shape {found.shape}, needed is {target[valid].shape}")
        _finite(found, Path(results))
        _finite(target[valid], Path(gt))
        single, own_error = PCK3D(sync_on_compute=False), MPJPE(root=None, sync_on_compute=False)
        pair = [torch.from_numpy(a - a[:, _ROOT_3DHP : _ROOT_3DHP + 1]) for a in (found, target[valid])]
        for metric, joints in ((single, _EVALUATED_3DHP), (pooled, _EVALUATED_3DHP), (own_error, 17), (error, 17)):
            metric.update(*(p[:, :joints] for p in pair))
        cells = [float(single.compute()["PCK"]), float(single.compute()["AUC"]), float(own_error.compute())]
        rows.append((name, cells))
        values |= {f"{k}/{name}": c for k, c in zip(("PCK", "AUC", "MPJPE"), cells, strict=True)}
    total = {k: float(v) for k, v in pooled.compute().items()}
    rows.append(("all", [total["PCK"], total["AUC"], float(error.compute())]))
    by_joint = {f"PCK/{k}": v for k, v in total.items() if k not in ("PCK", "AUC")}
    return PoseTable(
        {
            "PCK": total["PCK"],
            "AUC": total["AUC"],
            "MPJPE": float(error.compute()),
            **by_joint,
            **values,
            "frames": sum(int(valid.sum()) for _, valid in truth.values()),
        },
        ["PCK@150mm", "AUC", "MPJPE mm"],
        rows,
    )


def _named_poses(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    content = content_of(path, "poses")[1] if path.suffix == ".json" else _numpy(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path.name}: no dict of sequences")
    return {k: _poses(v, path) for k, v in content.items()}


def _sequences_3dhp(path: Path, unit: str) -> dict[str, tuple[Floats, Any]]:
    if path.is_dir():
        files = sorted(path.glob("TS*/annot_data.mat"))
        if not files:
            raise UserError(f"{path} has no TS1/annot_data.mat (the extracted test set of MPI-INF-3DHP)")
        return {file.parent.name: _annotation_3dhp(file) for file in files}
    content = _named_poses(path)
    sequences = {}
    for name, poses in content.items():
        if name.endswith("_valid"):
            continue
        if poses.ndim != 3 or poses.shape[1:] != (17, 3):
            raise UserError(f"{path.name}: {name} has shape {poses.shape}, needed is (F, 17, 3)")
        valid = content.get(name + "_valid", np.ones(len(poses))) > 0
        if valid.shape != (len(poses),):
            raise UserError(f"{path.name}: {name}_valid has shape {valid.shape} for {len(poses)} frames of {name}")
        sequences[name] = (poses * _METRES[unit], valid)
    lost = [name for name in content if name.endswith("_valid") and name.removesuffix("_valid") not in sequences]
    if lost:
        raise UserError(f"{path.name} has {lost[0]}, but no sequence {lost[0].removesuffix('_valid')}")
    if not sequences:
        raise UserError(f"{path.name} has no sequence (TS1 with poses (F, 17, 3), ...)")
    return sequences


def _annotation_3dhp(path: Path) -> tuple[Floats, Any]:
    try:
        h5py = import_module("h5py")
    except ImportError:
        raise UserError("annot_data.mat is an HDF5 file: reading it needs h5py (pip install 'posekit[mat]')") from None
    try:
        with h5py.File(path) as file:
            # MATLAB's (3, 17, 1, F) is read with its axes reversed.
            poses = np.asarray(file["univ_annot3"], dtype=np.float64).reshape(-1, 17, 3)
            valid = np.asarray(file["valid_frame"]).reshape(-1) > 0
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path.parent.name}/{path.name} cannot be read: {one_line(error)}") from None
    if len(poses) != len(valid):
        raise UserError(f"{path.parent.name}/{path.name}: {len(valid)} entries of valid_frame for {len(poses)} frames")
    return poses * _METRES["mm"], valid

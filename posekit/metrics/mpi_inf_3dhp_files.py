"""``posekit evaluate 3dhp``: 3D poses of MPI-INF-3DHP's test sequences, their PCK, AUC, MPJPE and PA-MPJPE."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posekit.errors import UserError, listed
from posekit.mat_arrays import flags, frames_first, read_arrays
from posekit.metrics._coco_match import Bools, Floats
from posekit.metrics.coco_files import content_of
from posekit.metrics.mpjpe import MPJPE, PAMPJPE
from posekit.metrics.pck import PCK3D
from posekit.metrics.pose_files import METRES, PoseTable, check_finite, load_numpy, poses_of

TEST_JOINTS_3DHP = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
_EVALUATED_3DHP, _ROOT_3DHP = 14, 14  # PCK is over the first 14 joints, both poses centred on the pelvis


def evaluate_3dhp(gt: str | Path, results: str | Path, unit: str = "mm") -> PoseTable:
    """PCK at 150 mm and AUC over 14 joints, MPJPE over all 17, pelvis-centred, PA-MPJPE; by sequence and pooled.

    Args:
        gt: Folder with ``TS1`` .. ``TS6``, each with ``annot_data.mat`` (``univ_annot3`` in mm, ``valid_frame``; needs
            h5py), or an .npz with arrays ``TS1`` (F, 17, 3) and optionally ``TS1_valid`` (F,).
        results: .npz or JSON with one (F, 17, 3) array per sequence, of all frames or of the valid ones.
        unit: ``m`` or ``mm``, of .npz and JSON files.

    Raises:
        UserError: A file is missing or wrong.
    """
    truth = _sequences_3dhp(Path(gt), unit)
    pred = {name: poses * METRES[unit] for name, poses in _named_poses(Path(results)).items()}
    others = [name for name in pred if name not in truth and not name.endswith("_valid")]
    if others:
        text = f"{Path(results).name}: sequences that the ground truth lacks are left out: {listed(others)}"
        warnings.warn(text, stacklevel=2)
    pooled = _Errors(TEST_JOINTS_3DHP[:_EVALUATED_3DHP])
    values: dict[str, Any] = {}
    rows = []
    for name, (target, valid) in truth.items():
        found, wanted = (torch.from_numpy(p) for p in _valid_frames(name, target, valid, pred, Path(gt), Path(results)))
        own = _Errors()
        own.update(found, wanted)
        pooled.update(found, wanted)
        numbers = own.compute()
        rows.append((name, list(numbers.values())))
        values |= {f"{key}/{name}": number for key, number in numbers.items()}
    total = pooled.compute()
    columns = {"PCK": "PCK@150mm", "AUC": "AUC", "MPJPE": "MPJPE mm", "PA-MPJPE": "PA-MPJPE mm"}
    rows.append(("all", [total[key] for key in columns]))
    frames = sum(int(valid.sum()) for _, valid in truth.values())
    return PoseTable({**total, **values, "frames": frames}, list(columns.values()), rows)


class _Errors:
    """The metrics of one sequence, or of all together.

    Args:
        joints: Names of the joints of PCK, to have it of each as well.
    """

    def __init__(self, joints: tuple[str, ...] | None = None) -> None:
        self.pck = PCK3D(sync_on_compute=False, joints=joints)
        self.errors = [kind(root=None, sync_on_compute=False) for kind in (MPJPE, PAMPJPE)]

    def update(self, found: Tensor, wanted: Tensor) -> None:
        """Adds poses (F, 17, 3) in metres, both centred here: the pelvis is none of PCK's joints."""
        found, wanted = (p - p[:, _ROOT_3DHP : _ROOT_3DHP + 1] for p in (found, wanted))
        self.pck.update(found[:, :_EVALUATED_3DHP], wanted[:, :_EVALUATED_3DHP])
        for error in self.errors:
            error.update(found, wanted)

    def compute(self) -> dict[str, float]:
        """Returns PCK, AUC, MPJPE and PA-MPJPE, then PCK by joint."""
        pck = {key: float(value) for key, value in self.pck.compute().items()}
        errors = {error.label: float(error.compute()) for error in self.errors}
        by_joint = {f"PCK/{key}": value for key, value in pck.items() if key not in ("PCK", "AUC")}
        return {"PCK": pck["PCK"], "AUC": pck["AUC"], **errors, **by_joint}


def _valid_frames(
    name: str, target: Floats, valid: Bools, pred: Mapping[str, Floats], gt: Path, results: Path
) -> tuple[Floats, Floats]:
    """Returns a sequence's predicted and true poses (F, 17, 3) of its valid frames, checked."""
    if name not in pred:
        raise UserError(f"{results.name} has no sequence {name}; it has {', '.join(sorted(pred))}")
    found = pred[name]
    if found.ndim == 3 and len(found) == len(valid):
        found = found[valid]
    if not valid.any():
        raise UserError(f"{gt.name}: {name} has no valid frame")
    if found.shape != target[valid].shape:
        raise UserError(f"{results.name}: {name} has shape {found.shape}, needed is {target[valid].shape}")
    check_finite(found, results)
    check_finite(target[valid], gt)
    return found, target[valid]


def _named_poses(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    content = content_of(path, "poses")[1] if path.suffix == ".json" else load_numpy(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path.name}: no dict of sequences")
    return {k: poses_of(v, path) for k, v in content.items()}


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
        sequences[name] = (poses * METRES[unit], valid)
    lost = [name for name in content if name.endswith("_valid") and name.removesuffix("_valid") not in sequences]
    if lost:
        raise UserError(f"{path.name} has {lost[0]}, but no sequence {lost[0].removesuffix('_valid')}")
    if not sequences:
        raise UserError(f"{path.name} has no sequence (TS1 with poses (F, 17, 3), ...)")
    return sequences


def _annotation_3dhp(path: Path) -> tuple[Floats, Any]:
    """Reads poses (F, 17, 3) in metres and which frames are valid (F,) of an ``annot_data.mat``."""
    what = "annotation file"
    content = read_arrays(path, ["univ_annot3", "valid_frame"], what)
    # MATLAB's (3, 17, 1, F): HDF5 has its axes reversed, and copies have them in either order.
    poses = frames_first(content["univ_annot3"], (17, 3), f"{what} {path}: univ_annot3")
    valid = flags(content["valid_frame"], f"{what} {path}: valid_frame")
    if len(poses) != len(valid):
        raise UserError(f"{what} {path}: {len(valid)} entries of valid_frame for {len(poses)} frames")
    return poses * METRES["mm"], valid

"""``posekit evaluate 3dhp``: 3D poses of MPI-INF-3DHP's test sequences, their PCK, AUC, MPJPE and PA-MPJPE."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Bool, Float64
from posekit.errors import UserError, listed
from posekit.mat_arrays import flags, frames_first, read_arrays
from posekit.metrics.coco_files import content_of
from posekit.metrics.mpjpe import MPJPE, PAMPJPE
from posekit.metrics.pck import PCK3D
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
from posekit.metrics.shared_joints import NAME_KEYS, NamedJoints, SharedJoints, named_joints, shared_joints

if TYPE_CHECKING:
    from posekit.data.joint_maps import JointSource

TEST_JOINTS_3DHP = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
_EVALUATED_3DHP, _ROOT_3DHP = TEST_JOINTS_3DHP[:14], "pelvis"  # PCK is over these, both poses centred on the pelvis


def evaluate_3dhp(gt: str | Path, results: str | Path, unit: str = "mm") -> PoseTable:
    """PCK at 150 mm and AUC over 14 joints, MPJPE over all 17, pelvis-centred, PA-MPJPE; by sequence and pooled.

    Of a prediction in another joint set those joints count that both have; a note says how many.

    Args:
        gt: Folder with ``TS1`` .. ``TS6``, each with ``annot_data.mat`` (``univ_annot3`` in mm, ``valid_frame``; needs
            h5py), or an .npz with arrays ``TS1`` (F, 17, 3) and optionally ``TS1_valid`` (F,).
        results: .npz or JSON with one (F, 17, 3) array per sequence, of all frames or of the valid ones; with
            ``skeleton`` or ``joints`` (K names) also (F, K, 3). Or ``results.npz`` or ``results.json`` of a prediction
            on ``MPIINF3DHP``.
        unit: ``m`` or ``mm``, of .npz and JSON files, but for a prediction's, which is in metres.

    Raises:
        UserError: A file is missing or wrong, or in the other unit.
    """
    truth = _sequences_3dhp(Path(gt), unit)
    found = _predicted(Path(results), unit, {name: len(valid) for name, (_, valid) in truth.items()})
    others = [name for name in found.poses if name not in truth and not name.endswith("_valid")]
    if others:
        text = f"{Path(results).name}: sequences that the ground truth lacks are left out: {listed(others)}"
        warnings.warn(text, stacklevel=2)
    shared = _shared(found.named, Path(gt), Path(results))
    names = TEST_JOINTS_3DHP if shared is None else shared.names
    pooled = _Errors(names, by_joint=True)
    values: dict[str, Any] = {}
    rows = []
    compared = {
        name: _valid_frames(name, target, valid, found, Path(gt), Path(results))
        for name, (target, valid) in truth.items()
    }
    _compare_units(list(compared.values()))
    for name, poses in compared.items():
        if shared is not None:
            poses = shared.of_found(poses[0]), shared.of_truth(poses[1])
        pair = [torch.from_numpy(p) for p in poses]
        own = _Errors(names)
        own.update(*pair)
        pooled.update(*pair)
        numbers = own.compute()
        rows.append((name, list(numbers.values())))
        values |= {f"{key}/{name}": number for key, number in numbers.items()}
    total = pooled.compute()
    columns = {"PCK": "PCK@150mm", "AUC": "AUC", "MPJPE": "MPJPE mm", "PA-MPJPE": "PA-MPJPE mm"}
    rows.append(("all", [total[key] for key in columns]))
    values["frames"] = sum(int(valid.sum()) for _, valid in truth.values())
    table = PoseTable({**total, **values}, list(columns.values()), rows, joints=pooled.evaluated)
    if shared is not None and found.named is not None:
        table.values["joints"] = len(names)
        table.notes.append(shared.note(_OFFICIAL, found.named, Path(gt), Path(results)))
    return table


def _test_joints() -> JointSource:
    from posekit.data.body3d.mpi_inf_3dhp import TEST_JOINTS  # the data modules take seconds to import

    return TEST_JOINTS


_OFFICIAL = NamedJoints(TEST_JOINTS_3DHP, source=_test_joints, title="MPI-INF-3DHP's test joints")


def _shared(named: NamedJoints | None, gt: Path, results: Path) -> SharedJoints | None:
    """Returns the joints to compare; None where a prediction has the test set's, or names none."""
    if named is None or named.names == TEST_JOINTS_3DHP:
        return None
    shared = shared_joints(_OFFICIAL, named, gt, results)
    if _ROOT_3DHP not in shared.names:
        raise UserError(f"{results.name} ({named.title}) has no {_ROOT_3DHP}, on which poses are centred")
    return shared


class _Errors:
    """The metrics of one sequence, or of all together.

    Args:
        joints: Names of the joints of the poses; those of PCK are among them.
        by_joint: Have PCK of each joint as well.
    """

    def __init__(self, joints: tuple[str, ...], by_joint: bool = False) -> None:
        self.rows = [row for row, name in enumerate(joints) if name in _EVALUATED_3DHP]
        self.evaluated = tuple(joints[row] for row in self.rows)
        self.root = joints.index(_ROOT_3DHP)
        self.pck = PCK3D(sync_on_compute=False, joints=self.evaluated if by_joint else None)
        self.errors = [kind(root=None, sync_on_compute=False) for kind in (MPJPE, PAMPJPE)]

    def update(self, found: Tensor, wanted: Tensor) -> None:
        """Adds poses (F, J, 3) in metres, both centred here: the pelvis is none of PCK's joints."""
        found, wanted = (p - p[:, self.root : self.root + 1] for p in (found, wanted))
        self.pck.update(found[:, self.rows], wanted[:, self.rows])
        for error in self.errors:
            error.update(found, wanted)

    def compute(self) -> dict[str, float]:
        """Returns PCK, AUC, MPJPE and PA-MPJPE, then PCK by joint."""
        pck = {key: float(value) for key, value in self.pck.compute().items()}
        errors = {error.label: float(error.compute()) for error in self.errors}
        by_joint = {f"PCK/{key}": value for key, value in pck.items() if key not in ("PCK", "AUC")}
        return {"PCK": pck["PCK"], "AUC": pck["AUC"], **errors, **by_joint}


class _Predicted(NamedTuple):
    """Poses (F, K, 3) in metres by sequence, which joints they are, and whether a prediction's rows were put in place.

    Such sequences have all frames, NaN where there is no row.
    """

    poses: dict[str, Float64]
    named: NamedJoints | None
    placed: bool


def _predicted(path: Path, unit: str, frames: Mapping[str, int]) -> _Predicted:
    """Reads a file of results.

    Args:
        path: The file.
        unit: Of one array per sequence.
        frames: Frames of the sequences of the ground truth.
    """
    arrays = _arrays(path)
    if is_prediction(arrays):
        points = poses_of(arrays["joints3d"], path)
        if points.ndim != 3 or points.shape[-1] != 3:
            raise UserError(f"{path.name}: joints3d has shape {points.shape}, needed is (N, K, 3)")
        check_finite(points, path)
        return _Predicted(_by_sequence(arrays, points, frames, path), named_joints(arrays, points.shape[1], path), True)
    poses = {name: poses_of(v, path) * METRES[unit] for name, v in arrays.items() if name not in NAME_KEYS}
    counts = {p.shape[1] for name, p in poses.items() if p.ndim == 3 and not name.endswith("_valid")}
    named = named_joints(arrays, counts.pop(), path) if len(counts) == 1 else None
    return _Predicted(poses, named, False)


def _by_sequence(
    arrays: Mapping[str, Any], points: Float64, frames: Mapping[str, int], path: Path
) -> dict[str, Float64]:
    """Puts a prediction's rows (N, K, 3) into the frames of their sequences."""
    from posekit.data.body3d.person import IDS  # the data modules take seconds to import

    if "video" not in arrays:  # a data set without names of videos, or not of this kind
        raise UserError(
            f"{path.name} does not say which sequence its rows are of (array video); needed is a prediction of posekit "
            "predict --data MPIINF3DHP, or one array (F, 17, 3) per sequence: TS1, TS2, ..."
        )
    videos, ids = np.asarray(arrays["video"]), poses_of(arrays["image_id"], path)
    if videos.dtype.kind != "U" or not videos.shape == ids.shape == points.shape[:1]:
        raise UserError(f"{path.name}: video and image_id must have one name and one number for each of its poses")
    check_finite(ids, path, "image_id [{}]")
    places = ids.astype(np.int64) % IDS
    found = {}
    for name in sorted(set(videos.tolist())):
        mine = videos == name
        count = frames.get(name, int(places[mine].max()) + 1)
        if places[mine].max() >= count:
            raise UserError(f"{path.name}: frame {places[mine].max()} of {name}, which has {count}")
        if len(np.unique(places[mine])) < mine.sum():
            raise UserError(f"{path.name}: {name} has frames with several poses")
        found[name] = np.full((count, *points.shape[1:]), np.nan)
        found[name][places[mine]] = points[mine]
    return found


def _valid_frames(
    name: str, target: Float64, valid: Bool, pred: _Predicted, gt: Path, results: Path
) -> tuple[Float64, Float64]:
    """Returns a sequence's predicted (F, K, 3) and true poses (F, 17, 3) of its valid frames, checked."""
    if name not in pred.poses:
        raise UserError(f"{results.name} has no sequence {name}; it has {listed(sorted(pred.poses), 20)}")
    found, wanted = pred.poses[name], target[valid]
    if found.ndim == 3 and len(found) == len(valid):
        found = found[valid]
    if not valid.any():
        raise UserError(f"{gt.name}: {name} has no valid frame")
    joints = wanted.shape[1] if pred.named is None else len(pred.named.names)
    if found.shape != (len(wanted), joints, 3):
        raise UserError(f"{results.name}: {name} has shape {found.shape}, needed is {(len(wanted), joints, 3)}")
    absent = np.isnan(found).all((1, 2))
    if pred.placed and absent.any():
        first = int(np.flatnonzero(valid)[absent.argmax()])
        raise UserError(
            f"{results.name} has no pose for {int(absent.sum())} of the {len(wanted)} valid frames of {name}, "
            f"the first of them frame {first}"
        )
    check_finite(found, results)
    check_finite(wanted, gt)
    return found, wanted


def _compare_units(poses: Sequence[tuple[Float64, Float64]]) -> None:
    """Warns once where the predicted poses of all sequences, the first of each pair, seem to be in another unit."""
    found, wanted = (np.concatenate(part) for part in zip(*poses, strict=True))
    compare_units(wanted, found, np.ones(wanted.shape[:2], dtype=np.bool_))


def _arrays(path: Path) -> dict[str, Any]:
    """Reads the arrays of a file by name."""
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    needed = "an array TS1 (F, 17, 3) and so on"
    content = content_of(path, "poses")[1] if path.suffix == ".json" else load_numpy(path, needed)
    content = row_arrays(content) or content
    if not isinstance(content, Mapping):
        raise UserError(f"{path.name}: no dict of sequences")
    return dict(content)


def _sequences_3dhp(path: Path, unit: str) -> dict[str, tuple[Float64, Any]]:
    if path.is_dir():
        files = sorted(path.glob("TS*/annot_data.mat"))
        if not files:
            raise UserError(f"{path} has no TS1/annot_data.mat (the extracted test set of MPI-INF-3DHP)")
        return {file.parent.name: _annotation_3dhp(file) for file in files}
    arrays = _arrays(path)
    named = named_joints(arrays, len(TEST_JOINTS_3DHP), path)
    if named is not None and named.names != TEST_JOINTS_3DHP:
        raise UserError(f"{path.name}: the ground truth's joints must be {', '.join(TEST_JOINTS_3DHP)}, in that order")
    content = {name: poses_of(value, path) for name, value in arrays.items() if name not in NAME_KEYS}
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
    poses = np.concatenate([poses[valid] for poses, valid in sequences.values()])
    check_unit(poses, np.ones(poses.shape[:2], dtype=bool), unit, path)
    return sequences


def _annotation_3dhp(path: Path) -> tuple[Float64, Any]:
    """Reads poses (F, 17, 3) in metres and which frames are valid (F,) of an ``annot_data.mat``."""
    what = "annotation file"
    content = read_arrays(path, ["univ_annot3", "valid_frame"], what)
    # MATLAB's (3, 17, 1, F): HDF5 has its axes reversed, and copies have them in either order.
    poses = frames_first(content["univ_annot3"], (17, 3), f"{what} {path}: univ_annot3")
    valid = flags(content["valid_frame"], f"{what} {path}: valid_frame")
    if len(poses) != len(valid):
        raise UserError(f"{what} {path}: {len(valid)} entries of valid_frame for {len(poses)} frames")
    return poses * METRES["mm"], valid

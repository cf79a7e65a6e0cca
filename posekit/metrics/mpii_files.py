"""``posekit evaluate mpii``: files of poses of MPII's validation set, and their PCKh."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.arrays import Bool, Float64
from posekit.errors import UserError
from posekit.mat5 import read_mat5
from posekit.metrics.coco_files import content_of
from posekit.metrics.pck import PCKh
from posekit.metrics.pose_files import PoseTable, check_finite, poses_of
from posekit.skeletons import MPII16


def evaluate_mpii(gt: str | Path, results: str | Path) -> PoseTable:
    """PCKh of MPII's validation set.

    The first pixel is 1 in the .mat files, as in MATLAB, and 0 in the JSON files, as everywhere in posekit. People
    whose head box has no size do not count; a warning says how many.

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
    sized = have_size(heads)
    if not sized.all():
        warnings.warn(f"{Path(gt).name}: {without_head(sized)}", stacklevel=2)
    visible *= sized[:, None]
    metric = PCKh(joints=MPII16.joints, sync_on_compute=False)
    metric.update(*(torch.from_numpy(a) for a in (pred, target, heads, visible)))
    values = {name: float(value) for name, value in metric.compute().items()}
    keys = [*metric.columns, "PCKh", "PCKh@0.1"]
    headings = [*metric.columns, "Mean", "Mean@0.1"]
    return PoseTable({**values, "people": len(target)}, headings, [("PCKh@0.5", [values[k] for k in keys])])


def have_size(boxes: Float64) -> Bool:
    """Tells which head boxes (..., 4) x1, y1, x2, y2 a head size can be taken of."""
    with np.errstate(invalid="ignore"):
        size = np.linalg.norm(boxes[..., 2:] - boxes[..., :2], axis=-1)
    return np.asarray(np.isfinite(size) & (size > 0))


def without_head(sized: Bool) -> str:
    """Says how many people (N,) have no head box of any size."""
    return f"{(~sized).sum():,} of {len(sized):,} people have no head box of any size and do not count in PCKh"


def labelled_joints(missing: Float64, label: str) -> Bool:
    """Returns which joints of people are labelled, from a file's ``jnt_missing``.

    Args:
        missing: (N, 16).
        label: File, for the message.

    Raises:
        UserError: An entry is neither 0 nor 1.
    """
    wrong = (missing != 0) & (missing != 1)
    if wrong.any():
        person, joint = np.argwhere(wrong)[0].tolist()
        raise UserError(f"{label}: jnt_missing of person [{person}] holds {missing[person, joint]:g}, not 0 or 1")
    return np.asarray(missing == 0)


def _mat(path: Path, what: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"{what} file {path} does not exist")
    return read_mat5(path, [], f"{what} file")


def _field(content: Mapping[str, Any], name: str, path: Path) -> Float64:
    if content.get(name) is None:
        known = [k for k, value in content.items() if value is not None and not k.startswith("__")]
        raise UserError(f"{path.name} has no {name!r}; it has {', '.join(known) or 'no numbers at all'}")
    found = np.asarray(content[name])
    if found.dtype.kind not in "buif":
        raise UserError(f"{path.name}: {name!r} holds no numbers")
    return found.astype(np.float64)


def _per_person(content: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Float64:
    """Returns an array (N, *shape), which the file has with N last."""
    found = _field(content, name, path)
    if found.ndim != len(shape) + 1 or found.shape[:-1] != shape:
        wanted = ", ".join(map(str, shape))
        raise UserError(f"{path.name}: {name!r} has shape {found.shape}, needed is ({wanted}, people)")
    return np.moveaxis(found, -1, 0)


def _mpii_truth(path: Path) -> tuple[Float64, Float64, Float64]:
    if path.suffix == ".mat":
        content = _mat(path, "ground truth")
        if "RELEASE" in content and "pos_gt_src" not in content:
            raise UserError(
                f"{path.name} is MPII's RELEASE file of annotations, without 'pos_gt_src' of its evaluation: take "
                "gt_valid.mat, or score a checkpoint by posekit validate"
            )
        joints = _per_person(content, "pos_gt_src", (16, 2), path) - 1
        missing = _per_person(content, "jnt_missing", (16,), path)
        boxes = _per_person(content, "headboxes_src", (2, 2), path).reshape(-1, 4)
        if not len(joints) == len(missing) == len(boxes):
            raise UserError(f"{path.name}: {len(joints)} poses, {len(missing)} columns jnt_missing, {len(boxes)} boxes")
        labelled = labelled_joints(missing, path.name)
        check_finite(np.where(labelled[..., None], joints, 0), path, "person [{}]'s pos_gt_src")
        return joints, labelled.astype(np.float64), boxes
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
    joints, visible, boxes = (poses_of(r, path) for r in rows)
    if joints.ndim != 3 or joints.shape[2] < 2 or visible.ndim != 2 or boxes.ndim != 2:
        raise UserError(f"{path.name}: joints must be 16 pairs, joints_vis 16 numbers and head_box 4 numbers each")
    for name, values in (("joints", joints[..., :2]), ("joints_vis", visible), ("head_box", boxes)):
        check_finite(values, path, f"person [{{}}]'s {name}")
    return joints[..., :2], (visible > 0).astype(np.float64), boxes


def _mpii_results(path: Path) -> Float64:
    if path.suffix == ".mat":
        poses = _field(_mat(path, "results"), "preds", path) - 1
    else:
        _, content = content_of(path, "results")
        if not isinstance(content, list):
            raise UserError(f"{path.name}: no list of poses")
        for i, entry in enumerate(content):
            if isinstance(entry, Mapping) and "keypoints" not in entry:
                raise UserError(f"{path.name}: result [{i}] has no keypoints")
        poses = poses_of([e["keypoints"] if isinstance(e, Mapping) else e for e in content], path)
    if poses.ndim == 2 and poses.shape[1] % 16 == 0:
        poses = poses.reshape(len(poses), 16, -1)
    if poses.ndim != 3 or poses.shape[1] != 16 or poses.shape[2] < 2:
        raise UserError(f"{path.name}: poses of shape {poses.shape}, needed is (N, 16, 2)")
    check_finite(poses[..., :2], path)
    return poses[..., :2]

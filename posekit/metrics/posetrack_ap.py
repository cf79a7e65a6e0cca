"""Multi-person pose AP of PoseTrack (2017, 2018, 21), by the rules of the benchmark's tool poseval.

A prediction takes its best person, a person takes its best prediction, and joints within half a head size are hits.
Every step is checked against recorded numbers of poseval (commit 4258a15), its errors included.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from posekit.arrays import Bool, Float64, Int64
from posekit.errors import UserError, one_of
from posekit.metrics._stack import as_array
from posekit.metrics.pck import HEAD_SHARE
from posekit.metrics.posetrack_files import Frame, People, read_sequence
from posekit.metrics.rows import RowsMetric, first_dict_of_sample, process_rank
from posekit.posetrack import Paths, in_joint_order, sequence_files
from posekit.skeletons import POSETRACK15

JOINTS = len(POSETRACK15)
COLUMNS = {
    "Head": ("head_top", "head_bottom", "nose"), "Shou": ("right_shoulder", "left_shoulder"),
    "Elb": ("right_elbow", "left_elbow"), "Wri": ("right_wrist", "left_wrist"), "Hip": ("right_hip", "left_hip"),
    "Knee": ("right_knee", "left_knee"), "Ankl": ("right_ankle", "left_ankle"),
}  # fmt: skip


@dataclass(frozen=True)
class PoseTrackResult:
    """AP, precision and recall in per cent, per joint of POSETRACK15; NaN where undefined."""

    ap: Float64  # (15,)
    precision: Float64  # (15,)
    recall: Float64  # (15,)
    people: Int64  # (15,) annotated joints
    frames: int

    def as_dict(self) -> dict[str, float]:
        """Returns ``AP``, the columns, one entry per joint, and ``precision``/``recall`` with one per joint.

        ``AP`` is the mean of the joints without NaN; columns are plain means, so that NaN spreads (poseval's table).
        """
        names = POSETRACK15.joints
        result = {"AP": _mean(self.ap)}
        result |= {c: float(np.mean([self.ap[names.index(j)] for j in js])) for c, js in COLUMNS.items()}
        result |= dict(zip(names, self.ap.tolist(), strict=True))
        for kind, values in (("precision", self.precision), ("recall", self.recall)):
            result[kind] = _mean(values)
            result |= {f"{kind}/{n}": float(v) for n, v in zip(names, values, strict=True)}
        return result


def evaluate_posetrack(gt: Paths, predictions: Paths, threshold: float = 0.5) -> dict[str, float]:
    """Evaluates prediction files of sequences against ground-truth files, of the 2017 or the 2018/21 format.

    Args:
        gt: Folder with one JSON file per sequence, or the files.
        predictions: Folder or files of the same names.
        threshold: Share of the head size within which a joint is a hit.

    Returns:
        In per cent: ``AP`` (the total), ``Head Shou Elb Wri Hip Knee Ankl``, one entry per joint, ``precision`` and
        ``recall``, in total and per joint (``precision/nose``). Values without meaning are NaN.

    Raises:
        UserError: A file is missing or wrong, frames do not pair up, or a person that is needed has no head box.
    """
    return evaluate_posetrack_files(gt, predictions, threshold).as_dict()


def evaluate_posetrack_files(gt: Paths, predictions: Paths, threshold: float = 0.5) -> PoseTrackResult:
    """Does what :func:`evaluate_posetrack` does, and returns arrays."""
    truth_files, found_files = sequence_files(gt, "ground truth"), sequence_files(predictions, "predictions")
    frames: list[tuple[Frame, People]] = []
    for name, path in truth_files.items():
        if name not in found_files:
            raise UserError(f"the predictions have no file {name}, which the ground truth has")
        frames += _paired(read_sequence(path, scored=False), read_sequence(found_files[name]), name)
    surplus = sorted(set(found_files) - set(truth_files))
    if surplus:
        warnings.warn(
            f"{len(surplus)} prediction files have no ground truth and are left out: {surplus[0]}", stacklevel=3
        )
    return evaluate_frames(frames, threshold)


def _paired(truth: Sequence[Frame], found: Sequence[Frame], name: str) -> list[tuple[Frame, People]]:
    """Pairs frames by position, as poseval does."""
    if len(truth) != len(found):
        raise UserError(f"{name}: {len(truth)} frames in the ground truth, {len(found)} in the predictions")
    for t, f in zip(truth, found, strict=True):
        if Path(t.name).name != Path(f.name).name and t.name and f.name:
            raise UserError(f"{name}: frames are paired by position, but {t.name} meets {f.name}")
    return [(t, f.people) for t, f in zip(truth, found, strict=True)]


def evaluate_frames(frames: Sequence[tuple[Frame, People]], threshold: float = 0.5) -> PoseTrackResult:
    """Evaluates pairs of a ground-truth frame and the people predicted in it.

    Raises:
        UserError: An annotated person has no head box in a frame with predictions.
    """
    scores: list[list[Float64]] = [[] for _ in range(JOINTS)]
    labels: list[list[Bool]] = [[] for _ in range(JOINTS)]
    people = np.zeros(JOINTS, dtype=np.int64)
    kept = 0
    for frame, predicted in frames:
        if not frame.labelled:
            continue
        kept += 1
        truth, found = _without_ignored(frame.people.with_points(), predicted.with_points(), frame.regions)
        people += truth.present.sum(0)
        if not len(found.xy):
            continue
        hits = _assigned_hits(truth, found, threshold, frame.name)
        for j in range(JOINTS):
            rows = found.present[:, j]
            scores[j].append(found.score[rows, j])
            labels[j].append(hits[rows, j])
    joints = zip(scores, labels, people.tolist(), strict=True)
    curves = [_average_precision(_join(s, np.float64), _join(h, np.bool_), n) for s, h, n in joints]
    ap, precision, recall = (np.array(values) for values in zip(*curves, strict=True))
    return PoseTrackResult(ap, precision, recall, people, kept)


def _join(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)


def _mean(values: Float64) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else float("nan")


def _without_ignored(truth: People, found: People, regions: Sequence[Float64]) -> tuple[People, People]:
    """Drops points strictly inside ignore regions, and people left without any; touches no frame without regions."""
    if not regions:
        return truth, found
    cleaned = []
    for people in (truth, found):
        inside = np.zeros(people.present.shape, dtype=bool)
        for polygon in regions:
            inside |= strictly_inside(people.xy, polygon)
        left = replace(people, present=people.present & ~inside)
        some: Bool = np.any(left.present, axis=1)
        cleaned.append(left.take(some))
    return cleaned[0], cleaned[1]


def strictly_inside(points: Float64, polygon: Float64) -> Bool:
    """Tells which points (..., 2) lie inside a simple polygon (V, 2); a point on its border does not.

    >>> square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    >>> strictly_inside(np.array([[2.0, 2], [4, 2], [5, 2]]), square).tolist()
    [True, False, False]
    """
    inside = np.zeros(points.shape[:-1], dtype=bool)
    if len(polygon) < 3:
        return inside
    border = np.zeros_like(inside)
    x, y = points[..., 0], points[..., 1]
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        within = (np.minimum(ax, bx) <= x) & (x <= np.maximum(ax, bx))
        within &= (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by))
        border |= (side == 0) & within
        crosses = (ay > y) != (by > y)
        inside ^= crosses & ((side > 0) == (by > ay))
    return inside & ~border


def _assigned_hits(truth: People, found: People, threshold: float, name: str) -> Bool:
    """Returns which joints of the predictions (P, 15) are hits of the person that the prediction is assigned to."""
    hits = np.zeros(found.present.shape, dtype=bool)
    if not len(truth.xy):
        return hits
    missing = np.isnan(truth.head).any(1)
    if missing.any():
        raise UserError(f"frame {name}: annotated person {int(missing.argmax())} has no head box (x1, y1, x2, y2)")
    size = HEAD_SHARE * np.linalg.norm(truth.head[:, 2:] - truth.head[:, :2], axis=1)
    delta = found.xy[:, None] - truth.xy[None]
    distance = np.sqrt((delta * delta).sum(-1))  # (P, G, 15)
    relative = np.full(distance.shape, np.inf)
    both = found.present[:, None] & truth.present[None]
    sized = both & (size > 0)[None, :, None]
    relative[sized] = distance[sized] / np.broadcast_to(size[None, :, None], distance.shape)[sized]
    hit = relative <= threshold
    joints = truth.present.sum(1)
    pckh = np.where(joints > 0, hit.sum(2) / np.maximum(joints, 1), 0.0)  # (P, G)
    best = pckh.argmax(1)
    only_best = np.zeros_like(pckh)
    rows = np.arange(len(pckh))
    only_best[rows, best] = pckh[rows, best]
    taker = only_best.argmax(0)
    for g in np.flatnonzero(only_best.max(0) > 0):
        hits[taker[g]] = hit[taker[g], g]
    return hits


def _average_precision(scores: Float64, hits: Bool, people: int) -> tuple[float, float, float]:
    """AP, last precision and last recall in per cent of one joint; equal scores: the later one first."""
    if not len(scores):
        return 0.0, 0.0, 0.0
    order = np.argsort(scores, kind="stable")[::-1]
    true = np.cumsum(hits[order]).astype(np.float64)
    precision = true / np.arange(1, len(true) + 1)
    if people == 0:
        return float("nan"), 100.0 * float(precision[-1]), float("nan")
    recall = true / people
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    steps = np.concatenate([[0.0], recall, [1.0]])
    area = float((np.diff(steps) * envelope[1:]).sum())
    return 100.0 * area, 100.0 * float(precision[-1]), 100.0 * float(recall[-1])


def _frames_by_id(paths: Iterable[Path], on_bad_annotation: Literal["error", "skip"]) -> dict[int, Frame]:
    """Reads sequence files; a frame of the 2017 format has its running number for an id."""
    frames: dict[int, Frame] = {}
    files: dict[int, Path] = {}
    for path in paths:
        for frame in read_sequence(path, False, on_bad_annotation):
            key = frame.image_id if frame.image_id >= 0 else len(frames)
            if key in frames:
                raise UserError(
                    f"{files[key]} and {path} both have a frame of the id {key}: predictions could belong to either"
                )
            frames[key], files[key] = frame, path
    return frames


class PoseTrackAP(RowsMetric):
    """PoseTrack's AP in per cent over the ground-truth files of a split.

    ``compute()`` gives ``AP``, the columns ``Head Shou Elb Wri Hip Knee Ankl``, one entry per joint, precision and
    recall. Every labelled frame of the files counts, also one of which no prediction came. Rows whose sample id came
    before (repeated by a distributed sampler) are dropped.

    Args:
        annotations: Folder of the sequences' JSON files (2017, 2018 or 21), or the files.
        threshold: Share of the head size within which a joint is a hit.
        on_bad_annotation: ``"error"`` refuses faulty people and ignore regions, ``"skip"`` leaves them out and warns:
            the same as a data module of that option does.
        kwargs: Arguments of ``torchmetrics.Metric``.

    Raises:
        UserError: A file is missing or wrong, or two files have a frame of the same id.
    """

    is_differentiable = False
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    points: list[Tensor]  # (N, 15, 3) x, y, score; NaN score: not predicted
    keys: list[Tensor]  # (N, 3) image, sample, dict

    def __init__(
        self,
        annotations: Paths,
        threshold: float = 0.5,
        on_bad_annotation: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of("on_bad_annotation of PoseTrackAP", on_bad_annotation, ("error", "skip"))
        self.threshold = threshold
        self._dicts = 0  # never reset, as in KeypointAP
        self.frames = _frames_by_id(sequence_files(annotations, "ground truth").values(), on_bad_annotation)
        self.add_rows("points")
        self.add_rows("keys", torch.int64)

    def update(self, preds: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Adds people.

        Args:
            preds: One dict or several with ``keypoints`` (N, 15 or 17, 3): x, y in original px and the joint's score,
                in the order of POSETRACK15 or of the 17 slots of the 2018 files; ``image_id``, one or (N,): the id in
                2018 files, the running number of the frame in the sorted 2017 files; optional ``sample_id`` (N,).

        Raises:
            ValueError: A wrong number of joints.
            UserError: An image id that the annotations lack.
        """
        for entry in [preds] if isinstance(preds, Mapping) else preds:
            points = as_array(entry["keypoints"])
            if points.size == 0:
                continue
            points = in_joint_order(points)
            sample = entry.get("sample_ids", entry.get("sample_id"))
            image = as_array(entry["image_id"]).astype(np.int64).reshape(-1)
            ids = np.full(1, -1) if sample is None else as_array(sample).astype(np.int64).reshape(-1)
            unknown = set(image.tolist()) - set(self.frames)
            if unknown:
                raise UserError(f"predictions for image {min(unknown)}, which the PoseTrack annotations lack")
            count = len(points)
            number = np.full(count, (self._dicts << 20) | process_rank())
            self._dicts += 1
            keys = np.stack([np.broadcast_to(image, count), np.broadcast_to(ids, count), number], 1)
            self.append(points=torch.from_numpy(points), keys=torch.from_numpy(keys))

    def names(self) -> list[str]:
        """Returns the keys of the result."""
        undefined = np.full(JOINTS, np.nan)
        return list(PoseTrackResult(undefined, undefined, undefined, np.zeros(JOINTS, np.int64), 0).as_dict())

    def values(self) -> dict[str, float]:
        """Evaluates all frames."""
        all_keys = self.rows("keys", 3).numpy()
        keep = first_dict_of_sample(all_keys)
        keys, points = all_keys[keep], self.rows("points", JOINTS, 3).numpy()[keep]
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys, points = keys[order], points[order]
        ids = np.array(list(self.frames))
        first, last = np.searchsorted(keys[:, 0], ids), np.searchsorted(keys[:, 0], ids, side="right")
        pairs = [
            (frame, People.predicted(points[a:b]))
            for frame, a, b in zip(self.frames.values(), first, last, strict=True)
        ]
        return evaluate_frames(pairs, self.threshold).as_dict()

    def compute(self) -> dict[str, Tensor]:
        """Returns the numbers in per cent by name."""
        return self.computed()

"""From one dict per image to flat rows, with one concatenation per field (thousands of images cost milliseconds)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from posekit.arrays import Float64, Int64
from posekit.metrics._coco_match import DetectionRows, TruthRows

Entry = Mapping[str, Any]


def as_array(value: ArrayLike | Tensor) -> Float64:
    """Returns a float64 array of anything array-like, from any device."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def joint_extent_area(keypoints: Float64) -> Float64:
    """Returns the area (N,) px^2 spanned by joints (N, K, 2+): what COCO's tool gives results that have no box."""
    if len(keypoints) == 0:
        return np.zeros(0)
    size = keypoints[..., :2].max(1) - keypoints[..., :2].min(1)
    return size[:, 0] * size[:, 1]


def stack_detections(entries: Sequence[Entry], joints: int) -> tuple[DetectionRows, Int64]:
    """Reads predictions: ``keypoints`` (N, K, 2+), ``scores`` (N,), optional ``boxes`` (N, 4) xywh.

    Returns:
        The rows (``image`` is the entry's position), and how many each entry has.

    Raises:
        ValueError: A field is missing or has a wrong shape.
    """
    points, counts = _joints(entries, joints, 2, "prediction")
    area = joint_extent_area(points)
    with_box = [i for i, e in enumerate(entries) if e.get("boxes") is not None]
    if with_box:
        boxes = _column(entries, "boxes", counts, (4,), "prediction", with_box)
        area[_rows_of(with_box, counts)] = boxes[:, 2] * boxes[:, 3]
    scores = _column(entries, "scores", counts, (), "prediction")
    return DetectionRows(np.repeat(np.arange(len(entries)), counts), points[..., :2], scores, area), counts


def stack_truth(entries: Sequence[Entry], joints: int) -> tuple[TruthRows, Int64]:
    """Reads targets: ``keypoints`` (M, K, 3), ``area``, ``boxes``, ``iscrowd``, optional ``num_keypoints``.

    Returns:
        The rows (``image`` is the entry's position), and how many each entry has.

    Raises:
        ValueError: A field is missing or has a wrong shape.
    """
    points, counts = _joints(entries, joints, 3, "target")
    labelled = points[..., 2] > 0
    number = labelled.sum(1).astype(np.float64)
    known = [i for i, e in enumerate(entries) if e.get("num_keypoints") is not None]
    if known:
        number[_rows_of(known, counts)] = _column(entries, "num_keypoints", counts, (), "target", known)
    crowd = _column(entries, "iscrowd", counts, (), "target") > 0
    rows = TruthRows(
        np.repeat(np.arange(len(entries)), counts), points[..., :2], labelled,
        _column(entries, "area", counts, (), "target"), _column(entries, "boxes", counts, (4,), "target"),
        crowd, crowd | (number == 0),
    )  # fmt: skip
    return rows, counts


def _rows_of(chosen: Sequence[int], counts: Int64) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.repeat(np.isin(np.arange(len(counts)), chosen), counts)


def _tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value, dtype=np.float64))


def _field(entry: Entry, name: str, what: str, i: int) -> Tensor:
    if entry.get(name) is None:
        raise ValueError(f"{what}[{i}] has no {name!r}; it has {', '.join(sorted(entry)) or 'nothing'}")
    return _tensor(entry[name])


def _cat(parts: list[Tensor]) -> Float64:
    if len({p.device for p in parts}) > 1:
        parts = [p.cpu() for p in parts]
    return as_array(torch.cat(parts))


def _joints(entries: Sequence[Entry], joints: int, columns: int, what: str) -> tuple[Float64, Int64]:
    parts, counts = [], np.zeros(len(entries), dtype=np.int64)
    for i, entry in enumerate(entries):
        value = _field(entry, "keypoints", what, i)
        if value.numel() == 0:
            continue
        if value.ndim != 3 or value.shape[1] != joints or value.shape[2] < columns:
            shape = tuple(value.shape)
            raise ValueError(f"{what}[{i}]: keypoints has shape {shape}, needed is (N, {joints}, {columns} or more)")
        counts[i] = value.shape[0]
        parts.append(value if value.shape[2] == 3 else value[..., :columns])
    if not parts:
        return np.zeros((0, joints, columns)), counts
    if len({p.shape[2] for p in parts}) > 1:
        parts = [p[..., :columns] for p in parts]
    return _cat(parts)[..., :columns], counts


def _column(
    entries: Sequence[Entry],
    name: str,
    counts: Int64,
    trailing: tuple[int, ...],
    what: str,
    chosen: Sequence[int] | None = None,
) -> Float64:
    parts = []
    sizes = counts.tolist()
    for i in range(len(entries)) if chosen is None else chosen:
        value = _field(entries[i], name, what, i)
        if value.numel() == 0 and sizes[i] == 0:
            continue
        if value.shape != (sizes[i], *trailing):
            raise ValueError(f"{what}[{i}]: {name} has shape {tuple(value.shape)}, needed is {(sizes[i], *trailing)}")
        parts.append(value)
    return _cat(parts) if parts else np.zeros((0, *trailing))

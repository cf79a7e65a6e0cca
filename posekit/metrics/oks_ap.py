"""Object keypoint similarity (OKS) and its average precision as pure functions.

Source of the rules: pycocotools' ``COCOeval`` 2.0.11; equality is tested to 1e-12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from posekit.arrays import Float64
from posekit.errors import in_range
from posekit.metrics._coco_match import (
    Accumulated,
    DetectionRows,
    TruthRows,
    evaluate_rows,
    pair_oks,
    variances,
)
from posekit.metrics._stack import as_array, stack_detections, stack_truth
from posekit.skeletons import COCO17

OKS_THRESHOLDS: Float64 = np.linspace(0.5, 0.95, 10)
RECALL_POINTS: Float64 = np.linspace(0.0, 1.0, 101)
AREA_RANGES: Float64 = np.array([[0, 1e5**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=np.float64)
AP_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def oks(
    keypoints: ArrayLike | Tensor,
    target: ArrayLike | Tensor,
    area: ArrayLike | Tensor,
    sigmas: Sequence[float] = COCO17.sigmas,
    boxes: ArrayLike | Tensor | None = None,
) -> Float64:
    """Computes OKS; leading shapes broadcast, so ``keypoints[:, None]`` and ``target[None]`` give all pairs.

    A person without labelled joints takes the distance by which joints lie outside its box enlarged by its own size on
    every side, over all joints (COCO's rule for unlabelled people).

    Args:
        keypoints: (..., K, 2 or more) detected joints, px.
        target: (..., K, 3) annotated joints, px, with visibility (labelled where > 0).
        area: (...) area of the annotated person, px^2.
        sigmas: (K,) standard deviations of the joints.
        boxes: (..., 4) xywh of the annotated person, px; needed only for people without labelled joints.

    Returns:
        (...) similarity in [0, 1], float64. NaN joints and people without both labels and box give 0.

    Raises:
        ValueError: The number of joints is not that of the sigmas.

    >>> target = [[10.0, 10.0, 2.0], [20.0, 10.0, 0.0]]
    >>> oks([[10.0, 10.0], [99.0, 99.0]], target, 100.0, sigmas=(0.05, 0.05)).item()
    1.0
    """
    xy, gt = as_array(keypoints)[..., :2], as_array(target)
    joints = len(sigmas)
    for name, value in (("keypoints", xy), ("target", gt)):
        if value.shape[-2] != joints:
            raise ValueError(f"{name} has {value.shape[-2]} joints, sigmas {joints}")
    box = np.full((*gt.shape[:-2], 4), np.nan) if boxes is None else as_array(boxes)
    size = as_array(area)
    lead = np.broadcast_shapes(xy.shape[:-2], gt.shape[:-2], size.shape, box.shape[:-1])
    det = np.broadcast_to(xy, (*lead, joints, 2)).reshape(-1, joints, 2)
    flat = np.broadcast_to(gt, (*lead, joints, gt.shape[-1])).reshape(-1, joints, gt.shape[-1])
    none = np.zeros(len(flat), dtype=bool)
    truth = TruthRows(
        np.zeros(len(flat), np.int64), flat[..., :2], flat[..., 2] > 0, np.broadcast_to(size, lead).reshape(-1),
        np.broadcast_to(box, (*lead, 4)).reshape(-1, 4), none, none,
    )  # fmt: skip
    same = np.arange(len(flat))
    return pair_oks(det, truth, variances(sigmas), same, same).reshape(lead)


def oks_nms(
    keypoints: ArrayLike | Tensor,
    scores: ArrayLike | Tensor,
    area: ArrayLike | Tensor,
    threshold: float,
    sigmas: Sequence[float] = COCO17.sigmas,
    image: ArrayLike | Tensor | None = None,
) -> NDArray[np.intp]:
    """Greedy suppression: of two people of one image whose OKS exceeds the threshold the lower-scored is dropped.

    All joints count, and the area is the mean of both people's, as in HRNet's evaluation code. The areas that code
    passes are those of the enlarged boxes; :class:`~posekit.metrics.KeypointAP` passes the joints' extents, mostly
    smaller, so that fewer people are dropped. All images are treated at once, one round per person of the fullest.

    Args:
        keypoints: (N, K, 2 or more) joints, px.
        scores: (N,).
        area: (N,) px^2.
        threshold: OKS that is still kept, above 0 and at most 1.
        sigmas: (K,).
        image: (N,) image of each person; None: all the same.

    Returns:
        Rows that are kept, by image, then by falling score (of equal scores the earlier row first).

    Raises:
        UserError: The threshold is out of its range.
    """
    in_range("oks_nms", "threshold", threshold, "(0, 1]")
    xy, score, size = as_array(keypoints)[..., :2], as_array(scores), as_array(area)
    where = np.zeros(len(score), np.int64) if image is None else np.asarray(image).astype(np.int64)
    order = np.lexsort((-score, where))
    var = variances(sigmas)
    open_rows, kept = order, []
    while len(open_rows):
        _, first, inverse = np.unique(where[open_rows], return_index=True, return_inverse=True)
        best = open_rows[first][inverse]
        kept.append(open_rows[first])
        delta = ((xy[open_rows] - xy[best]) ** 2).sum(-1)
        mean = (size[open_rows] + size[best]) / 2 + np.spacing(1)
        similar = np.exp(-delta / var / mean[:, None] / 2).mean(-1) > threshold
        open_rows = open_rows[~similar & (open_rows != best)]
    rows = np.concatenate(kept) if kept else np.zeros(0, np.intp)
    return rows[np.lexsort((-score[rows], where[rows]))]


def keypoint_ap(
    preds: Sequence[Mapping[str, Any]],
    target: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float] = COCO17.sigmas,
    max_dets: int = 20,
) -> dict[str, float]:
    """Computes OKS AP and AR of lists with one dict per image (see :class:`~posekit.metrics.KeypointAP`).

    Args:
        preds: Per image ``keypoints`` (N, K, 2 or more) px, ``scores`` (N,), optional ``boxes`` (N, 4) xywh, from which
            the area of a detection comes then (as in COCO's tool); it decides whether an unmatched one is in range.
        target: Per image ``keypoints`` (M, K, 3), ``area`` (M,), ``boxes`` (M, 4), ``iscrowd`` (M,), optional
            ``num_keypoints`` (M,).
        sigmas: (K,).
        max_dets: Detections per image that count.

    Returns:
        ``AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL`` in [0, 1]; -1 where nobody is annotated in the area range.

    Raises:
        ValueError: Lists or rows of different length.
    """
    if len(preds) != len(target):
        raise ValueError(f"{len(preds)} predictions for {len(target)} targets: one dict per image is needed")
    det, _ = stack_detections(preds, len(sigmas))
    truth, _ = stack_truth(target, len(sigmas))
    return summarise(evaluate_coco(det, truth, sigmas, max_dets))


def evaluate_coco(
    det: DetectionRows, truth: TruthRows, sigmas: Sequence[float], max_dets: int = 20, areas: Float64 = AREA_RANGES
) -> Accumulated:
    """Evaluates rows with COCO's thresholds, recall points and area ranges."""
    return evaluate_rows(det, truth, variances(sigmas), OKS_THRESHOLDS, RECALL_POINTS, areas, max_dets)


def group_ap(
    categories: Sequence[tuple[TruthRows, DetectionRows]],
    sigmas: Sequence[float],
    groups: Mapping[str, Sequence[int]],
    max_dets: int = 20,
) -> dict[str, float]:
    """Computes the AP whose OKS looks at some joints alone; people without any of them labelled are ignored.

    Args:
        categories: Per category the annotated and the detected people.
        sigmas: (K,).
        groups: Sets of joints by name.
        max_dets: Detections per image that count.

    Returns:
        ``AP/name`` of each group in [0, 1], -1 where nobody has a joint of it.
    """
    result = {}
    for name, joints in groups.items():
        chosen = np.isin(np.arange(len(sigmas)), joints)
        precision = []
        for truth, det in categories:
            labelled = truth.labelled & chosen
            part = replace(truth, labelled=labelled, ignore=truth.ignore | ~labelled.any(1))
            precision.append(evaluate_coco(det, part, sigmas, max_dets, AREA_RANGES[:1]).precision)
        result[f"AP/{name}"] = _mean(np.stack(precision))
    return result


def summarise(*categories: Accumulated) -> dict[str, float]:
    """Averages precision and recall (of several categories) to COCO's ten numbers."""
    precision = np.stack([c.precision for c in categories], axis=2)
    recall = np.stack([c.recall for c in categories], axis=1)
    result = {}
    for prefix, values in (("AP", precision), ("AR", recall)):
        result[prefix] = _mean(values[..., 0])
        result[prefix + "50"] = _mean(values[OKS_THRESHOLDS == 0.5][..., 0])
        result[prefix + "75"] = _mean(values[OKS_THRESHOLDS == 0.75][..., 0])
        result[prefix + "M"] = _mean(values[..., 1])
        result[prefix + "L"] = _mean(values[..., 2])
    return result


def _mean(values: Float64) -> float:
    """Averages what somebody is annotated for; -1 where nobody is."""
    valid = values[values > -1]
    return float(np.mean(valid)) if len(valid) else -1.0

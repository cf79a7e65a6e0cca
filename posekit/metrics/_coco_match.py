"""COCO's keypoint matching and accumulation on flat numpy rows, without a Python loop over images.

The rules are those of pycocotools' ``COCOeval`` (Lin and Dollar, 2014-2015; version 2.0.11 is the reference), restated:
detections of an image are visited by falling score; each takes the free person of highest OKS that reaches the
threshold (of equal OKS the later person), counted people before ignored ones, and crowds stay free for ever.

The visit is sequential only within one image, so the loop runs over a detection's *rank* (0..19) and treats that rank
of all images and all thresholds at once. Only pairs that reach the lowest threshold are kept, so memory is linear in
the number of detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Float64, Int64
from posekit.skeletons import COCO17

_PAIRS_PER_CHUNK = 1 << 15  # bounds the temporary memory of the OKS to about 20 MB


@dataclass(frozen=True)
class DetectionRows:
    """Detected people, one row each; ``image`` numbers the images in the order of accumulation."""

    image: Int64  # (N,)
    xy: Float64  # (N, K, 2) px
    score: Float64  # (N,)
    area: Float64  # (N,) px^2

    def take(self, rows: NDArray[np.intp] | Bool) -> DetectionRows:
        """Returns the given rows."""
        return DetectionRows(self.image[rows], self.xy[rows], self.score[rows], self.area[rows])


@dataclass(frozen=True)
class TruthRows:
    """Annotated people, one row each."""

    image: Int64  # (M,)
    xy: Float64  # (M, K, 2) px
    labelled: Bool  # (M, K)
    area: Float64  # (M,) px^2
    boxes: Float64  # (M, 4) xywh px
    crowd: Bool  # (M,)
    ignore: Bool  # (M,) crowds, and people without labelled keypoints
    uncounted: Bool | None = None  # (M,) a match with these is no match (pycocotools: annotation id 0)

    def take(self, rows: NDArray[np.intp] | Bool) -> TruthRows:
        """Returns the given rows."""
        uncounted = None if self.uncounted is None else self.uncounted[rows]
        return TruthRows(
            self.image[rows], self.xy[rows], self.labelled[rows], self.area[rows], self.boxes[rows],
            self.crowd[rows], self.ignore[rows], uncounted,
        )  # fmt: skip


def variances(sigmas: Sequence[float] | Float64) -> Float64:
    """Returns ``(2 sigma)^2`` per joint.

    COCO's tool computes its sigmas as ``.26 / 10``, which differs from ``.026`` in the last bit; for COCO's own set the
    tool's bits are used, so that an OKS exactly on a threshold falls on the same side.
    """
    values = np.asarray(sigmas, dtype=np.float64)
    if tuple(values.tolist()) == COCO17.sigmas:
        values = np.array([round(s * 10, 2) for s in COCO17.sigmas]) / 10.0
    return (values * 2) ** 2


def pair_oks(xy: Float64, truth: TruthRows, var: Float64, det: Int64, gt: Int64) -> Float64:
    """Computes the OKS of pairs of rows.

    Joints are summed in the tool's order and grouping (only the labelled ones, packed), which makes the result equal
    to the last bit.

    Args:
        xy: (N, K, 2) detected joints, px.
        truth: The annotated people.
        var: (K,) from :func:`variances`.
        det: (P,) rows of ``xy``.
        gt: (P,) rows of ``truth``.

    Returns:
        (P,) OKS in [0, 1]; NaN coordinates give 0.
    """
    out = np.zeros(len(det))
    packed = np.argsort(~truth.labelled, axis=1, kind="stable")  # labelled joints first, in order
    count = truth.labelled.sum(1)[gt]
    for number in np.unique(count):
        group = np.flatnonzero(count == number)
        for start in range(0, len(group), _PAIRS_PER_CHUNK):
            pairs = group[start : start + _PAIRS_PER_CHUNK]
            d, g = det[pairs], gt[pairs]
            if number == 0:
                delta, v = _outside(xy[d], truth.boxes[g]), var
            else:
                joints = packed[g, :number]
                delta, v = xy[d[:, None], joints] - truth.xy[g[:, None], joints], var[joints]
            e = (delta[..., 0] ** 2 + delta[..., 1] ** 2) / v / (truth.area[g] + np.spacing(1))[:, None] / 2
            out[pairs] = np.exp(-e).sum(1) / e.shape[1]
    return np.nan_to_num(out, nan=0.0)


def _outside(xy: Float64, boxes: Float64) -> Float64:
    """Distance by axis of (P, K, 2) points from the boxes (P, 4) enlarged by their own size on every side."""
    low = (boxes[:, :2] - boxes[:, 2:])[:, None]
    high = (boxes[:, :2] + boxes[:, 2:] * 2)[:, None]
    return np.maximum(0, low - xy) + np.maximum(0, xy - high)


@dataclass(frozen=True)
class Accumulated:
    """What the tool calls ``eval``: precision (T, R, A) and recall (T, A), -1 where an area range holds nobody."""

    precision: Float64
    recall: Float64


def evaluate_rows(
    det: DetectionRows,
    truth: TruthRows,
    var: Float64,
    thresholds: Float64,
    recalls: Float64,
    areas: Float64,
    max_dets: int,
) -> Accumulated:
    """Matches and accumulates.

    Args:
        det: Detections, in the order in which ties of score are broken.
        truth: People; among people of equal OKS the later one is taken.
        var: (K,) from :func:`variances`.
        thresholds: (T,) OKS thresholds, rising.
        recalls: (R,) recall points, rising.
        areas: (A, 2) area ranges in px^2, both ends inclusive.
        max_dets: Detections per image that count, the highest scores first.
    """
    det, rank = _by_rank(det, max_dets)
    truth = truth.take(np.argsort(truth.image, kind="stable"))
    minimum = np.minimum(thresholds, 1 - 1e-10)
    pair_det, pair_gt = _pairs(det.image, truth.image)
    value = pair_oks(det.xy, truth, var, pair_det, pair_gt)
    near = np.flatnonzero(value >= minimum.min()) if len(minimum) else np.zeros(0, np.intp)
    # By rank, then detection, then falling OKS, of equal OKS the later person.
    order = near[np.lexsort((-pair_gt[near], -value[near], pair_det[near], rank[pair_det[near]]))]
    pairs = _Pairs(pair_det[order], pair_gt[order], value[order], rank)
    by_score = np.argsort(-det.score, kind="stable")

    precision = -np.ones((len(thresholds), len(recalls), len(areas)))
    recall = -np.ones((len(thresholds), len(areas)))
    for a, (low, high) in enumerate(areas):
        ignored_gt = truth.ignore | (truth.area < low) | (truth.area > high)
        people = int(np.count_nonzero(~ignored_gt))
        if people == 0:
            continue
        matched, ignored = _match(pairs, truth, ignored_gt, minimum)
        ignored |= ~matched & ((det.area < low) | (det.area > high))
        precision[:, :, a], recall[:, a] = _curve(matched[:, by_score], ignored[:, by_score], people, recalls)
    return Accumulated(precision, recall)


@dataclass(frozen=True)
class _Pairs:
    det: Int64
    gt: Int64
    oks: Float64
    rank: Int64  # (N,) of each detection


def _by_rank(det: DetectionRows, max_dets: int) -> tuple[DetectionRows, Int64]:
    """Orders detections by image and falling score (stable), cuts each image, and tells each one's rank."""
    det = det.take(np.lexsort((-det.score, det.image)))
    rank = np.arange(len(det.image)) - np.searchsorted(det.image, det.image)
    keep = rank < max_dets
    return det.take(keep), rank[keep]


def _pairs(det_image: Int64, gt_image: Int64) -> tuple[Int64, Int64]:
    """All pairs of a detection and a person in the same image; both inputs are sorted."""
    first = np.searchsorted(gt_image, det_image, side="left")
    count = np.searchsorted(gt_image, det_image, side="right") - first
    det = np.repeat(np.arange(len(det_image)), count)
    within = np.arange(len(det)) - np.repeat(np.cumsum(count) - count, count)
    return det, first[det] + within


def _match(pairs: _Pairs, truth: TruthRows, ignored_gt: Bool, minimum: Float64) -> tuple[Bool, Bool]:
    """Matches every image at every threshold; returns (T, N) matched and (T, N) matched-to-ignored."""
    detections = len(pairs.rank)
    matched = np.zeros((detections, len(minimum)), dtype=bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((len(ignored_gt), len(minimum)), dtype=bool)
    # Counted people come before ignored ones; the sort is stable, so the order by OKS stays within both.
    position = np.flatnonzero(np.diff(pairs.det, prepend=-1))
    segment = np.repeat(np.arange(len(position)), np.diff(position, append=len(pairs.det)))
    order = np.argsort(segment * 2 + ignored_gt[pairs.gt], kind="stable")
    gt, oks = pairs.gt[order], pairs.oks[order]
    ranks = pairs.rank[pairs.det]
    bounds = np.searchsorted(ranks, np.arange(ranks.max() + 2 if len(ranks) else 1))
    for low, high in pairwise(bounds):
        starts = position[np.searchsorted(position, low) : np.searchsorted(position, high)]
        rows = gt[low:high]
        free = ~taken[rows] | truth.crowd[rows, None]
        free &= oks[low:high, None] >= minimum
        place = np.where(free, np.arange(high - low)[:, None], high - low)
        if len(starts):
            best = np.minimum.reduceat(place, starts - low, axis=0)
            hit, t = np.nonzero(best < high - low)
            d, g = pairs.det[starts[hit]], rows[best[hit, t]]
            taken[g, t] = True
            matched[d, t] = True if truth.uncounted is None else ~truth.uncounted[g]
            ignored[d, t] = ignored_gt[g]
    return matched.T, ignored.T


def _curve(matched: Bool, ignored: Bool, people: int, recalls: Float64) -> tuple[Float64, Float64]:
    """Precision (T, R) at the recall points, and the last recall (T,).

    The envelope of the precision is reached at true positives alone, so only these are looked at.
    """
    precision = np.zeros((len(matched), len(recalls)))
    last = np.zeros(len(matched))
    for t in range(len(matched)):
        counted = ~ignored[t]
        hits = np.flatnonzero(matched[t] & counted)
        true = np.arange(1.0, len(hits) + 1)
        false = np.cumsum(counted)[hits] - true
        envelope = np.maximum.accumulate((true / (false + true + np.spacing(1)))[::-1])[::-1]
        reached = np.searchsorted(true / people, recalls, side="left")
        inside = reached < len(hits)
        precision[t, inside] = envelope[reached[inside]]
        last[t] = len(hits) / people
    return precision, last

"""OKS AP of a ground-truth file and a results file in COCO's format, with one clear line for every mistake."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Bool, Float64
from posekit.errors import UserError
from posekit.joint_names import match_joints
from posekit.json_file import read_json
from posekit.metrics._coco_match import DetectionRows, TruthRows
from posekit.metrics._stack import joint_extent_area
from posekit.metrics.oks_ap import evaluate_coco, group_ap, summarise
from posekit.skeletons import COCO17, SKELETONS

Source = str | PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
Entry = Mapping[str, Any]


def evaluate_coco_keypoints(
    gt_json: Source,
    results_json: Source,
    sigmas: Sequence[float] = COCO17.sigmas,
    image_ids: Sequence[int] | None = None,
    max_dets: int = 20,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, float]:
    """Evaluates a results file against a ground-truth file, equal to pycocotools (also its corner cases).

    As in that tool: a detection's area comes from ``bbox`` if the first result has one, else from its joints;
    a match with an annotation of id 0 does not count (a warning says so); several categories are averaged.

    Args:
        gt_json: Path of a COCO annotation file, or its content.
        results_json: Path of a results file (a list of ``image_id, category_id, keypoints, score``), or its content.
        sigmas: (K,) OKS standard deviations of the joints.
        image_ids: Evaluate these images only.
        max_dets: Detections per image and category that count.
        groups: Sets of joints by name; each adds ``AP/name``, as in :class:`~posekit.metrics.KeypointAP`.

    Returns:
        ``AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL`` in [0, 1], -1 where nobody is annotated in the area range.

    Raises:
        UserError: A file is missing or no JSON, or an entry is wrong; the line names the file and the entry.
    """
    loaded = load_coco(gt_json, results_json, sigmas, image_ids)
    result = summarise(*(evaluate_coco(det, truth, sigmas, max_dets) for truth, det in loaded))
    return result | group_ap(loaded, sigmas, groups or {}, max_dets)


def load_coco(
    gt_json: Source,
    results_json: Source,
    sigmas: Sequence[float],
    image_ids: Sequence[int] | None = None,
    box_area: float | None = None,
) -> list[tuple[TruthRows, DetectionRows]]:
    """Reads and checks both files.

    Args:
        gt_json: See :func:`evaluate_coco_keypoints`.
        results_json: See there.
        sigmas: See there.
        image_ids: See there.
        box_area: Take a person's area as this share of its box's, for data sets whose annotations have no area.

    Returns:
        Per category the annotated and the detected people; images are numbered by rising id.

    Raises:
        UserError: See :func:`evaluate_coco_keypoints`.
    """
    gt_name, gt = content_of(gt_json, "the ground truth")
    res_name, results = content_of(results_json, "the results")
    if not isinstance(gt, Mapping) or not all(isinstance(gt.get(k), list) for k in ("images", "annotations")):
        raise UserError(f"{gt_name}: no COCO annotation file (a dict with the lists 'images' and 'annotations')")
    if not isinstance(results, list) or not all(isinstance(entry, Mapping) for entry in results):
        raise UserError(f"{res_name}: no COCO results file (a list of dicts)")
    images = _numbered(gt["images"], gt_name)
    _warn_of_order(gt.get("categories"), sigmas, gt_name)
    entries = _without_others(gt["annotations"], gt.get("categories"), len(sigmas), results)
    annotations = _check_annotations(entries, images, gt_name, box_area is None)
    truth = _truth(annotations, images, len(sigmas), gt_name, box_area)
    det = _detections(results, images, len(sigmas), res_name)
    if image_ids is None:
        gt_in, det_in = np.ones(len(truth.image), dtype=bool), np.ones(len(det.image), dtype=bool)
    else:
        chosen = np.array([images[i] for i in _known(image_ids, images, gt_name)], dtype=np.int64)
        gt_in, det_in = np.isin(truth.image, chosen), np.isin(det.image, chosen)
    gt_category, det_category = (_get(entries, "category_id", 1) for entries in (annotations, results))
    categories = _category_ids(gt.get("categories"), gt_name) or list(dict.fromkeys(gt_category))
    _check_categories(categories, gt_category, det_category, gt_name, res_name)
    people = [category for category, ignored in zip(gt_category, truth.ignore, strict=True) if not ignored]
    _warn_of_other_people(categories, people, det_category, gt_name, res_name)
    return [
        (truth.take(gt_in & _equal(gt_category, category)), det.take(det_in & _equal(det_category, category)))
        for category in categories
    ]


def _warn_of_order(categories: Any, sigmas: Sequence[float], name: str) -> None:
    """Warns of joints in another order than the joint set's: results of posekit have the set's."""
    sets = [skeleton for skeleton in SKELETONS.values() if skeleton.sigmas == tuple(sigmas)]
    for category in categories if isinstance(categories, list) else ():
        joints = category.get("keypoints") if isinstance(category, Mapping) else None
        if not isinstance(joints, list) or len(joints) != len(sigmas):
            continue
        matches = [match_joints([str(joint) for joint in joints], skeleton) for skeleton in sets]
        if matches and all(match.order is not None for match in matches):
            warnings.warn(
                f"{name}: its joints stand in another order than {sets[0].name}'s, and are compared by their places; "
                "posekit's results are in the order of the set: posekit validate compares them",
                stacklevel=5,
            )


def content_of(source: Source, what: str) -> tuple[str, Any]:
    """Returns a name for messages and the content of a JSON file (or the content itself, as given).

    Raises:
        UserError: The file is missing or no JSON.
    """
    if not isinstance(source, str | PathLike):
        return what, source
    path = Path(source)
    return path.name, read_json(path, f"{what} file")


# -- checks and conversion --------------------------------------------------------------------------------------------


def _equal(values: Sequence[Any], wanted: Any) -> Bool:
    return np.fromiter((v == wanted for v in values), dtype=bool, count=len(values))


def _category_ids(categories: Any, name: str) -> list[Any]:
    if categories is None:
        return []
    if not isinstance(categories, list):
        raise UserError(f"{name}: categories is no list")
    _check_ids(categories, {"id": None}, f"{name}: categories")
    ids = [category["id"] for category in categories]
    if len(set(ids)) < len(ids):
        raise UserError(f"{name}: two categories have one id; the ids are {ids}")
    return ids


def _without_others(
    annotations: Sequence[Any], categories: Any, joints: int, results: Sequence[Entry]
) -> Sequence[Any]:
    """Leaves out what is no pose of these joints, of categories without joints, or with others and without results."""
    listed = [c for c in categories if isinstance(c, Mapping) and "id" in c] if isinstance(categories, list) else []
    names = [(c["id"], c.get("keypoints") or []) for c in listed]
    fits = [isinstance(own, list) and len(own) == joints for _, own in names]
    used = [entry.get("category_id", 1) for entry in results]
    others = [key for (key, own), fit in zip(names, fits, strict=True) if not fit and not (own and key in used)]
    if not others or not any(fits):
        return annotations

    def is_other(entry: Any) -> bool:
        if not isinstance(entry, Mapping) or entry.get("category_id", 1) not in others:
            return False
        points = entry.get("keypoints")
        return not isinstance(points, list) or len(points) != 3 * joints

    return [entry for entry in annotations if not is_other(entry)]


def _check_categories(
    known: Sequence[Any], annotated: Sequence[Any], used: Sequence[Any], gt_name: str, res_name: str
) -> None:
    """Refuses a file none of whose entries is of a listed category; warns of those that are not."""
    for name, what, found in ((gt_name, "annotations", annotated), (res_name, "results", used)):
        strange = [category for category in found if category not in known]
        if not strange:
            continue
        if len(strange) == len(found):
            raise UserError(f"{name}: category_id {strange[0]!r} is not in {gt_name}, which has {list(known)}")
        names = sorted(set(strange), key=str)
        warnings.warn(
            f"{name}: {len(strange)} {what} of categories {names} are left out: {gt_name} does not list them",
            stacklevel=4,
        )


def _warn_of_other_people(
    known: Sequence[Any], labelled: Sequence[Any], used: Sequence[Any], gt_name: str, res_name: str
) -> None:
    """Warns of results none of which is of a category that has labelled people: no number would tell why AP is 0."""
    people, found = (sorted(set(ids) & set(known), key=str) for ids in (labelled, used))
    if people and found and not set(people) & set(found):
        warnings.warn(
            f"{res_name}: all results are of categories {found}, of which {gt_name} has no labelled people; those are "
            f"of categories {people}",
            stacklevel=4,
        )


def _check_ids(entries: Sequence[Any], fields: Mapping[str, Any], what: str) -> None:
    """Refuses entries whose ids are neither numbers nor text; ``fields`` says what stands for an absent one."""
    for i, entry in enumerate(entries):
        for field, default in fields.items():
            value = entry.get(field, default) if isinstance(entry, Mapping) else None
            if not (math.isfinite(value) if isinstance(value, float) else isinstance(value, int | str | np.integer)):
                raise UserError(f"{what}[{i}] has {'no' if value is None else 'a wrong'} {field}")


def _get(entries: Sequence[Entry], field: str, default: Any) -> list[Any]:
    return [e.get(field, default) for e in entries]


def _numbered(images: Sequence[Entry], name: str) -> dict[Any, int]:
    _check_ids(images, {"id": None}, f"{name}: images")
    ids = [image["id"] for image in images]
    if len(set(ids)) < len(ids):
        raise UserError(f"{name}: image id {Counter(ids).most_common(1)[0][0]} is given more than once")
    if len({isinstance(key, str) for key in ids}) > 1:
        raise UserError(f"{name}: some image ids are numbers and some are text")
    return {key: i for i, key in enumerate(sorted(ids))}


def _known(image_ids: Sequence[int], images: Mapping[Any, int], name: str) -> Sequence[int]:
    for key in image_ids:
        if key not in images:
            raise UserError(f"image id {key!r} is not in {name}")
    return image_ids


def _check_annotations(
    annotations: Sequence[Entry], images: Mapping[Any, int], name: str, need_area: bool
) -> list[Entry]:
    """Checks ids and the presence of fields; those of images that are not listed are left out."""
    what = f"{name}: annotations"
    for i, entry in enumerate(annotations):
        if not isinstance(entry, Mapping):
            raise UserError(f"{name}: annotations[{i}] is no object")
        for field in ("id", "image_id", "keypoints", "bbox", *(("area",) if need_area else ())):
            if field not in entry:
                raise UserError(f"{name}: annotations[{i}] (id {entry.get('id')}) has no {field!r}")
        if entry.get("iscrowd") not in (0, 1, None):
            raise UserError(f"{name}: annotations[{i}] (id {entry['id']}) has an iscrowd other than 0 or 1")
    _check_ids(annotations, {"id": None, "image_id": None, "category_id": 1}, what)
    ids = Counter(entry["id"] for entry in annotations)
    if len(ids) < len(annotations):
        double, times = ids.most_common(1)[0]
        raise UserError(f"{name}: annotation id {double} is given {times} times")
    kept = [entry for entry in annotations if entry["image_id"] in images]
    if len(kept) < len(annotations):
        left = len(annotations) - len(kept)
        warnings.warn(
            f"{name}: {left} annotations belong to images that the file does not list; left out", stacklevel=4
        )
    return kept


def _numbers(entries: Sequence[Entry], field: str, length: int, what: str, named: Sequence[str]) -> Float64:
    """Reads a field of all entries into (N, length), or (N,) for length 0; one pass, checks only on failure."""

    def label(i: int) -> str:
        return f"{what}[{i}]{named[i]}"

    if length:
        for i, entry in enumerate(entries):
            value = entry[field]
            if not isinstance(value, list | tuple | np.ndarray) or len(value) != length:
                size = f"{len(value)} numbers" if hasattr(value, "__len__") else repr(value)
                hint = f" (3 for each of the {length // 3} joints)" if field == "keypoints" else ""
                raise UserError(f"{label(i)}: {field} has {size}, needed are {length}{hint}")
    try:
        flat = chain.from_iterable(e[field] for e in entries) if length else (e[field] for e in entries)
        values = np.fromiter(flat, dtype=np.float64, count=len(entries) * max(length, 1))
    except (OverflowError, TypeError, ValueError):
        i = next((i for i, e in enumerate(entries) if not _is_numeric(e[field], length)), 0)
        raise UserError(f"{label(i)}: {field} holds something that is no number") from None
    values = values.reshape(len(entries), length) if length else values
    wrong = ~np.isfinite(values) if not length else ~np.isfinite(values).all(1)
    if wrong.any():
        raise UserError(f"{label(int(wrong.argmax()))}: {field} holds NaN or infinity")
    return values


def _is_numeric(value: Any, length: int) -> bool:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        return False
    return value is not None and found.shape == ((length,) if length else ())


def _truth(
    entries: Sequence[Entry], images: Mapping[Any, int], joints: int, name: str, box_area: float | None
) -> TruthRows:
    named = [f" (id {e['id']})" for e in entries]
    what = f"{name}: annotations"
    points = _numbers(entries, "keypoints", 3 * joints, what, named).reshape(-1, joints, 3)
    labelled = points[..., 2] > 0
    crowd = np.array([bool(e.get("iscrowd", 0)) for e in entries], dtype=bool)
    number = labelled.sum(1)
    counts = [{"num_keypoints": e.get("num_keypoints", n)} for e, n in zip(entries, number.tolist(), strict=True)]
    given = _numbers(counts, "num_keypoints", 0, what, named)
    zero = np.array([e["id"] == 0 for e in entries], dtype=bool)
    if zero.any():
        warnings.warn(
            f"{name}: one annotation has id 0; pycocotools does not count a match with it, and so neither does this",
            stacklevel=4,
        )
    boxes = _numbers(entries, "bbox", 4, what, named)
    area = _numbers(entries, "area", 0, what, named) if box_area is None else boxes[:, 2] * boxes[:, 3] * box_area
    return TruthRows(
        np.array([images[e["image_id"]] for e in entries], dtype=np.int64), points[..., :2], labelled, area, boxes,
        crowd, crowd | (given == 0), zero if zero.any() else None,
    )  # fmt: skip


def _detections(entries: Sequence[Entry], images: Mapping[Any, int], joints: int, name: str) -> DetectionRows:
    own_boxes = bool(entries) and bool(entries[0].get("bbox"))
    needed = ("image_id", "keypoints", "score", *(("bbox",) if own_boxes else ()))
    _check_ids(entries, {"image_id": 0, "category_id": 1}, f"{name}: result ")
    for i, entry in enumerate(entries):
        for field in needed:
            if entry.get(field) is None:
                also = ", but the first result has one" if field == "bbox" else ""
                raise UserError(f"{name}: result [{i}] (image_id {entry.get('image_id')}) has no {field!r}{also}")
        if entry["image_id"] not in images:
            raise UserError(f"{name}: result [{i}] has image_id {entry['image_id']!r}, which the ground truth lacks")
    named = [f" (image_id {e['image_id']})" for e in entries]
    what = f"{name}: result "
    points = _numbers(entries, "keypoints", 3 * joints, what, named).reshape(-1, joints, 3)
    score = _numbers(entries, "score", 0, what, named)
    if own_boxes:
        boxes = _numbers(entries, "bbox", 4, what, named)
        area = boxes[:, 2] * boxes[:, 3]
    else:
        area = joint_extent_area(points)
    image = np.array([images[e["image_id"]] for e in entries], dtype=np.int64)
    _warn_of_duplicates(image, points, score, named, name)
    return DetectionRows(image, points[..., :2], score, area)


def _warn_of_duplicates(image: Any, points: Float64, score: Float64, named: Sequence[str], name: str) -> None:
    """Warns of results that are equal in image, score and joints; they are evaluated, as the tool does."""
    seen: dict[tuple[int, float, bytes], int] = {}
    double, first = 0, (0, 0)
    for i, key in enumerate(zip(image.tolist(), score.tolist(), (p.tobytes() for p in points), strict=True)):
        other = seen.setdefault(key, i)
        if other != i:
            double, first = double + 1, first if double else (other, i)
    if double:
        warnings.warn(
            f"{name}: {double} results repeat another one, first [{first[1]}] repeats [{first[0]}]{named[first[0]]}; "
            "all are evaluated",
            stacklevel=5,
        )

"""Boxes of a person detector, read from JSON and checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posekit.arrays import Float64, Int64
from posekit.data.coco_categories import listed_category, nobody, people_category
from posekit.data.coco_file import OnFault, box_fault, report_faults
from posekit.errors import UserError, excerpt
from posekit.json_file import numbers, read_json, whole

log = logging.getLogger(__name__)

PictureRow = Callable[[Mapping[str, Any]], int | str | None]


class Boxes(NamedTuple):
    """Boxes of people; one row each."""

    image_rows: Int64  # (N,) row of the picture
    boxes: Float64  # (N, 4) xywh px
    scores: Float64  # (N,)
    sample_ids: Int64  # (N,) place in the file


def read_detections(
    path: str | Path,
    rows_by_id: Mapping[int, int],
    threshold: float = 0.0,
    on_bad_annotation: OnFault = "error",
    category: Any = 1,
) -> Boxes:
    """Reads a detections file in COCO's results format (``image_id, category_id, bbox, score``).

    Boxes of other categories and of other pictures are left out (the latter with a warning: a file made for the whole
    of val2017 serves a part of it).

    Args:
        path: The JSON file.
        rows_by_id: Row of each picture by its id.
        threshold: Boxes of a lower score are left out.
        on_bad_annotation: What to do about faulty entries: ``"error"`` or ``"skip"``.
        category: Id of the people's category.

    Raises:
        UserError: The file cannot be used, or nothing is left of it.
    """
    return read_listed_boxes(path, partial(_row_of_id, rows_by_id), "images", threshold, on_bad_annotation, category)


def _row_of_id(rows_by_id: Mapping[int, int], entry: Mapping[str, Any]) -> int | str | None:
    image_id = whole(entry.get("image_id"))
    return "has no integer image_id" if image_id is None else rows_by_id.get(image_id)


def read_listed_boxes(
    path: str | Path,
    row_of: PictureRow,
    pictures: str,
    threshold: float,
    on_bad_annotation: OnFault,
    category: Any = 1,
) -> Boxes:
    """Reads a detections file whose boxes name their pictures in any way; see :func:`read_detections`.

    Args:
        path: The JSON file.
        row_of: Gives the row of an entry's picture, None where the annotations do not list it, or what is wrong.
        pictures: What to call the pictures, e.g. ``"frames"``.
        threshold: Boxes of a lower score are left out.
        on_bad_annotation: What to do about faulty entries: ``"error"`` or ``"skip"``.
        category: Id of the people's category.

    Raises:
        UserError: The file cannot be used, or nothing is left of it.
    """
    path = Path(path)
    content = read_json(path, "detections file")
    if not isinstance(content, list):
        raise UserError(f"detections file {path} holds a {type(content).__name__}, not a list of boxes")
    kept: list[tuple[int, list[float], float, int]] = []
    faults: list[str] = []
    strangers = 0
    for number, entry in enumerate(content):
        row = row_of(entry) if isinstance(entry, dict) else "is no object"
        reason = row if isinstance(row, str) else _fault(entry)
        if reason is not None:
            faults.append(f"box number {number} {reason}")
        elif entry.get("category_id", category) == category and entry["score"] >= threshold:
            if isinstance(row, int):
                kept.append((row, entry["bbox"], entry["score"], number))
            else:
                strangers += 1
    report_faults(path, faults, "box", on_bad_annotation)
    if strangers:
        log.warning("%s: left out %d boxes of %s that the annotations do not list", path, strangers, pictures)
    if not kept and content and all(_is_of_others(entry, category) for entry in content):
        raise nobody("detections file", path, category, content)
    if not kept:
        wanted = f"no person box of score {threshold:g} or more in the listed {pictures}"
        raise UserError(f"detections file {path} has {wanted}")
    return make_boxes(kept)


def make_boxes(rows: list[tuple[int, list[float], float, int]]) -> Boxes:
    """Makes arrays of rows (picture's row, box, score, id), in the pictures' order: each is then decoded once."""
    rows = sorted(rows, key=lambda row: row[0])
    image_rows, boxes, scores, ids = zip(*rows, strict=True) if rows else ([],) * 4
    return Boxes(
        np.array(image_rows, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
        np.array(ids, dtype=np.int64),
    )


def box_entries(path: Path, content: Any) -> list[tuple[int, Any]]:
    """Returns the box entries of a list or of a COCO file with their places, crowds and other categories left out.

    Frames and tracks that were written as floats (``785.0``) are whole numbers then. The people's category of a COCO
    file: :func:`~posekit.data.coco_categories.people_category`; of a list: 1, or 0 if all boxes are of it.

    Args:
        path: The file, for messages.
        content: What it holds.

    Raises:
        UserError: It is neither, or none of its boxes is a person's.
    """
    entries, own = _entries_and_category(path, content)
    if entries and all(_is_of_others(entry, own) for entry in entries):
        raise nobody("boxes file", path, own, entries)
    crowds = isinstance(content, dict)
    return [
        (i, _with_whole_numbers(e))
        for i, e in enumerate(entries)
        if not (_is_of_others(e, own) or (crowds and _is_crowd(e)))
    ]


def results_category(path: Path, content: Any) -> Any:
    """Returns the category that results for boxes have: the one with joints of a COCO file, else 1.

    Boxes without joints are a detector's: their ids say how it counts, not how the ground truth does.

    Args:
        path: The file, for messages.
        content: What it holds.

    Raises:
        UserError: It is neither a list of boxes nor a COCO file, or does not say which category is the people's.
    """
    if isinstance(content, list):
        return 1
    entries, own = _entries_and_category(path, content)
    posed = [
        c["id"] for c in content.get("categories") or [] if isinstance(c, dict) and "id" in c and c.get("keypoints")
    ]
    for category in [own, *posed]:
        mine = [entry for entry in entries if isinstance(entry, dict) and not _is_of_others(entry, category)]
        if mine and (category in posed or any(entry.get("keypoints") for entry in mine)):
            return category
    return 1


def _entries_and_category(path: Path, content: Any) -> tuple[list[Any], Any]:
    """Returns all entries of a list or of a COCO file, and the id of the people's category."""
    entries, categories = content, None
    if not isinstance(content, list):
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise UserError(f"boxes file {path} holds neither a list of boxes nor a COCO file with annotations")
        entries, categories = content["annotations"], content.get("categories")
    if not isinstance(categories or [], list):
        raise UserError(f"boxes file {path}: categories is no list")
    if not categories:
        return entries, listed_category(path, entries)
    return entries, people_category(path, categories, entries, boxes=True)["id"]


def _with_whole_numbers(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    floats = [key for key in ("image_id", "frame", "track", "track_id") if isinstance(entry.get(key), float)]
    found = {key: whole(entry[key]) for key in floats}
    return entry | {key: number for key, number in found.items() if number is not None} if found else entry


def _is_of_others(entry: Any, person: Any) -> bool:
    return isinstance(entry, dict) and category_fault(entry) is None and entry.get("category_id", person) != person


def _is_crowd(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("iscrowd") == 1


def entry_fault(entry: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a box entry's ``score``, ``iscrowd``, ``category_id`` or ``bbox``, or None."""
    if numbers([entry.get("score", 1.0)], 1) is None:
        return "has a score that is no finite number"
    if entry.get("iscrowd") not in (0, 1, None):
        return f"has an iscrowd other than 0 or 1: {excerpt(entry['iscrowd'])}"
    return category_fault(entry) or box_fault(entry.get("bbox"))


def category_fault(entry: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a box's ``category_id``, or None: boxes of other objects are left out in silence."""
    category = entry.get("category_id", 1)
    return None if numbers([category], 1) else f"has a category_id that is no number: {excerpt(category)}"


def _fault(entry: Mapping[str, Any]) -> str | None:
    if numbers([entry.get("score")], 1) is None:
        return "has no finite score"
    return category_fault(entry) or box_fault(entry.get("bbox"))

"""The form of 2018 and 21: COCO's ``images``, ``annotations`` and ``categories``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Float64
from posekit.errors import UserError, excerpt
from posekit.json_file import numbers, whole
from posekit.posetrack.entries import FrameEntry, PersonEntry
from posekit.posetrack.fields import slots_of


def frames_2018(path: Path, content: Mapping[str, Any]) -> list[FrameEntry]:
    """Returns the frames.

    Raises:
        UserError: A frame is faulty, or has another's id.
    """
    frames: list[FrameEntry] = []
    ids: set[int] = set()
    for number, image in enumerate(content["images"]):
        place = f"images[{number}]"
        image_id = whole(image.get("id")) if isinstance(image, Mapping) else None
        if image_id is None or image_id in ids:
            what = f"has the id {image_id}, which another has" if image_id is not None else _no_id(image)
            raise UserError(f"{path}: {place} {what}")
        ids.add(image_id)
        name, size = image.get("file_name"), (whole(image.get("width")) or 0, whole(image.get("height")) or 0)
        flag = bool(image.get("is_labeled", False)) and bool(image.get("has_labeled_person", True))
        regions, faults = _regions(image, place)
        known = size if min(size) > 0 else (0, 0)
        frames.append(FrameEntry(place, name if isinstance(name, str) else "", image_id, known, flag, regions, faults))
    return frames


def _no_id(image: Any) -> str:
    return f"has no integer id: {excerpt(image.get('id'))}" if isinstance(image, Mapping) else "is no object"


def _regions(image: Mapping[str, Any], place: str) -> tuple[tuple[Float64, ...], tuple[str, ...]]:
    """Returns the ignore regions, and what is wrong with those left out."""
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    if not isinstance(xs, list) or not isinstance(ys, list):
        return (), (f"{place} has ignore_regions_x or _y that is no list: {excerpt([xs, ys])}",)
    if xs and not isinstance(xs[0], list):
        xs, ys = [xs], [ys]
    if len(xs) != len(ys):
        return (), (f"{place} has ignore_regions_x and _y of different lengths: {len(xs)} and {len(ys)} regions",)
    found = [_region(x, y) for x, y in zip(xs, ys, strict=True)]
    faults = tuple(f"{place} has ignore_regions_x {region}" for region in found if isinstance(region, str))
    return tuple(region for region in found if not isinstance(region, str)), faults


def _region(x: Any, y: Any) -> Float64 | str:
    """Returns a region's corners (V, 2), or what is wrong with it."""
    if not isinstance(x, list) or not isinstance(y, list):
        return f"or _y with a region that is no list: {excerpt([x, y])}"
    if len(x) != len(y):
        return f"and _y of different lengths: {excerpt([x, y])}"
    if numbers(x, len(x)) is None or numbers(y, len(y)) is None:
        return f"or _y of no finite numbers: {excerpt([x, y])}"
    return np.array([x, y], dtype=np.float64).T.reshape(-1, 2)


def people_2018(
    path: Path, content: Mapping[str, Any], frames: Sequence[FrameEntry], scored: bool, boxes: bool
) -> tuple[list[PersonEntry], Float64, list[str]]:
    """Returns the people, their joints, and what is wrong with the faulty ones.

    Raises:
        UserError: The file's joints are not PoseTrack's.
    """
    *columns, slots = slots_of(path, content)
    rows = {frame.image_id: row for row, frame in enumerate(frames)}
    people: list[PersonEntry] = []
    points: list[Sequence[float]] = []
    faults = []
    nothing = [0.0] * (3 * slots)
    for number, entry in enumerate(content["annotations"]):
        person = _person(entry, rows, columns, slots, scored, boxes)
        if isinstance(person, str):
            known = isinstance(entry, Mapping) and entry.get("id") is not None
            faults.append(f"annotation {entry['id'] if known else f'number {number} of the list'} {person}")
        else:
            people.append(person)
            points.append(entry["keypoints"] if person.has_points else nothing)
    joints = np.array(points, dtype=np.float64).reshape(-1, slots, 3)[:, columns]
    # All zeros is absent; (x, y, 0) is annotated for the benchmark's tool.
    joints[..., 2] = np.where((joints != 0).any(-1), np.where(joints[..., 2] > 0, 2.0, 1.0), 0.0)
    return people, joints, faults


def _person(
    entry: Any, rows: Mapping[int, int], columns: Sequence[int], slots: int, scored: bool, boxes: bool
) -> PersonEntry | str:
    """Returns a person, or what is wrong with it."""
    if not isinstance(entry, Mapping):
        return "is no object"
    image_id = whole(entry.get("image_id"))
    row = None if image_id is None else rows.get(image_id)
    if row is None:
        return f"belongs to image {excerpt(entry.get('image_id'))}, which is not listed"
    values = entry.get("keypoints")
    if values is not None:
        if not isinstance(values, list) or len(values) != 3 * slots:
            count = len(values) if isinstance(values, list) else 0
            return f"has {count} keypoint numbers, expected {3 * slots} ({slots} joints x 3)"
        if numbers(values, 3 * slots) is None:
            return "has keypoints that are not finite numbers"
    number, track = whole(entry.get("id")), whole(entry.get("track_id"))
    own, followed = (-1 if found is None else found for found in (number, track))
    person = PersonEntry(row, own, followed, values is not None, None, None, None)
    return _with_scores(person, entry, columns, slots) if scored else _with_boxes(person, entry, boxes)


def _with_scores(
    person: PersonEntry, entry: Mapping[str, Any], columns: Sequence[int], slots: int
) -> PersonEntry | str:
    scores = entry.get("scores")
    if not scores:
        return person
    if numbers(scores, slots) is None:
        count = len(scores) if isinstance(scores, list) else 0
        return f"has scores that are not {slots} finite numbers, but {count}: {excerpt(scores, 60)}"
    return person._replace(scores=np.array(scores, dtype=np.float64)[columns])


def _with_boxes(person: PersonEntry, entry: Mapping[str, Any], boxes: bool) -> PersonEntry | str:
    box, head = (entry.get("bbox") or None) if boxes else None, entry.get("bbox_head") or None
    for name, value in (("bbox", box), ("bbox_head", head)):
        if value is not None and numbers(value, 4) is None:
            return f"has a {name} that is not four finite numbers: {excerpt(value, 60)}"
    if head is not None:
        x, y, width, height = head
        head = [x, y, x + width, y + height]
    return person._replace(box=box, head=head)

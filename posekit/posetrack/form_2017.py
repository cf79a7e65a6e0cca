"""The 2017 form: ``annolist``, a struct a frame, as MATLAB's export writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Float64
from posekit.errors import UserError, excerpt
from posekit.json_file import numbers
from posekit.posetrack.entries import FrameEntry, PersonEntry
from posekit.posetrack.fields import JOINTS, is_empty, of_form

_CORNER_FAULT = "has an ignore region with a corner whose x or y is no finite number"
_NO_STRUCTS = "that is neither a struct nor a list of structs"
_CORNERS = ("x1", "y1", "x2", "y2")


def frames_2017(path: Path, content: Mapping[str, Any]) -> list[FrameEntry]:
    """Returns the frames.

    Raises:
        UserError: A frame is faulty.
    """
    frames = []
    for number, frame in enumerate(content["annolist"]):
        place = f"frame {number} of annolist"
        if not isinstance(frame, Mapping):
            raise UserError(f"{path}: {place} is no object")
        image = _structs(frame.get("image"))
        if image is None:
            raise UserError(f"{path}: {place} has an image {_NO_STRUCTS}: {excerpt(frame['image'])}")
        name = image[0].get("name") if image else None
        name = name if isinstance(name, str) else ""
        found = _regions(frame.get("ignore_regions"))
        polygons = tuple(region for region in found if not isinstance(region, str))
        faults = tuple(f"{_label(number, name)} {region}" for region in found if isinstance(region, str))
        frames.append(FrameEntry(place, name, -1, (0, 0), bool(_first(frame.get("is_labeled"))), polygons, faults))
    return frames


def people_2017(
    path: Path, content: Mapping[str, Any], frames: Sequence[FrameEntry], scored: bool
) -> tuple[list[PersonEntry], Float64, list[str]]:
    """Returns the people, their joints, and what is wrong with the faulty ones.

    Raises:
        UserError: A frame's people are no list.
    """
    people: list[PersonEntry] = []
    points: list[Float64] = []
    faults = []
    for row, frame in enumerate(frames):
        label = _label(row, frame.name)
        listed = _listed(content["annolist"][row].get("annorect"))
        if listed is None:
            raise UserError(f"{path}: {label} has an annorect that is no list")
        for place, rect in enumerate(listed):
            with of_form("2017", f"{path}: {label} person {place}"):
                joints = np.zeros((JOINTS, 3))
                person = _person(row, rect, joints, scored)
            if isinstance(person, str):
                faults.append(f"{label} person {place} {person}")
            else:
                people.append(person)
                points.append(joints)
    return people, np.array(points, dtype=np.float64).reshape(-1, JOINTS, 3), faults


def _label(number: int, name: str) -> str:
    return f"frame {number} ({name})" if name else f"frame {number} of annolist"


def _first(value: Any) -> float | None:
    """Reads a number that MATLAB's export wraps in a list; None for anything else."""
    if isinstance(value, list) and value:
        value = value[0]
    found = numbers([value], 1)
    return None if found is None else float(found[0])


def _is_absent(value: Any) -> bool:
    """Tells whether a number is left empty, wrapped in a list or not."""
    return is_empty(value) or (isinstance(value, list) and len(value) == 1 and is_empty(value[0]))


def _listed(value: Any) -> list[Any] | None:
    """Returns a list, which MATLAB's export leaves out around one struct and writes as nothing where it is empty."""
    if is_empty(value):
        return []
    return value if isinstance(value, list) else [value] if isinstance(value, Mapping) else None


def _structs(value: Any) -> list[Mapping[str, Any]] | None:
    """Returns a list of structs, an empty one of which has no field; None of something else."""
    listed = _listed(value)
    if listed is None or not all(isinstance(struct, Mapping) or is_empty(struct) for struct in listed):
        return None
    return [struct or {} for struct in listed]


def _regions(value: Any) -> list[Float64 | str]:
    """Returns the ignore regions, or what is wrong in the place of a faulty one."""
    listed = _listed(value)
    return [f"has an ignore_regions {_NO_STRUCTS}: {excerpt(value)}"] if listed is None else list(map(_polygon, listed))


def _polygon(region: Any) -> Float64 | str:
    """Returns a region's corners (V, 2), of which those left empty are none, or what is wrong with it."""
    if not isinstance(region, Mapping) and not is_empty(region):
        return f"has an ignore region that is no struct: {excerpt(region)}"
    value = region.get("point") if region else None
    corners = _structs(value)
    if corners is None:
        return f"has an ignore region with a point {_NO_STRUCTS}: {excerpt(value)}"
    given = [corner for corner in corners if not any(_is_absent(corner.get(c)) for c in "xy")]
    points = [[_first(corner.get(c)) for c in "xy"] for corner in given]
    if any(None in point for point in points):
        return _CORNER_FAULT
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _person(row: int, rect: Any, joints: Float64, scored: bool) -> PersonEntry | str:
    """Returns a person and fills in its joints (15, 3), or says what is wrong with it."""
    if not isinstance(rect, Mapping):
        return "is no object"
    holders = _listed(rect.get("annopoints"))
    holder = holders[0] if holders else {}
    holder = {} if is_empty(holder) else holder
    points = _listed(holder.get("point")) if isinstance(holder, Mapping) else None
    if holders is None or points is None:
        return "has annopoints that are no list of points"
    scores = np.full(JOINTS, np.nan)
    for point in points:
        fault = _add_point(joints, scores if scored else None, point)
        if fault is not None:
            return fault
    head, track = None, None
    if not scored:
        corners = [rect.get(key) for key in _CORNERS]
        if not any(_is_absent(corner) for corner in corners):  # one that lacks a side is none
            head = [found for found in map(_first, corners) if found is not None]
            if len(head) < len(_CORNERS):
                return f"has a head box (x1, y1, x2, y2) that is not four finite numbers: {excerpt(corners, 60)}"
        track = _first(rect.get("track_id"))
    has_points = holder.get("point") is not None
    own = -1 if track is None else int(track)
    return PersonEntry(row, -1, own, has_points, scores if scored else None, None, head)


def _add_point(joints: Float64, scores: Float64 | None, point: Any) -> str | None:
    """Puts a joint in its place; returns what is wrong with it instead, if something is."""
    fault = "has a point whose id, x or y is no finite number"
    if not isinstance(point, Mapping):
        return f"{fault}: {excerpt(point)}"
    values = []
    for key in ("id", "x", "y"):
        value = _first(point.get(key))
        if value is None:
            return f"{fault}: {f'{key} is {excerpt(point[key])}' if key in point else f'it has no {key!r}'}"
        values.append(value)
    joint, x, y = values
    if not 0 <= joint < JOINTS or joint != int(joint):
        return f"has a point id {joint:g}, known are 0 to {JOINTS - 1}"
    if joints[int(joint), 2]:  # the first one counts
        return None
    seen = point.get("is_visible")
    hidden = seen is not None and str(seen[0] if isinstance(seen, list) and seen else seen) in ("0", "False", "")
    joints[int(joint)] = x, y, 1 if hidden else 2
    if scores is not None and not _is_absent(point.get("score")):  # 0 is a score
        score = _first(point["score"])
        if score is None:
            return f"has a point whose score is no finite number: {excerpt(point['score'])}"
        scores[int(joint)] = score
    return None

"""Reading of PoseTrack's sequence files for the evaluation: the 2017 format and the COCO-like one of 2018 and 21."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from posekit.errors import UserError, one_line
from posekit.metrics._coco_match import Bools, Floats
from posekit.metrics.coco_files import content_of
from posekit.skeletons import POSETRACK15

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]

NO_SCORE = -9999.0  # what poseval gives a predicted joint without score
SLOTS_2018 = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_JOINTS = len(POSETRACK15)


@dataclass(frozen=True)
class People:
    """The people of one frame."""

    xy: Floats  # (N, 15, 2) px
    score: Floats  # (N, 15)
    present: Bools  # (N, 15)
    head: Floats  # (N, 4) x1, y1, x2, y2 px; NaN without
    has_points: Bools  # (N,) whether the file has a list of points at all

    def take(self, rows: Bools) -> People:
        """Returns the given people."""
        return People(self.xy[rows], self.score[rows], self.present[rows], self.head[rows], self.has_points[rows])

    def with_points(self) -> People:
        """Returns the people that have a list of points."""
        return self.take(self.has_points)

    @classmethod
    def empty(cls, count: int = 0) -> People:
        """Returns people without any joint."""
        shape = (count, _JOINTS)
        return cls(
            np.zeros((*shape, 2)), np.full(shape, NO_SCORE), np.zeros(shape, bool), np.full((count, 4), np.nan),
            np.ones(count, bool),
        )  # fmt: skip

    @classmethod
    def predicted(cls, points: Floats) -> People:
        """Makes people of (N, 15, 3) x, y, score; a joint whose score is NaN is absent."""
        people = cls.empty(len(points))
        present: Bools = np.isfinite(points.sum(-1))
        return cls(points[..., :2], points[..., 2], present, people.head, people.has_points)


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        name: File name of the image.
        image_id: Its id in the 2018 format, -1 in the 2017 format.
        labelled: Whether it has any entry for a person (poseval leaves the others out, with their predictions).
        people: The people.
        regions: Ignore regions as polygons (V, 2) px.
    """

    name: str
    image_id: int
    labelled: bool
    people: People
    regions: tuple[Floats, ...]


def sequence_files(paths: Paths, what: str) -> dict[str, Path]:
    """Returns the sequence files by name, sorted.

    Raises:
        UserError: The folder does not exist or holds no JSON file, or two files have the same name.
    """
    if isinstance(paths, str | PathLike):
        folder = Path(paths)
        if not folder.exists():
            raise UserError(f"{what}: {folder} does not exist")
        files = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
        if not files:
            raise UserError(f"{what}: the folder {folder} holds no .json file")
    else:
        files = [Path(p) for p in paths]
    named: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: p.name):
        if path.name in named:
            raise UserError(f"{what}: two files are named {path.name}: {named[path.name]} and {path}")
        named[path.name] = path
    return named


def read_sequence(path: Path) -> list[Frame]:
    """Reads one sequence file of either format.

    Raises:
        UserError: The file is missing, no JSON, of neither format, or an entry is wrong.
    """
    name, content = content_of(path, "sequence")
    try:
        return _frames(content, name)
    except UserError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:  # e.g. a list for an object
        raise UserError(f"{name}: an entry is not of PoseTrack's form ({one_line(error)})") from None


def _frames(content: Any, name: str) -> list[Frame]:
    if isinstance(content, Mapping) and isinstance(content.get("annolist"), list):
        return [_frame_2017(frame, f"{name}: annolist[{i}]") for i, frame in enumerate(content["annolist"])]
    if isinstance(content, Mapping) and all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        return _frames_2018(content, name)
    raise UserError(f"{name}: no PoseTrack file (neither 'annolist' nor 'images' and 'annotations')")


# -- 2017 -------------------------------------------------------------------------------------------------------------


def _first(value: Any, what: str) -> float:
    """Reads a number that MATLAB's export wraps in a list."""
    if isinstance(value, list | tuple) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what} is {value!r}, no number")
    if not math.isfinite(value):
        raise UserError(f"{what} is {value}, not finite")
    return float(value)


def _finite(values: Any, what: str) -> Floats:
    found = np.array(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise UserError(f"{what} holds NaN or infinity")
    return found


def _rects(value: Any, what: str) -> list[Mapping[str, Any]]:
    """Returns the people of a frame; MATLAB's export has no list around a single one."""
    if value is None or value == {}:
        return []
    rects = [value] if isinstance(value, Mapping) else value
    if not isinstance(rects, list) or not all(isinstance(rect, Mapping) for rect in rects):
        raise UserError(f"{what} is no list of people")
    return rects


def _frame_2017(frame: Mapping[str, Any], what: str) -> Frame:
    rects = _rects(frame.get("annorect"), f"{what}.annorect")
    people = People.empty(len(rects))
    for i, rect in enumerate(rects):
        label = f"{what}.annorect[{i}]"
        if all(k in rect for k in ("x1", "y1", "x2", "y2")):
            people.head[i] = [_first(rect[k], f"{label}.{k}") for k in ("x1", "y1", "x2", "y2")]
        holder = rect.get("annopoints") or [{}]
        points = ((holder[0] if isinstance(holder, list) else holder) or {}).get("point")
        people.has_points[i] = points is not None
        for point in [points] if isinstance(points, Mapping) else points or []:
            _add_point(people, i, point, label)
    image = frame.get("image") or [{}]
    regions = []
    for region in frame.get("ignore_regions") or []:
        corners = region.get("point", [])
        regions.append(np.array([[_first(p[c], f"{what}.ignore_regions") for c in "xy"] for p in corners]))
    return Frame(str(image[0].get("name", "")), -1, bool(rects), people, tuple(regions))


def _add_point(people: People, i: int, point: Mapping[str, Any], label: str) -> None:
    for field in ("id", "x", "y"):
        if field not in point:
            raise UserError(f"{label}: a point has no {field!r}")
    joint = int(_first(point["id"], f"{label}.id"))
    if not 0 <= joint < _JOINTS:
        raise UserError(f"{label}: point id {joint} is not in 0..{_JOINTS - 1}")
    if people.present[i, joint]:  # the first point with an id counts
        return
    people.present[i, joint] = True
    people.xy[i, joint] = [_first(point[c], f"{label}.{c}") for c in "xy"]
    if point.get("score") not in (None, [], {}):  # 0 is a score
        people.score[i, joint] = _first(point["score"], f"{label}.score")


# -- 2018 and 21 ------------------------------------------------------------------------------------------------------


def _frames_2018(content: Mapping[str, Any], name: str) -> list[Frame]:
    categories = content.get("categories") or [{}]
    slots = list(categories[0].get("keypoints") or SLOTS_2018)
    slots = ["head_bottom" if s == "neck" else s for s in slots]
    missing = [j for j in POSETRACK15.joints if j not in slots]
    if missing:
        raise UserError(f"{name}: categories[0].keypoints lacks {', '.join(missing)}")
    columns = [slots.index(j) for j in POSETRACK15.joints]
    by_image: dict[Any, list[tuple[int, Mapping[str, Any]]]] = {}
    for i, image in enumerate(content["images"]):
        if "id" not in image:
            raise UserError(f"{name}: images[{i}] has no id")
        if image["id"] in by_image:
            raise UserError(f"{name}: images[{i}] has the id {image['id']}, which another has")
        by_image[image["id"]] = []
    for i, entry in enumerate(content["annotations"]):
        if entry.get("image_id") not in by_image:
            raise UserError(f"{name}: annotations[{i}] has image_id {entry.get('image_id')!r}, which images lack")
        by_image[entry["image_id"]].append((i, entry))
    frames = []
    for image in content["images"]:
        rows = by_image[image["id"]]
        people = _people_2018(rows, columns, len(slots), name)
        file_name = str(image.get("file_name", ""))
        frames.append(Frame(file_name, int(image["id"]), bool(rows), people, _regions_2018(image)))
    return frames


def _people_2018(
    rows: Sequence[tuple[int, Mapping[str, Any]]], columns: Sequence[int], slots: int, name: str
) -> People:
    people = People.empty(len(rows))
    for i, (number, entry) in enumerate(rows):
        label = f"{name}: annotations[{number}]"
        values = entry.get("keypoints")
        people.has_points[i] = values is not None
        if values is not None:
            if len(values) != 3 * slots:
                raise UserError(f"{label}: keypoints has {len(values)} numbers, needed are {3 * slots}")
            points = _finite(values, f"{label}: keypoints").reshape(slots, 3)[columns]
            people.xy[i] = points[:, :2]
            people.present[i] = (points != 0).any(1)  # (x, y, 0) counts as annotated for poseval
        scores = entry.get("scores")
        if scores:
            if len(scores) != slots:
                raise UserError(f"{label}: scores has {len(scores)} numbers, needed are {slots}")
            people.score[i] = _finite(scores, f"{label}: scores")[columns]
        box = entry.get("bbox_head")
        if box:
            x, y, width, height = _finite(box, f"{label}: bbox_head").tolist()
            people.head[i] = [x, y, x + width, y + height]
    return people


def _regions_2018(image: Mapping[str, Any]) -> tuple[Floats, ...]:
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    if xs and not isinstance(xs[0], list | tuple):
        xs, ys = [xs], [ys]
    outlines = (np.array([x, y], dtype=np.float64).T for x, y in zip(xs, ys, strict=True))
    return tuple(outline.reshape(-1, 2) for outline in outlines)

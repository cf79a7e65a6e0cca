"""Reading MPII's files: HRNet's JSON, the official RELEASE .mat, and the .mat of the published PCKh evaluation.

All of them count pixels from 1, as MATLAB does; what leaves this file counts from 0.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from posekit.arrays import Float64
from posekit.data.coco_file import CocoPeople, OnFault, escapes_folder, report_faults
from posekit.errors import UserError, excerpt
from posekit.json_file import numbers, read_json
from posekit.mat5 import read_mat5
from posekit.metrics.crowdpose import AREA_SHARE
from posekit.metrics.mpii_files import have_size, labelled_joints, without_head
from posekit.skeletons import MPII16

log = logging.getLogger(__name__)

JOINTS = len(MPII16)
VAL_PERCENT = 12  # HRNet's validation file holds 2,958 of 25,204 people
_ORDER = ("rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head", "rwri", "relb", "rsho",
          "lsho", "lelb", "lwri")  # fmt: skip
_NOWHERE = np.full(4, np.nan)


class Person(NamedTuple):
    """One annotated person."""

    row: int  # number in the file, faulty people counted
    image: str  # relative file name
    box: Float64  # (4,) xywh px, see person_box
    joints: Float64  # (16, 3) x, y px and visibility; all 0 where there is no label
    head: Float64  # (4,) corners x1, y1, x2, y2 px; NaN where there is none


class PeopleFile(NamedTuple):
    """The people of a file."""

    path: Path
    people: list[Person]
    rows: int  # of the file, with those of faulty people


class EvaluationTargets(NamedTuple):
    """What PCKh needs to know of people, one per row of the annotation file; pixels from 0."""

    joints: Float64  # (R, 16, 3) x, y px and visibility
    heads: Float64  # (R, 4) corners px; NaN where there is none


def person_box(center: Sequence[float], scale: float) -> Float64:
    """Returns the xywh box (4,), px from 0, of a file's centre (px from 1) and scale (height / 200 px).

    HRNet's ``lib/dataset/mpii.py``: a square of side 200 * scale whose centre is moved down by 15 * scale "to avoid
    cropping limbs". Its enlargement by 1.25 is the data module's ``box_scale``.
    """
    side = 200.0 * scale
    return np.array([center[0] - 1 - side / 2, center[1] + 15 * scale - 1 - side / 2, side, side], dtype=np.float64)


def mat_split(image: str) -> Literal["train", "val"]:
    """Returns the split of a picture of the official .mat: a checksum of its name sends 12 in 100 to validation."""
    return "val" if zlib.crc32(image.encode()) % 100 < VAL_PERCENT else "train"


def to_coco(path: Path, people: Sequence[Person]) -> CocoPeople:
    """Makes the table of people that crops and OKS AP work on.

    Ids are rows of the file, pictures are numbered in the order they appear in. MPII has no segmentation, so a person's
    area is 0.53 of the box before enlargement. That box is a square, so the area is generous for upright people.

    Args:
        path: The file they come from.
        people: They.
    """
    names = {name: row for row, name in enumerate(dict.fromkeys(p.image for p in people))}
    joints = np.array([p.joints for p in people]).reshape(-1, JOINTS, 3)
    boxes = np.array([p.box for p in people]).reshape(-1, 4)
    return CocoPeople(
        path=path,
        image_ids=np.arange(len(names)),
        file_names=list(names),
        image_sizes=np.zeros((len(names), 2), dtype=np.int64),
        ids=np.array([p.row for p in people], dtype=np.int64),
        image_rows=np.array([names[p.image] for p in people], dtype=np.int64),
        keypoints=joints,
        boxes=boxes,
        area=AREA_SHARE * boxes[:, 2] * boxes[:, 3],
        iscrowd=np.zeros(len(people), dtype=bool),
        num_keypoints=(joints[..., 2] > 0).sum(-1),
    )


# -- HRNet's JSON -----------------------------------------------------------------------------------------------------


def read_people(path: Path, on_bad_annotation: OnFault = "error") -> PeopleFile:
    """Reads HRNet's JSON, or the training people of the official .mat (by the file's suffix).

    People without a centre or a scale cannot be cropped and are left out with a warning, as are those of the .mat
    without joints. The JSON does not tell hidden joints from seen ones: its labelled joints have visibility 2.

    Args:
        path: The file.
        on_bad_annotation: ``"error"`` refuses a file with faulty people, ``"skip"`` leaves them out and warns.

    Raises:
        UserError: The file cannot be used; the first faults are named with their rows.
    """
    is_mat = path.suffix.lower() == ".mat"
    content: Iterable[tuple[str, Any]] = _mat_people(path) if is_mat else _json_people(path)
    parse: Callable[[int, Any], Person | str | None] = _mat_person if is_mat else _json_person
    people, faults, rows, nowhere = [], [], 0, 0
    for row, (label, entry) in enumerate(content):
        found = parse(row, entry)
        rows, nowhere = row + 1, nowhere + (found is None)
        if isinstance(found, str):
            faults.append(f"{label} {found}")
        elif found is not None:
            people.append(found)
    report_faults(path, faults, "annotation", on_bad_annotation)
    if nowhere:
        log.warning("%s: left out %d of %d people, who have no centre or scale", path, nowhere, rows)
    return PeopleFile(path, people, rows)


def _json_people(path: Path) -> list[tuple[str, Any]]:
    content = read_json(path, "annotation file")
    if not isinstance(content, list):
        raise UserError(f"{path} is no MPII file: it holds a {type(content).__name__}, not a list of people")
    return [(f"person {row}", entry) for row, entry in enumerate(content)]


def _json_person(row: int, entry: Any) -> Person | str | None:
    """Returns a person, what is wrong, or None where there is no place."""
    if not isinstance(entry, dict):
        return "is no object"
    points, seen = entry.get("joints"), entry.get("joints_vis")
    for name, value in (("joints", points), ("joints_vis", seen)):
        if not isinstance(value, list) or len(value) != JOINTS:
            count = f"{len(value)} entries in" if isinstance(value, list) else "no list"
            return f"has {count} {name}, expected {JOINTS}"
    if any(numbers(p, 2) is None for p in points or ()):
        return "has joints that are not pairs of finite numbers (x, y)"
    if any(v not in (0, 1) for v in seen or ()):
        return "has a joints_vis entry other than 0 or 1"
    center, scale = entry.get("center"), numbers([entry.get("scale")], 1)
    if numbers(center, 2) is None:
        return f"has a center that is not two finite numbers: {excerpt(center)}"
    if scale is None:
        return f"has a scale that is no finite number: {excerpt(entry.get('scale'))}"
    joints = np.zeros((JOINTS, 3))
    joints[:, :2], joints[:, 2] = np.array(points, dtype=np.float64) - 1, 2 * np.array(seen, dtype=np.float64)
    return _person(row, entry.get("image"), center, scale[0], joints, _NOWHERE)


def _person(row: int, image: Any, center: Any, scale: float, joints: Float64, head: Float64) -> Person | str | None:
    if not isinstance(image, str) or not image:
        return "has no image name"
    if escapes_folder(image):
        return f"has an image name that leads out of the image folder: {image!r}"
    if center[0] == -1:  # HRNet's mark of people without a place
        return None
    if scale <= 0:
        return f"has a scale of {scale:g}, but it must be positive"
    joints[joints[:, 2] == 0] = 0
    return Person(row, image, person_box(center, scale), joints, head)


# -- the official .mat ------------------------------------------------------------------------------------------------


def _mat_people(path: Path) -> list[tuple[str, Any]]:
    """Returns label and (picture name, annorect) of all people with joints in the pictures of ``img_train``."""
    release = read_mat5(path, ["RELEASE"], "annotation file", structs=True)["RELEASE"]
    pictures, training = _items(_field(release, "annolist")), np.reshape(_field(release, "img_train"), -1)
    if not pictures or len(training) != len(pictures):
        raise UserError(f"{path} is no MPII file: RELEASE.annolist and img_train are empty or of unlike lengths")
    found = []
    for picture, used in zip(pictures, training.tolist(), strict=True):
        name = _field(_field(picture, "image"), "name")
        for number, rect in enumerate(_items(_field(picture, "annorect")) if used else ()):
            if _items(_field(_field(rect, "annopoints"), "point")):
                found.append((f"person {number} of image {name}", (name, rect)))
    return found


def _mat_person(row: int, entry: tuple[Any, Any]) -> Person | str | None:
    """Returns a person, what is wrong, or None where there is no place."""
    name, rect = entry
    joints = np.zeros((JOINTS, 3))
    for point in _items(_field(_field(rect, "annopoints"), "point")):
        joint, x, y, seen = (_number(_field(point, key)) for key in ("id", "x", "y", "is_visible"))
        if joint is None or joint not in range(JOINTS):
            return f"has a joint with id {joint}, expected 0 to {JOINTS - 1}"
        if x is None or y is None or not np.isfinite([x, y]).all():
            return f"has a joint {joint:g} that is not two finite numbers"
        # The points of the head have no is_visible.
        joints[int(joint)] = x - 1, y - 1, 1 if seen == 0 else 2
    scale, place = _number(_field(rect, "scale")), _field(rect, "objpos")
    x, y = (_number(_field(place, key)) for key in ("x", "y"))
    if scale is None or x is None or y is None:
        return None
    if not np.isfinite([scale, x, y]).all():
        return "has a scale or objpos that is not finite"
    corners = [_number(_field(rect, key)) for key in ("x1", "y1", "x2", "y2")]
    head = _head(np.array([np.nan if c is None else c for c in corners], dtype=np.float64))
    return _person(row, name, (x, y), scale, joints, head)


def _head(corners: Float64) -> Float64:
    """Returns head boxes (…, 4) of pixels from 1 as ones from 0; NaN where they have no size."""
    return np.where(have_size(corners)[..., None], corners - 1, np.nan)


def _field(struct: Any, name: str) -> Any:
    """Returns a field of a MATLAB struct, or None where it is no single struct or has no such field."""
    if isinstance(struct, np.ndarray) and struct.size == 1:
        struct = struct.flat[0]
    return struct.get(name) if isinstance(struct, dict) else None


def _items(value: Any) -> list[dict[str, Any]]:
    """Returns the structs of a struct array; none where it is no such array."""
    if not isinstance(value, np.ndarray) or value.dtype != object:
        return []
    return [v for v in value.flat if isinstance(v, dict)]


def _number(value: Any) -> float | None:
    """Returns a number, or None where there is none; it may be written as text."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return float(array[0]) if len(array) == 1 and value is not None else None


# -- the evaluation's .mat --------------------------------------------------------------------------------------------


def targets_of(people: PeopleFile) -> EvaluationTargets:
    """Returns PCKh's targets as far as the annotation file itself tells."""
    targets = EvaluationTargets(np.zeros((people.rows, JOINTS, 3)), np.full((people.rows, 4), np.nan))
    for person in people.people:
        targets.joints[person.row], targets.heads[person.row] = person.joints, person.head
    return targets


def read_targets(path: Path, people: PeopleFile) -> EvaluationTargets:
    """Reads the targets of the published evaluation (``gt_valid.mat``), whose people are the rows of a JSON file.

    The file holds ``headboxes_src`` (2, 2, N), ``jnt_missing`` (16, N), ``pos_gt_src`` (16, 2, N) and often
    ``dataset_joints``, the joints' short names.

    Args:
        path: The file.
        people: Those of the JSON.

    Raises:
        UserError: It is absent or broken, or belongs to other people or joints.
    """
    what = "head box file"
    content = read_mat5(path, ["headboxes_src", "jnt_missing", "pos_gt_src"], what)
    shapes = {"headboxes_src": (2, 2), "jnt_missing": (JOINTS,), "pos_gt_src": (JOINTS, 2)}
    arrays = {}
    for name, shape in shapes.items():
        wanted, found = (*shape, people.rows), np.asarray(content[name])
        if found.shape != wanted or found.dtype.kind not in "buif":
            raise UserError(
                f"{what} {path}: {name} is {found.dtype} of shape {found.shape}, expected numbers of shape {wanted}, "
                f"one for each person of {people.path}"
            )
        arrays[name] = np.moveaxis(found.astype(np.float64), -1, 0)
    _check_order(path, content.get("dataset_joints"))
    labelled = labelled_joints(arrays["jnt_missing"], f"{what} {path}")
    points = arrays["pos_gt_src"] - 1
    if not np.isfinite(points[labelled]).all():
        raise UserError(f"{what} {path}: pos_gt_src holds labelled joints that are not finite numbers")
    joints = np.where(labelled[..., None], np.concatenate([points, np.full((*labelled.shape, 1), 2.0)], -1), 0.0)
    known = targets_of(people).joints
    both = labelled & (known[..., 2] > 0)
    if both.any() and np.median(np.linalg.norm(joints - known, axis=-1)[both]) > 2:
        raise UserError(f"{what} {path} belongs to other people than {people.path}: their joints differ")
    heads = _head(arrays["headboxes_src"].reshape(-1, 4))
    sized = np.asarray(np.isfinite(heads).all(-1))
    if not sized.all():
        log.warning("%s: %s", path, without_head(sized))
    return EvaluationTargets(joints, heads)


def _check_order(path: Path, names: Any) -> None:
    if names is None:
        return
    flat = [str(np.asarray(n).reshape(-1)[0]).strip() if np.asarray(n).size else "" for n in np.asarray(names).flat]
    # The trunk's joints go by several names in copies of the file; the others are the ones that are looked up.
    named = [(a, b) for a, b in zip(flat, _ORDER, strict=False) if b not in ("pelv", "thor", "neck")]
    if len(flat) != JOINTS or any(a != b for a, b in named):
        raise UserError(f"head box file {path}: dataset_joints are {' '.join(flat)[:120]}, expected {' '.join(_ORDER)}")


def match_heads(people: PeopleFile, official: PeopleFile) -> EvaluationTargets:
    """Returns PCKh's targets with the head boxes of the same people in the official .mat: same picture, same box."""
    by_image: dict[str, list[Person]] = {}
    for person in official.people:
        by_image.setdefault(person.image, []).append(person)
    targets = targets_of(people)
    for person in people.people:
        near = [(float(np.abs(o.box - person.box).max()), o.head) for o in by_image.get(person.image, ())]
        distance, head = min(near, key=lambda pair: pair[0], default=(np.inf, _NOWHERE))
        if distance <= 1:  # px; files round centres and scales differently
            targets.heads[person.row] = head
    return targets

"""Reading COCO keypoints files: everything is checked up front, and all faults come in one readable line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np

from posekit.arrays import Bool, Float64, Int64
from posekit.data.coco_categories import people_category
from posekit.errors import UserError, counted, excerpt, listed
from posekit.joint_names import match_joints, set_hint
from posekit.json_file import numbers, read_json, whole
from posekit.metrics.crowdpose import AREA_SHARE
from posekit.skeletons import Skeleton

log = logging.getLogger(__name__)

OnFault = Literal["error", "skip"]
ON_FAULT = ("error", "skip")


@dataclass(frozen=True)
class CocoPeople:
    """The images and people of a COCO keypoints file, checked.

    Attributes:
        path: The file.
        image_ids: (I,) in the file's order.
        file_names: I relative names, safe to append to a folder.
        image_sizes: (I, 2) W, H in px; 0 where the file does not say.
        ids: (N,) annotation ids.
        image_rows: (N,) row of the person's image.
        keypoints: (N, K, 3) x, y in px and visibility.
        boxes: (N, 4) xywh px.
        area: (N,) px^2.
        iscrowd: (N,) bool.
        num_keypoints: (N,) the file's field, which evaluation goes by; where it is absent, the labelled joints' number.
        segmentations: Polygons or run lengths of the rows that a loss has to ignore (crowds, people without keypoints).
        skipped: Faulty annotations that were left out.
        category: The files' id of the people's category.
    """

    path: Path
    image_ids: Int64
    file_names: list[str]
    image_sizes: Int64
    ids: Int64
    image_rows: Int64
    keypoints: Float64
    boxes: Float64
    area: Float64
    iscrowd: Bool
    num_keypoints: Int64
    segmentations: dict[int, Any] = field(default_factory=dict)
    skipped: int = 0
    category: Any = 1

    @property
    def labelled(self) -> Bool:
        """(N,) people that can be learned from: no crowds, at least one labelled joint."""
        return ~self.iscrowd & (self.keypoints[..., 2] > 0).any(-1)


def read_coco(path: str | Path, skeleton: Skeleton, on_bad_annotation: OnFault = "error") -> CocoPeople:
    """Reads and checks a COCO keypoints file.

    The people's category: :func:`~posekit.data.coco_categories.people_category`. Its joints are put in the set's order
    by their names: :func:`~posekit.joint_names.match_joints`. People without keypoints are unlabelled.

    Args:
        path: The JSON file.
        skeleton: Its joint set.
        on_bad_annotation: ``"error"`` refuses a file with faulty annotations, ``"skip"`` leaves them out and warns.

    Raises:
        UserError: The file cannot be used; the first faults are named with their annotation ids.
    """
    path = Path(path)
    content = read_json(path, "annotation file")
    images, annotations, categories = _sections(path, content, ("images", "annotations", "categories"))
    people = people_category(path, categories, annotations)
    order, category = _joint_order(path, people, skeleton), people["id"]
    table = _read_images(path, images)
    image_rows = {int(i): row for row, i in enumerate(table["image_ids"])}
    reader = _AnnotationReader(image_rows, table["image_sizes"].tolist(), len(skeleton), category)
    others = [c["id"] for c in categories if isinstance(c, dict) and "id" in c and c["id"] != category]
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or annotation.get("category_id", category) not in others:
            reader.add(number, annotation)
    report_faults(path, reader.faults, "annotation", on_bad_annotation)
    _warn(path, reader)
    return CocoPeople(path, **table, **reader.arrays(order), skipped=len(reader.faults), category=category)


def report_faults(path: Path, faults: list[str], kind: str, on_fault: OnFault) -> None:
    """Raises one line with the first faults of a file, or warns with it.

    Args:
        path: The file.
        faults: One phrase each.
        kind: What is faulty, e.g. ``"annotation"``.
        on_fault: ``"error"`` or ``"skip"``.

    Raises:
        UserError: There are faults and ``on_fault`` is ``"error"``.
    """
    if not faults:
        return
    plural = "faulty " + kind + ("es" if kind.endswith("x") else "s")
    text = f"{counted(len(faults), 'faulty ' + kind, plural)}: {listed(faults)}"
    if on_fault == "error":
        raise UserError(f"{path}: {text}. --data.on_bad_annotation=skip leaves them out.")
    log.warning("%s: left out %s", path, text)


def _sections(path: Path, content: Any, names: tuple[str, ...]) -> list[list[Any]]:
    if not isinstance(content, dict):
        raise UserError(f"{path} is no COCO file: it holds a {type(content).__name__}, not an object")
    missing = [name for name in names if not isinstance(content.get(name), list)]
    if missing:
        raise UserError(f"{path} is no COCO keypoints file: it has no list {', '.join(missing)}")
    return [content[name] for name in names]


def _joint_order(path: Path, people: dict[str, Any], skeleton: Skeleton) -> list[int] | None:
    """Returns the file's joint for each of the set's, None where they are the set's as they stand."""
    names = people.get("keypoints")
    if not isinstance(names, list) or not names:
        return None
    names = [str(name) for name in names]
    if len(names) != len(skeleton):
        raise UserError(
            f"{path}: its people have {len(names)} joints, skeleton {skeleton.name} has {len(skeleton)} "
            f"({set_hint(names)})"
        )
    match = match_joints(names, skeleton)
    if match.fault:
        raise UserError(f"{path}: {match.fault} ({set_hint(names)})")
    if match.remark:
        log.warning("%s: %s", path, match.remark)
    if match.order is not None:
        log.warning("%s: its joints are put in the order of %s, which results have, too", path, skeleton.name)
    return match.order


def _read_images(path: Path, images: list[Any]) -> dict[str, Any]:
    ids, names, sizes, faults = [], [], [], []
    seen: set[int] = set()
    for number, image in enumerate(images):
        reason = _image_fault(image, seen)
        if reason is not None:
            faults.append(f"image {_label(image, number)} {reason}")
            continue
        seen.add(image["id"])
        ids.append(int(image["id"]))
        names.append(image["file_name"])
        size = [whole(image.get("width")) or 0, whole(image.get("height")) or 0]
        sizes.append(size if min(size) > 0 else [0, 0])
    if faults:
        raise UserError(
            f"{path}: {len(faults)} faulty image entr{'y' if len(faults) == 1 else 'ies'}: {listed(faults)}"
        )
    return {
        "image_ids": np.array(ids, dtype=np.int64),
        "file_names": names,
        "image_sizes": np.array(sizes, dtype=np.int64).reshape(-1, 2),
    }


def _image_fault(image: Any, seen: set[int]) -> str | None:
    if not isinstance(image, dict):
        return "is no object"
    if whole(image.get("id")) is None:
        return "has no integer id"
    if image["id"] in seen:
        return "is listed twice"
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return "has no file_name"
    if escapes_folder(name):
        return f"has a file_name that leads out of the image folder: {name!r}"
    return None


def escapes_folder(name: str) -> bool:
    """Tells whether a relative file name, read as POSIX's or Windows', is absolute or climbs out of its folder."""
    windows = PureWindowsPath(name)
    absolute = PurePosixPath(name).is_absolute() or bool(windows.drive or windows.root)
    return absolute or ".." in windows.parts or "\0" in name


def _label(entry: Any, number: int) -> str:
    """Returns an entry's id, or its place in the list if it has none."""
    known = isinstance(entry, dict) and entry.get("id") is not None
    return str(entry["id"]) if known else f"number {number} of the list"


def box_fault(box: Any) -> str | None:
    """Returns what is wrong with an xywh box, or None."""
    if box is None:
        return "has no bbox"
    values = numbers(box, 4)
    if values is None:
        return f"has a bbox that is not four finite numbers: {excerpt(box, 60)}"
    return f"has a box of zero size: {values}" if values[2] <= 0 or values[3] <= 0 else None


def outside_fault(box: Sequence[float] | Float64, size: Sequence[int] | None, picture: str) -> str | None:
    """Returns that a box touches no pixel of its picture, or None.

    Args:
        box: xywh px.
        size: W, H of the picture in px; None or 0 where it cannot be told.
        picture: What to call it.
    """
    if not size or not size[0]:
        return None
    (x, y, w, h), (width, height) = box, size
    # The first pixel begins at -0.5 where pixels' centres are whole numbers, and the last one ends at W where files
    # count from its corner: what touches the picture in either way of counting is not refused.
    if x < width and y < height and x + w > -0.5 and y + h > -0.5:
        return None
    values = ", ".join(f"{value:g}" for value in (x, y, w, h))
    return f"[{values}] lies wholly outside the {width} x {height} px of {picture}"


class _AnnotationReader:
    """Collects rows and faults."""

    def __init__(self, image_rows: dict[int, int], sizes: list[list[int]], joints: int, category: Any) -> None:
        self.image_rows = image_rows
        self.sizes = sizes
        self.joints = joints
        self.category = category
        self.rows: list[tuple[int, int, list[float], list[float], float, bool, int]] = []
        self.segmentations: dict[int, Any] = {}
        self.faults: list[str] = []
        self.flat: list[int] = []  # unlabelled people with a box of zero size
        self.without_area = 0
        self.without_joints = 0
        self._nothing: list[float] = [0.0] * (3 * joints)
        self._ids: set[int] = set()

    def add(self, number: int, annotation: Any) -> None:
        reason = self._identity_fault(annotation) or self._keypoints_fault(annotation) or self._size_fault(annotation)
        if reason is not None:
            self.faults.append(f"annotation {_label(annotation, number)} {reason}")
            return
        self._ids.add(annotation["id"])
        labelled = self._labelled(annotation)
        crowd = bool(annotation.get("iscrowd", 0))
        box, area = annotation["bbox"], annotation.get("area")
        if area is None:  # as CrowdPose's evaluation does
            self.without_area += 1
            area = AREA_SHARE * box[2] * box[3]
        if (crowd or not labelled) and annotation.get("segmentation"):
            self.segmentations[len(self.rows)] = annotation["segmentation"]
        points, count = annotation.get("keypoints"), whole(annotation.get("num_keypoints"))
        if not points:
            self.without_joints += 1
            points, count = self._nothing, 0
        row = self.image_rows[annotation["image_id"]]
        self.rows.append((int(annotation["id"]), row, points, box, area, crowd, labelled if count is None else count))

    def arrays(self, order: list[int] | None) -> dict[str, Any]:
        """Returns the table's columns; the set's joint k is the file's ``order[k]``, or its k-th."""
        ids, rows, keypoints, boxes, area, crowd, count = zip(*self.rows, strict=True) if self.rows else ([],) * 7
        joints = np.array(keypoints, dtype=np.float64).reshape(-1, self.joints, 3)
        return {
            "ids": np.array(ids, dtype=np.int64),
            "image_rows": np.array(rows, dtype=np.int64),
            "keypoints": joints if order is None else joints[:, order],
            "boxes": np.array(boxes, dtype=np.float64).reshape(-1, 4),
            "area": np.array(area, dtype=np.float64),
            "iscrowd": np.array(crowd, dtype=bool),
            "num_keypoints": np.array(count, dtype=np.int64),
            "segmentations": self.segmentations,
        }

    def _identity_fault(self, annotation: Any) -> str | None:
        if not isinstance(annotation, dict):
            return "is no object"
        if whole(annotation.get("id")) is None:
            return "has no integer id"
        if annotation["id"] in self._ids:
            return "is listed twice"
        image = annotation.get("image_id")
        if whole(image) not in self.image_rows:
            return f"belongs to image {image}, which is not listed"
        category = annotation.get("category_id", self.category)
        if category != self.category:
            return f"belongs to category {excerpt(category)}, which is not listed"
        if annotation.get("iscrowd") not in (0, 1, None):
            return f"has an iscrowd other than 0 or 1: {excerpt(annotation['iscrowd'])}"
        return None

    def _keypoints_fault(self, annotation: dict[str, Any]) -> str | None:
        points, expected = annotation.get("keypoints"), 3 * self.joints
        if points is None or points == []:  # outlined, but not posed
            return None
        if not isinstance(points, list) or len(points) != expected:
            length = len(points) if isinstance(points, list) else 0
            return f"has {length} keypoint numbers, expected {expected} ({self.joints} joints x 3)"
        if numbers(points, expected) is None:
            return "has keypoints that are not finite numbers (NaN or infinite)"
        if any(v not in (0, 1, 2) for v in points[2::3]):
            return "has a keypoint visibility other than 0, 1 or 2"
        return None

    def _size_fault(self, annotation: dict[str, Any]) -> str | None:
        reason = box_fault(annotation.get("bbox"))
        if reason is not None and "zero size" in reason and not self._labelled(annotation):
            # Official files hold a few. Nobody crops these people: worth a remark, no reason to refuse the file.
            self.flat.append(annotation["id"])
            reason = None
        elif reason is None and self._labelled(annotation):
            size = self.sizes[self.image_rows[annotation["image_id"]]]
            outside = outside_fault(annotation["bbox"], size, "its image")
            reason = f"with box {outside}" if outside else None
        area = annotation.get("area", 0.0)
        if reason is None and area is not None and numbers([area], 1) is None:
            reason = f"has an area that is no finite number: {excerpt(area)}"
        return reason

    @staticmethod
    def _labelled(annotation: dict[str, Any]) -> int:
        return sum(v > 0 for v in (annotation.get("keypoints") or ())[2::3])


def _warn(path: Path, reader: _AnnotationReader) -> None:
    if reader.flat:
        listed = ", ".join(map(str, reader.flat[:3])) + (", …" if len(reader.flat) > 3 else "")
        text = "%s: %d people without keypoints have a box of zero size: annotation %s"
        log.warning(text, path, len(reader.flat), listed)
    if reader.without_joints:
        count = counted(reader.without_joints, "person", "people")
        log.warning("%s: %s without keypoints, taken as unlabelled", path, count)
    if reader.without_area:
        log.warning("%s: %d annotations have no area; %g of the box is taken", path, reader.without_area, AREA_SHARE)

"""Reading PoseTrack's files as downloaded: the 2017 form (``annolist``) and the COCO-like one of 2018 and 21."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posekit.data.coco_file import OnFault, escapes_folder, is_whole, numbers, report_faults
from posekit.errors import UserError, excerpt, one_line
from posekit.json_file import read_json
from posekit.metrics.posetrack_files import SLOTS_2018
from posekit.skeletons import POSETRACK15

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Form = Literal["2017", "2018"]

BOX_MARGIN = 0.15  # of the joints' extent, on every side: the rule behind the boxes of the 2018 files
LEAST_SIDE = 16.0  # px, of boxes made from joints
_JOINTS = len(POSETRACK15)
_NECKS = ("neck", "upper_neck")  # other names of head_bottom


@dataclass(frozen=True)
class PoseTrackPeople:
    """The frames and people of some sequence files, checked.

    Attributes:
        form: ``"2017"`` or ``"2018"`` (21 has the latter, too).
        image_ids: (I,) the files' ids; in the 2017 form running numbers over the files in the order of their names.
        names: I file names of frames, safe to append to a folder.
        sizes: (I, 2) W, H in px; 0 where the files do not say.
        sequences: (I,) number of each frame's sequence.
        numbers: (I,) number of each frame in its sequence: its file's name where that is one, else its place.
        labelled: (I,) frames that are annotated, by the file's word or because there are people.
        sequence_names: Folder of each sequence's frames.
        regions: Ignore regions by image row: polygons (V, 2) px.
        ids: (N,) unique; the files' where those are, else running numbers.
        image_rows: (N,) row of each person's frame.
        track_ids: (N,) unique in a sequence and frame; -1 where there is none.
        joints: (N, 15, 3) x, y in px and visibility, POSETRACK15: 0 absent, 1 annotated with visibility 0, 2 annotated.
        boxes: (N, 4) xywh px: the files' or, where those have none, made from the joints. NaN without joints.
        heads: (N, 4) xywh px of the head; NaN where there is none.
        skipped: Faulty people that were left out.
    """

    form: Form
    image_ids: Int
    names: list[str]
    sizes: Int
    sequences: Int
    numbers: Int
    labelled: NDArray[np.bool_]
    sequence_names: list[str]
    regions: dict[int, tuple[Float, ...]]
    ids: Int
    image_rows: Int
    track_ids: Int
    joints: Float
    boxes: Float
    heads: Float
    skipped: int = 0


def read_posetrack(
    files: Sequence[Path], version: str = "auto", on_bad_annotation: OnFault = "error"
) -> PoseTrackPeople:
    """Reads sequence files.

    Args:
        files: JSON files, all of one form, in the order of their names.
        version: ``"auto"``, or ``"2017"``, ``"2018"`` or ``"21"``, which the files must then have the form of.
        on_bad_annotation: ``"error"`` refuses faulty people, ``"skip"`` leaves them out and warns.

    Raises:
        UserError: A file cannot be used; the first faults are named.
    """
    builder = _Builder()
    for path in files:
        content = read_json(path, "PoseTrack file")
        form = _form(path, content)
        if builder.form is not None and builder.form != form:
            raise UserError(f"{path} is of PoseTrack's {form} form, the files before it are of the {builder.form} form")
        if version != "auto" and form != ("2017" if version == "2017" else "2018"):
            raise UserError(f"{path} is of PoseTrack's {form} form, but version is {version}")
        builder.form = form
        add = _add_2017 if form == "2017" else _add_2018
        try:
            faults = list(add(builder, path, content))
        except UserError:
            raise
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise UserError(f"{path}: an entry is not of PoseTrack's {form} form ({one_line(error)})") from None
        report_faults(path, faults, "annotation", on_bad_annotation)
        builder.skipped += len(faults)
    return builder.finish()


def _form(path: Path, content: Any) -> Form:
    if isinstance(content, Mapping) and isinstance(content.get("annolist"), list):
        return "2017"
    if isinstance(content, Mapping) and all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        return "2018"
    raise UserError(f"{path} is no PoseTrack file: it has neither 'annolist' nor 'images' and 'annotations'")


class _Builder:
    """Collects frames and people."""

    def __init__(self) -> None:
        self.form: Form | None = None
        self.ids: dict[int, Path] = {}  # the file that has it; of the 2018 form
        self.images: list[tuple[int, str, tuple[int, int], int, bool]] = []
        self.regions: dict[int, tuple[Float, ...]] = {}
        self.sequences: dict[tuple[Path, str], int] = {}
        self.people: list[tuple[int, int, int]] = []  # id, image row, track
        self.joints: list[Float] = []
        self.boxes: list[Any] = []
        self.heads: list[Any] = []
        self.skipped = 0

    def add_image(
        self, path: Path, image_id: int, name: str, size: tuple[int, int], labelled: bool, regions: tuple[Float, ...]
    ) -> int:
        """Adds a frame and returns its row."""
        folder = str(PurePosixPath(name).parent)
        sequence = self.sequences.setdefault((path, folder), len(self.sequences))
        if regions:
            self.regions[len(self.images)] = regions
        self.images.append((image_id, name, size, sequence, labelled))
        return len(self.images) - 1

    def add_person(self, entry_id: int, row: int, track: int, joints: Float, box: Any, head: Any) -> None:
        """Adds a person."""
        self.people.append((entry_id, row, track))
        self.joints.append(joints)
        self.boxes.append([np.nan] * 4 if box is None else box)
        self.heads.append([np.nan] * 4 if head is None else head)

    def finish(self) -> PoseTrackPeople:
        """Makes the arrays."""
        image_ids, names, sizes, sequences, flags = zip(*self.images, strict=True) if self.images else ([],) * 5
        ids, rows, tracks = np.array(self.people, dtype=np.int64).reshape(-1, 3).T
        joints = np.array(self.joints, dtype=np.float64).reshape(-1, _JOINTS, 3)
        boxes, heads = (np.array(b, dtype=np.float64).reshape(-1, 4) for b in (self.boxes, self.heads))
        made = ~(boxes[:, 2:] > 0).all(1)
        boxes[made] = boxes_of_joints(joints[made])
        labelled = np.array(flags, dtype=bool)
        labelled[rows] = True
        sequence = np.array(sequences, dtype=np.int64)
        return PoseTrackPeople(
            self.form or "2018", np.array(image_ids, dtype=np.int64), list(names),
            np.array(sizes, dtype=np.int64).reshape(-1, 2), sequence, _frame_numbers(list(names), sequence), labelled,
            [folder for _, folder in self.sequences], self.regions,
            ids if len(np.unique(ids)) == len(ids) and (ids >= 0).all() else np.arange(len(ids)), rows,
            _single_tracks(sequence[rows], rows, tracks), joints, boxes, heads, self.skipped,
        )  # fmt: skip


def boxes_of_joints(joints: Float) -> Float:
    """Returns boxes (N, 4) xywh around joints (N, K, 3): their extent and 15 % of it on every side; NaN without any.

    So are the boxes of the 2018 files made. No side is shorter than 16 px.
    """
    known = joints[..., 2:] > 0
    low = np.where(known, joints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(known, joints[..., :2], -np.inf).max(1, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        size = np.maximum((high - low) * (1 + 2 * BOX_MARGIN), LEAST_SIDE)
        boxes = np.concatenate([(low + high) / 2 - size / 2, size], axis=1)
    some = np.asarray(known.any((1, 2)), dtype=bool)
    return np.where(some[:, None], boxes, np.nan)


def _single_tracks(sequences: Int, image_rows: Int, tracks: Int) -> Int:
    """Returns track ids in which the second person of a frame that has another's id is without track."""
    _, first = np.unique(np.stack([sequences, image_rows, tracks]), axis=1, return_index=True)
    result = np.full(len(tracks), -1, dtype=np.int64)
    result[first] = tracks[first]
    return result


def _frame_numbers(names: list[str], sequences: Int) -> Int:
    """Returns (I,) the number of each frame in its sequence."""
    result = np.zeros(len(names), dtype=np.int64)
    for sequence in np.unique(sequences):
        rows = np.flatnonzero(sequences == sequence)
        stems = [PurePosixPath(names[row]).stem for row in rows]
        whole = all(stem.isascii() and stem.isdigit() and len(stem) < 18 for stem in stems)
        numbered = [int(stem) for stem in stems] if whole else []
        result[rows] = numbered if whole and len(set(numbered)) == len(numbered) else np.arange(len(rows))
    return result


def _name_fault(name: Any) -> str | None:
    if not isinstance(name, str) or not name:
        return "has no file name"
    return f"has a file name that leads out of the folder: {name!r}" if escapes_folder(name) else None


# -- 2017 -------------------------------------------------------------------------------------------------------------


def _first(value: Any) -> float | None:
    """Reads a number that MATLAB's export wraps in a list; None for anything else."""
    if isinstance(value, list) and value:
        value = value[0]
    found = numbers([value], 1)
    return None if found is None else float(found[0])


def _listed(value: Any) -> list[Any] | None:
    """Returns a list, which MATLAB's export leaves out around one struct and writes as nothing where it is empty."""
    if value is None or value == {}:
        return []
    return value if isinstance(value, list) else [value] if isinstance(value, Mapping) else None


def _add_2017(builder: _Builder, path: Path, content: Mapping[str, Any]) -> Iterator[str]:
    """Adds a file's frames and people; yields faults."""
    for number, frame in enumerate(content["annolist"]):
        image = (frame.get("image") or [{}]) if isinstance(frame, Mapping) else [{}]
        image = image[0] if isinstance(image, list) else image
        name = image.get("name") if isinstance(image, Mapping) else None
        reason = _name_fault(name)
        if reason is not None:
            raise UserError(f"{path}: frame {number} of annolist {reason}")
        found = (_region_2017(region) for region in frame.get("ignore_regions") or [])
        regions = tuple(region for region in found if region is not None)
        flag = bool(_first(frame.get("is_labeled")))
        row = builder.add_image(path, len(builder.images), str(name), (0, 0), flag, regions)
        people = _listed(frame.get("annorect"))
        if people is None:
            raise UserError(f"{path}: frame {number} ({name}) has an annorect that is no list")
        for place, person in enumerate(people):
            fault = _add_person_2017(builder, row, person)
            if fault is not None:
                yield f"frame {number} ({name}) person {place} {fault}"


def _region_2017(region: Any) -> Float | None:
    corners = region.get("point") if isinstance(region, Mapping) else None
    points = [[_first(corner.get(c)) for c in "xy"] for corner in corners or [] if isinstance(corner, Mapping)]
    return np.array(points, dtype=np.float64) if points and all(None not in p for p in points) else None


def _add_person_2017(builder: _Builder, row: int, person: Any) -> str | None:
    """Adds a person; returns what is wrong with it instead, if something is."""
    if not isinstance(person, Mapping):
        return "is no object"
    joints = np.zeros((_JOINTS, 3))
    holders = _listed(person.get("annopoints"))
    holder = (holders or [{}])[0]
    points = _listed(holder.get("point")) if isinstance(holder, Mapping) else None
    if holders is None or points is None:
        return "has annopoints that are no list of points"
    for point in points:
        values = [_first(point.get(key)) for key in ("id", "x", "y")] if isinstance(point, Mapping) else [None]
        if any(value is None for value in values):
            return "has a point whose id, x or y is no finite number"
        joint, x, y = (float(value) for value in values if value is not None)
        if not 0 <= joint < _JOINTS or joint != int(joint):
            return f"has a point id {joint:g}, known are 0 to {_JOINTS - 1}"
        if joints[int(joint), 2]:  # the first one counts
            continue
        seen = point.get("is_visible")
        hidden = seen is not None and str(seen[0] if isinstance(seen, list) and seen else seen) in ("0", "False", "")
        joints[int(joint)] = x, y, 1 if hidden else 2
    corners = [_first(person.get(key)) for key in ("x1", "y1", "x2", "y2")]
    known = [c for c in corners if c is not None]
    head = [known[0], known[1], known[2] - known[0], known[3] - known[1]] if len(known) == 4 else None
    track = _first(person.get("track_id"))
    builder.add_person(len(builder.people), row, -1 if track is None else int(track), joints, None, head)
    return None


# -- 2018 and 21 ------------------------------------------------------------------------------------------------------


def slots_of(path: Path, content: Mapping[str, Any]) -> list[int]:
    """Returns where each joint of POSETRACK15 stands among a file's joints, which its categories name.

    Raises:
        UserError: A joint is missing.
    """
    categories = [c for c in content.get("categories") or [] if isinstance(c, Mapping)]
    names = [str(name) for name in (categories[0].get("keypoints") if categories else None) or SLOTS_2018]
    names = ["head_bottom" if name in _NECKS and "head_bottom" not in names else name for name in names]
    missing = [joint for joint in POSETRACK15.joints if joint not in names]
    if missing:
        raise UserError(f"{path}: categories[0].keypoints has {len(names)} names and lacks {', '.join(missing)}")
    return [names.index(joint) for joint in POSETRACK15.joints] + [len(names)]


def _add_2018(builder: _Builder, path: Path, content: Mapping[str, Any]) -> Iterator[str]:
    """Adds a file's frames and people; yields faults."""
    *columns, slots = slots_of(path, content)
    rows: dict[int, int] = {}
    for number, image in enumerate(content["images"]):
        reason = "is no object" if not isinstance(image, Mapping) else _name_fault(image.get("file_name"))
        if reason is None and not is_whole(image.get("id")):
            reason = "has no integer id"
        if reason is None and image["id"] in rows:
            reason = f"has the id {image['id']}, which another has"
        elif reason is None and image["id"] in builder.ids:
            reason = f"has the id {image['id']}, which {builder.ids[image['id']]} has too"
        if reason is not None:
            raise UserError(f"{path}: images[{number}] {reason}")
        builder.ids[image["id"]] = path
        size = (image.get("width"), image.get("height"))
        known = all(is_whole(side) and side > 0 for side in size)
        flag = bool(image.get("is_labeled", False)) and bool(image.get("has_labeled_person", True))
        regions = _regions_2018(path, number, image)
        rows[image["id"]] = builder.add_image(
            path, image["id"], image["file_name"], (int(size[0]), int(size[1])) if known else (0, 0), flag, regions
        )
    for number, entry in enumerate(content["annotations"]):
        fault = _add_person_2018(builder, rows, entry, columns, slots)
        if fault is not None:
            known_id = isinstance(entry, Mapping) and entry.get("id") is not None
            yield f"annotation {entry['id'] if known_id else f'number {number} of the list'} {fault}"


def _regions_2018(path: Path, number: int, image: Mapping[str, Any]) -> tuple[Float, ...]:
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    if xs and not isinstance(xs[0], list):
        xs, ys = [xs], [ys]
    if len(xs) != len(ys) or any(len(x) != len(y) for x, y in zip(xs, ys, strict=True)):
        raise UserError(f"{path}: images[{number}] has ignore_regions_x and _y of different lengths")
    return tuple(np.array([x, y], dtype=np.float64).T for x, y in zip(xs, ys, strict=True) if x)


def _add_person_2018(
    builder: _Builder, rows: Mapping[int, int], entry: Any, columns: list[int], slots: int
) -> str | None:
    """Adds a person; returns what is wrong with it instead, if something is."""
    if not isinstance(entry, Mapping):
        return "is no object"
    image = entry.get("image_id")
    if not is_whole(image) or image not in rows:
        return f"belongs to image {excerpt(image)}, which is not listed"
    joints = np.zeros((_JOINTS, 3))
    values = entry.get("keypoints")
    if values is not None:
        if not isinstance(values, list) or len(values) != 3 * slots:
            count = len(values) if isinstance(values, list) else 0
            return f"has {count} keypoint numbers, expected {3 * slots} ({slots} joints x 3)"
        if numbers(values, 3 * slots) is None:
            return "has keypoints that are not finite numbers"
        points = np.array(values, dtype=np.float64).reshape(slots, 3)[columns]
        # All zeros is absent; (x, y, 0) is annotated for the benchmark's tool.
        visible = np.where((points != 0).any(1), np.where(points[:, 2] > 0, 2.0, 1.0), 0.0)
        joints = np.column_stack([points[:, :2], visible])
    box, head = entry.get("bbox") or None, entry.get("bbox_head") or None
    for name, value in (("bbox", box), ("bbox_head", head)):
        if value is not None and numbers(value, 4) is None:
            return f"has a {name} that is not four finite numbers: {excerpt(value, 60)}"
    track, number = entry.get("track_id"), entry.get("id")
    builder.add_person(
        number if is_whole(number) else -1, rows[entry["image_id"]], track if is_whole(track) else -1, joints,
        box, head,
    )  # fmt: skip
    return None

"""PoseDatabase: the joblib databases that VIBE's and MAED's code prepare and read."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posekit.arrays import Array, Bool, Float64, Int64
from posekit.data.body3d.module import BodyDataModule, DataError, Part, Recording
from posekit.data.body3d.numbers import label_numbers
from posekit.data.body3d.person import Person, chosen_share
from posekit.data.coco_file import escapes_folder
from posekit.data.crops import FileReader
from posekit.data.joint_maps import source_of
from posekit.data.npz import open_npz
from posekit.errors import UserError, listed
from posekit.geometry.rotations import matrix_to_axis_angle
from posekit.safe_pickle import load_joblib, load_npz_object
from posekit.skeletons import SPIN49

log = logging.getLogger(__name__)

_WHAT = "database"
_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "joints2D": ((49, 3), (49, 2), (14, 3), (14, 2)),
    "joints3D": ((49, 4), (49, 3), (14, 4), (14, 3)),
    "pose": ((72,), (24, 3, 3), (24, 3)),
    "shape": ((10,),),
    "bbox": ((4,),),
    "valid": ((),),
}
_AXES = {"joints2D": 2, "joints3D": 3}
# InstaVariety's joints in the order of its tfrecords, which MAED's script leaves as they are.
_INSTA25 = (
    "op_right_heel", "op_right_knee", "op_right_hip", "op_left_hip", "op_left_knee", "op_left_heel",
    "op_right_wrist", "op_right_elbow", "op_right_shoulder", "op_left_shoulder", "op_left_elbow", "op_left_wrist",
    "op_neck", "head_top", "op_nose", "op_left_eye", "op_right_eye", "op_left_ear", "op_right_ear",
    "op_left_big_toe", "op_right_big_toe", "op_left_small_toe", "op_right_small_toe", "op_left_ankle", "op_right_ankle",
)  # fmt: skip
_PLACES = {  # where the joints of a file stand among SPIN's 49, by their number
    14: np.arange(25, 39),  # LSP's, in its order
    25: np.array([SPIN49.index(joint) for joint in _INSTA25]),
    49: np.arange(49),
}
_SHARED_PLACE = 2  # joints that one of the body may be among SPIN's 49: more at one place are none


class PoseDatabase(BodyDataModule):
    """The databases of VIBE's and MAED's preparation scripts as clips of people in SPIN's 49 joints.

    ``root`` holds ``<dataset>_<train|val|test>_db.pt`` (joblib, whole or compressed, read without running anything in
    it) or the same arrays as ``.npz``: ``img_name`` (N,), ``joints2D`` (N, 49, 3) px and confidence, and as far as
    there are ``vid_name``, ``frame_id``, ``joints3D`` (N, 49, 4) metres and confidence, ``pose`` (N, 72) or (N, 24, 3,
    3), ``shape`` (N, 10), ``bbox`` (N, 4) as centre and size, and ``valid`` (N,). In place of 49 joints there may be
    LSP's 14 (VIBE's "common" joints of 3DPW), which go to their places among the 49. Joints without a confidence count,
    but for those that lie, in every row of the file, at exactly one place with two or more others: scripts leave there
    what the data set lacks. People without a box are cut by the whole picture. A pose of zeros counts as no label. Test
    takes the validation file where there is no test file.

    Args:
        root: Folder of the databases.
        dataset: The first part of the files' names: insta, posetrack, pennaction (VIBE's 14 joints alone: MAED's 49 are
            mixed up), 3dpw, mpii3d, h36m, coco2014-all, lspet, mpii, or another.
        images: Folder that ``img_name`` begins in, relative to ``root``.
        strip: What to take off the beginning of every ``img_name``, e.g. the folder of another machine.
        min_confidence: Joints in 2D are visible above it.
        use_valid: Give rows that ``valid`` does not call so weight 0 (official code reads but does not use it).
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "https://github.com/ziniuwan/maed (its preparation scripts; the data sets' own licences)"

    val_share: float = 0.0  # of the videos of the training file, where there is no other file

    def __init__(
        self,
        root: str = "data/database",
        dataset: str = "3dpw",
        images: str = ".",
        strip: str = "",
        min_confidence: float = 0.0,
        use_valid: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.dataset_name = dataset
        self.images = self.root / images
        self.strip = strip
        self.min_confidence = min_confidence
        self.use_valid = use_valid

    def recordings(self, split: Part) -> list[Recording]:
        """Lists the split's file.

        Raises:
            UserError: It is not there.
        """
        found = self._found("train") if split == "train" else self._found(split, "test" if split == "val" else "val")
        held_out = self.val_share > 0 and self._found("val", "test") is None
        path = self._found("train") if held_out else found
        if path is None:
            there = sorted(p.name for p in self.root.glob("*_db.*"))
            known = f"; there are {', '.join(there)}" if there else ""
            wanted = self.root / f"{self.dataset_name}_{'train' if held_out else split}_db.pt"
            raise UserError(f"{type(self).__name__}: database {wanted} does not exist{known}; get it from {self.HOME}")
        return [Recording(path.name, partial(self._read, path, split if held_out else None))]

    def _found(self, *splits: str) -> Path | None:
        """Returns the file of the first of some splits that has one."""
        paths = [self.root / f"{self.dataset_name}_{split}_db{end}" for split in splits for end in (".pt", ".npz")]
        return next((path for path in paths if path.is_file()), None)

    # -- files --------------------------------------------------------------------------------------------------------

    def _read(self, path: Path, split: Part | None = None) -> list[Person]:
        content = read_database(path, self.dataset_name)
        names = [self._name(path, str(name)) for name in content["img_name"].tolist()]
        files = [self.images / name for name in names]
        read = FileReader(files)
        kept = self.present(files)
        videos = content.get("vid_name")
        groups = [np.arange(len(files))] if videos is None else _groups(videos)
        if videos is None and self.frames != 1 and self.view == "clips":
            raise UserError(f"database {path} has single pictures (no vid_name): frames must be 1, not {self.frames}")
        if split is not None and videos is not None:
            held_out = chosen_share([str(videos[rows[0]]) for rows in groups], self.val_share)
            groups = [rows for rows, held in zip(groups, held_out, strict=True) if held == (split != "train")]
        people = [self._person(content, rows[kept[rows]], read, videos) for rows in groups]
        return [person for person in people if len(person)]

    def _name(self, path: Path, name: str) -> str:
        name = name.replace("\\", "/").removeprefix(self.strip)
        name = name.lstrip("/") if self.strip else name
        if escapes_folder(name):
            raise UserError(
                f"database {path}: img_name {name[:80]!r} leads out of {self.images} (options images, strip)"
            )
        return name

    def _person(self, content: Mapping[str, Array], rows: Int64, read: FileReader, videos: Array | None) -> Person:
        name = str(videos[rows[0]]) if videos is not None and len(rows) else "pictures"
        valid = content["valid"][rows] > 0 if self.use_valid and "valid" in content else np.ones(len(rows), dtype=bool)
        joints = _among_49(content, "joints2D", rows)
        joints[..., 2] = 2.0 * (joints[..., 2] > self.min_confidence)
        return Person(
            name=name,
            video=name,
            read=read,
            image_rows=rows,
            frames=_frame_numbers(content.get("frame_id"), rows),
            joints=joints,
            source=source_of(SPIN49),
            boxes=_boxes(content.get("bbox"), rows),
            keys=valid,
            fps=self.source_fps,
            followed=videos is not None,
            **_labels(content, rows, valid),
        )


def read_database(path: Path, dataset: str = "") -> dict[str, Array]:
    """Reads the arrays of a database and checks their shapes.

    Args:
        path: The file.
        dataset: Whose it is: ``insta`` may have InstaVariety's 25 joints.

    Returns:
        By name; for joints without confidences also which of them the file has, as ``has_joints3D`` (J,).

    Raises:
        UserError: It is absent, broken or lacks an array.
        DataError: Its joints are known to be mixed up.
    """
    raw = _read_npz(path) if path.suffix == ".npz" else load_joblib(path, _WHAT)
    if not isinstance(raw, dict):
        raise UserError(f"{_WHAT} {path} holds a {type(raw).__name__}, not a dictionary of arrays")
    missing = [name for name in ("img_name", "joints2D") if name not in raw]
    if missing:
        raise UserError(f"{_WHAT} {path} has no {', '.join(missing)}; it has {', '.join(map(str, raw))[:200]}")
    content: dict[str, Array] = {"img_name": _column(path, "img_name", raw["img_name"])}
    count = len(content["img_name"])
    for name in ("vid_name", "frame_id"):
        if name in raw:
            content[name] = _column(path, name, raw[name])
            if len(content[name]) != count:
                raise UserError(f"{_WHAT} {path}: {name} has {len(content[name])} entries for {count} pictures")
    for name, shapes in _SHAPES.items():
        value = raw.get(name, raw.get("valid_i") if name == "valid" else None)
        if value is not None:
            also = ((len(_INSTA25), 3),) if dataset == "insta" and name == "joints2D" else ()
            content[name] = _numbers(path, name, value, count, (*shapes, *also))
    if dataset == "pennaction" and content["joints2D"].shape[1] == len(SPIN49):
        raise DataError(
            f"PoseDatabase: {_WHAT} {path} has 49 joints, as MAED's script writes it, which mixes them up (it sorts by "
            "one list of names and reads by another): use PennAction, which reads the data set's own files; rename a "
            "mended database"
        )
    for name, axes in _AXES.items():
        if name in content and content[name].shape[-1] == axes:
            content[f"has_{name}"] = _joints_of(content[name], f"{_WHAT} {path}: {name}")
    return content


def _joints_of(points: Float64, label: str) -> Bool:
    """Tells which joints (J,) a file has that gives points (N, J, C) without confidences.

    Scripts leave the joints that the data set lacks at zero, or take the root off all joints, those included.
    """
    has = np.ones(points.shape[1], dtype=bool)
    absent = _crowded(points[:1], np.arange(len(has)))  # the first row tells of most files that they lack none
    absent = _crowded(points, absent)
    if len(absent) and len(points):
        has[absent] = False
        names = [SPIN49.joints[place] for place in _PLACES[len(has)][absent]]
        text = "%s has no confidences, and %d of its %d joints lie at one place in every row: they count as absent (%s)"
        log.warning(text, label, len(absent), len(has), listed(names))
    return has


def _crowded(points: Float64, joints: Int64) -> Int64:
    """Returns those of some joints of (N, J, C) that lie, in every row, at exactly one place with two more of them."""
    places = [hash((points[:, joint] + 0.0).tobytes()) for joint in joints.tolist()]  # + 0.0 makes 0.0 of -0.0
    together = Counter(places)
    return joints[np.array([together[place] > _SHARED_PLACE for place in places], dtype=bool)]


def _among_49(content: Mapping[str, Array], name: str, rows: Int64) -> Float64:
    """Returns the joints of some rows with their confidences, (n, 49, axes + 1); 0 for those that the file lacks."""
    axes, joints = _AXES[name], content[name][rows]
    places = _PLACES[joints.shape[1]]
    full = np.zeros((len(rows), len(SPIN49), axes + 1))
    full[:, places, :axes] = joints[..., :axes]
    full[:, places, axes] = joints[..., axes] if joints.shape[-1] > axes else content[f"has_{name}"]
    return full


def _column(path: Path, name: str, value: Any) -> Array:
    try:
        return np.asarray(value).reshape(-1)
    except ValueError:
        raise UserError(f"{_WHAT} {path}: {name} is no list of one entry for each picture") from None


def _numbers(path: Path, name: str, value: Any, count: int, shapes: tuple[tuple[int, ...], ...]) -> Float64:
    array = label_numbers(value, f"{_WHAT} {path}: {name}")
    array = array.reshape(-1) if shapes == ((),) else array
    if array.shape not in [(count, *shape) for shape in shapes]:
        expected = " or ".join(str((count, *shape)) for shape in shapes)
        raise UserError(f"{_WHAT} {path}: {name} has shape {array.shape}, expected {expected}")
    return array


def _read_npz(path: Path) -> dict[str, Any]:
    with open_npz(path, _WHAT) as archive:
        names = [name for name in archive.names if name in (*_SHAPES, "img_name", "vid_name", "frame_id", "valid_i")]
        objects = [name for name in names if archive.holds_objects(name)]
        content: dict[str, Any] = {name: archive[name] for name in names if name not in objects}
    return content | {name: load_npz_object(path, name, _WHAT) for name in objects}


def _groups(videos: Array) -> list[Int64]:
    """Returns the rows of each run of equal video names."""
    names = videos.astype(str)
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    return list(np.split(np.arange(len(names)), edges))


def _frame_numbers(ids: Array | None, rows: Int64) -> Int64:
    """Returns increasing frame numbers: the last digits in each of the ids, or else 0, 1, …."""
    if ids is not None and len(rows):
        digits = [re.findall(r"\d+", str(value)) for value in ids[rows].tolist()]
        if all(digits):
            numbers = np.array([int(found[-1]) for found in digits], dtype=np.float64)
            if (np.diff(numbers) > 0).all() and numbers.max() < 1e15:
                return numbers.astype(np.int64)
    return np.arange(len(rows))


def _boxes(boxes: Array | None, rows: Int64) -> Float64:
    """Returns xywh boxes (N, 4) of centres and sizes; NaN, the whole picture, where there are none."""
    if boxes is None:
        return np.full((len(rows), 4), np.nan)
    center, size = boxes[rows, :2], boxes[rows, 2:]
    return np.concatenate([center - size / 2, size], -1)


def _labels(content: Mapping[str, Array], rows: Int64, valid: Bool) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if "joints3D" in content:
        points = _among_49(content, "joints3D", rows)
        labels |= {"joints3d": points[..., :3], "weight3d": points[..., 3] * valid[:, None]}
    if "pose" in content:
        pose = content["pose"][rows]
        pose = matrix_to_axis_angle(pose) if pose.ndim == 4 else pose.reshape(-1, 24, 3)
        labelled = valid & (np.abs(pose).max((1, 2), initial=0) > 0)
        shape = content["shape"][rows] if "shape" in content else np.zeros((len(rows), 10))
        labels |= {"body_pose": pose, "body_shape": shape, "body_weight": labelled.astype(np.float64)}
    return labels

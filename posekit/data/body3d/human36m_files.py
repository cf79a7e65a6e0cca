"""The files in which Human3.6M's poses come: the official .cdf, h36m-fetch's .h5, mmpose's and VideoPose3D's .npz."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float64, Int64
from posekit.data.body3d.cdf import read_cdf
from posekit.data.body3d.numbers import label_numbers
from posekit.data.coco_file import escapes_folder
from posekit.data.joint_maps import JointSource
from posekit.data.mocap.euler import euler_matrix
from posekit.data.npz import open_npz
from posekit.errors import UserError, excerpt
from posekit.mat_arrays import read_arrays
from posekit.safe_pickle import load_npz_object

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SIZES = {"54138969": (1000, 1002), "55011271": (1000, 1000), "58860488": (1000, 1000), "60457274": (1000, 1002)}
SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
_WHAT = "pose file"

# Human3.6M's joint 14 is the middle of the face, which its 17 call neck, and SPIN head; 13 is LSP's neck and MPII's
# upper neck. 5 and 10 are the tips of the feet: NLRD's code takes a toe base on the right and a tip on the left.
_INSTEAD: dict[str, dict[str, str | None]] = {
    "H36M17": {"neck": "head"},
    "SPIN49": {"thorax": None},
    "SMPL24": {"head": None, "neck": "thorax"},
}
_ALSO = {"neck": "thorax", "upper_neck": "thorax", "head_bottom": "thorax"}
JOINTS17 = JointSource(
    "Human3.6M's 17 joints",
    (
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
        "head", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    _ALSO, _INSTEAD,
)  # fmt: skip
JOINTS32 = JointSource(
    "Human3.6M's 32 joints",
    (
        "pelvis", "right_hip", "right_knee", "right_ankle", "right_foot", "#5", "left_hip", "left_knee", "left_ankle",
        "left_foot", "#10", "#11", "spine", "thorax", "head", "head_top", "#16", "left_shoulder", "left_elbow",
        "left_wrist", "#20", "#21", "#22", "#23", "#24", "right_shoulder", "right_elbow", "right_wrist", "#28", "#29",
        "#30", "#31",
    ),
    _ALSO, _INSTEAD,
)  # fmt: skip


class Take(NamedTuple):
    """One action of one subject, seen by one camera.

    Attributes:
        subject: ``"S1"`` …
        action: As files are named, e.g. ``"Directions 1"``.
        camera: Its serial number.
    """

    subject: str
    action: str
    camera: str

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return f"{self.subject}, {self.action}, camera {self.camera}"

    @property
    def stem(self) -> str:
        """The name of its official files."""
        return f"{self.action}.{self.camera}"

    @property
    def folder(self) -> str:
        """The name of its folder of pictures, as mmpose's script makes it."""
        return f"{self.subject}_{self.stem.replace(' ', '_')}"


class Poses(NamedTuple):
    """The labels of a take.

    Attributes:
        frames: (N,) numbers of the frames in the video, from 0.
        points2d: (N, J, 2) px.
        points3d: (N, J, 3) metres, camera frame.
        source: What the joints are.
    """

    frames: Int64
    points2d: Float64
    points3d: Float64
    source: JointSource


def base_action(action: str) -> str:
    """Returns an action without the number of its repetition."""
    return re.sub(r"[ -]\d+$", "", action)


# -- .cdf -------------------------------------------------------------------------------------------------------------

_FEATURES = ("MyPoseFeatures/{}", "{}", "Poses_{}")


def find_cdf(root: Path, subject: str) -> Iterator[Take]:
    """Yields the takes of a subject whose ``D3_Positions_mono`` is there."""
    for pattern in _FEATURES:
        folder = root / subject / pattern.format("D3_Positions_mono")
        for path in sorted(folder.glob("*.cdf")) if folder.is_dir() else ():
            action, _, camera = path.stem.rpartition(".")
            if camera in CAMERAS and action and not action.startswith("_ALL"):
                yield Take(subject, action, camera)


def read_take_cdf(root: Path, take: Take) -> Poses:
    """Reads 2D and 3D poses of the official files.

    Raises:
        UserError: One is absent or faulty.
    """
    points = []
    for kind, width in (("D2_Positions", 2), ("D3_Positions_mono", 3)):
        places = [root / take.subject / p.format(kind) / f"{take.stem}.cdf" for p in _FEATURES]
        path = next((place for place in places if place.is_file()), places[0])
        found = read_cdf(path, "Pose", _WHAT)
        if found.shape[0] != 1 or found.ndim != 3 or found.shape[2] != 32 * width:
            raise UserError(f"{_WHAT} {path}: Pose has shape {found.shape}, expected (1, T, {32 * width})")
        points.append(_finite(path, "Pose", found[0].reshape(-1, 32, width)))
    count = min(len(p) for p in points)
    if abs(len(points[0]) - len(points[1])) > 1:
        raise UserError(f"{_WHAT}s of {take.label} have {len(points[0])} 2D and {len(points[1])} 3D poses")
    return Poses(np.arange(count), points[0][:count], points[1][:count] / 1000, JOINTS32)


def _finite(path: Path, name: str, array: NDArray[Any]) -> Float64:
    if array.dtype.kind not in "fiu":
        raise UserError(f"{_WHAT} {path}: {name} is of {array.dtype}, not of numbers")
    return label_numbers(array, f"{_WHAT} {path}: {name}")


# -- annot.h5 ---------------------------------------------------------------------------------------------------------


def find_annot(root: Path, subject: str) -> Iterator[tuple[Path, str]]:
    """Yields h36m-fetch's files of a subject and their actions."""
    for place in (root / subject, root / "processed" / subject):
        for path in sorted(place.glob("*/annot.h5")):
            yield path, path.parent.name


def read_annot(path: Path, subject: str, action: str) -> dict[Take, Poses]:
    """Reads an ``annot.h5`` of h36m-fetch, which holds all cameras of an action.

    Older versions hold only ``pose/3d-univ``, whose bones are the universal skeleton's.

    Raises:
        UserError: It is absent or faulty.
    """
    names = ["pose/2d", "frame", "camera"]
    content = read_arrays(path, names, _WHAT, ["pose/3d", "pose/3d-univ"])
    name3d = next((name for name in ("pose/3d", "pose/3d-univ") if name in content), "pose/3d")
    if name3d not in content:
        raise UserError(f"{_WHAT} {path} has no array pose/3d or pose/3d-univ")
    frames, cameras = content["frame"].reshape(-1), content["camera"].reshape(-1)
    points2d, points3d = (_finite(path, name, content[name]) for name in ("pose/2d", name3d))
    count = len(frames)
    if points2d.shape != (count, 32, 2) or points3d.shape != (count, 32, 3) or len(cameras) != count:
        shapes = f"pose/2d {points2d.shape}, {name3d} {points3d.shape}, camera {cameras.shape}"
        raise UserError(f"{_WHAT} {path} has {shapes} for {count} frames, expected (N, 32, 2), (N, 32, 3), (N,)")
    takes = {}
    for camera in CAMERAS:
        rows = np.flatnonzero(cameras.astype(np.int64) == int(camera))
        rows = rows[np.argsort(frames[rows], kind="stable")]
        if len(rows):
            numbers = frames[rows].astype(np.int64) - 1  # they count from 1
            takes[Take(subject, action, camera)] = Poses(numbers, points2d[rows], points3d[rows] / 1000, JOINTS32)
    return takes


# -- mmpose's .npz ----------------------------------------------------------------------------------------------------

_NAME = re.compile(r"(?P<subject>S\d+)_(?P<action>.+)\.(?P<camera>\d{8})_(?P<frame>\d+)\.\w+$")


def read_mmpose(path: Path) -> dict[Take, tuple[Poses, list[str]]]:
    """Reads ``h36m_train.npz`` or ``h36m_test.npz``: poses and picture names of each take.

    Raises:
        UserError: It is absent or faulty.
    """
    with open_npz(path, _WHAT, ("imgname", "part", "S")) as archive:
        names, part, points = archive["imgname"], archive["part"], archive["S"]
    count = len(names) if names.ndim == 1 else -1
    if part.shape != (count, 17, 3) or points.shape not in ((count, 17, 4), (count, 17, 3)):
        shapes = f"part {part.shape} and S {points.shape}"
        raise UserError(f"{_WHAT} {path} has {shapes} for {count} pictures, expected (N, 17, 3) and (N, 17, 4)")
    part, points = _finite(path, "part", part), _finite(path, "S", points)
    rows: dict[Take, list[tuple[int, int]]] = {}
    for row, name in enumerate(names.tolist()):
        found = _NAME.search(str(name).replace("\\", "/").rpartition("/")[2])
        if found is None or found["camera"] not in CAMERAS:
            raise UserError(
                f"{_WHAT} {path}: imgname {str(name)[:60]!r} is not like S1_Directions_1.54138969_000001.jpg"
            )
        take = Take(found["subject"], found["action"].replace("_", " "), found["camera"])
        rows.setdefault(take, []).append((int(found["frame"]) - 1, row))
    takes = {}
    for take, pairs in rows.items():
        frames, order = np.array(sorted(pairs), dtype=np.int64).T
        if (np.diff(frames) <= 0).any():
            raise UserError(f"{_WHAT} {path} names a picture of {take.label} twice")
        poses = Poses(frames, part[order, :, :2], points[order, :, :3], JOINTS17)
        takes[take] = poses, [str(names[row]) for row in order]
    return takes


# -- VideoPose3D's .npz -----------------------------------------------------------------------------------------------


class Camera(NamedTuple):
    """A camera of the data set: X_camera = rotation (X_world - center).

    Attributes:
        rotation: (3, 3).
        center: (3,) metres.
        focal: (2,) px.
        principal: (2,) px.
        radial: (3,) distortion.
        tangential: (2,) distortion.
    """

    rotation: Float64
    center: Float64
    focal: Float64
    principal: Float64
    radial: Float64
    tangential: Float64

    def project(self, points: Float64) -> Float64:
        """Projects points (…, 3), camera frame, to px (…, 2), with the lens's distortion."""
        x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        squared = x * x + y * y
        bent = 1 + sum(k * squared ** (power + 1) for power, k in enumerate(self.radial))
        shift = self.tangential[1] * x + self.tangential[0] * y  # the data set's own form, without a factor of 2
        plane = np.stack([x, y], -1) * (bent + shift)[..., None]
        plane = plane + squared[..., None] * self.tangential[::-1]
        return np.asarray(self.focal * plane + self.principal)


def read_cameras(path: Path) -> dict[tuple[str, str], Camera]:
    """Reads the cameras of the data set's ``metadata.xml``, by subject and serial number.

    Its ``w0`` holds 6 numbers (angles about x, y, z in radians and the centre in mm) for each of 11 subjects and each
    camera, then 9 (focal length, principal point, distortion) for each camera.

    Raises:
        UserError: It is absent or faulty.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"camera file {path} cannot be read ({error.strerror})") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"camera file {path} declares entities, which are not read")
    try:
        found = ElementTree.fromstring(text).find("w0")
        numbers = [float(word) for word in ((found.text if found is not None else "") or "").strip(" []\n").split()]
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"camera file {path} is no metadata.xml of Human3.6M ({error})") from None
    if len(numbers) < 300 or not np.isfinite(numbers).all():
        raise UserError(f"camera file {path}: w0 holds {len(numbers)} numbers, expected 300")
    cameras = {}
    for c, serial in enumerate(CAMERAS):
        inner = np.array(numbers[264 + 9 * c : 273 + 9 * c])
        for subject in range(1, 12):
            start = 6 * (11 * c + subject - 1)
            angles, center = np.array(numbers[start : start + 3]), np.array(numbers[start + 3 : start + 6])
            rotation = euler_matrix("xyz", angles)
            cameras[f"S{subject}", serial] = Camera(
                rotation, center / 1000, inner[:2], inner[2:4], inner[4:7], inner[7:9]
            )
    return cameras


def read_videopose(path: Path) -> dict[tuple[str, str], Float64]:
    """Reads ``data_3d_h36m.npz``: world poses (T, 32, 3) in metres by subject and action.

    Raises:
        UserError: It is absent or faulty, or its pickle names anything but arrays.
    """
    content = load_npz_object(path, "positions_3d", _WHAT)
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise UserError(f"{_WHAT} {path}: positions_3d is no dictionary of subjects and actions")
    found = {}
    for subject, actions in content.items():
        for action, poses in actions.items():
            for name in (str(subject), str(action)):  # files are named by them
                if "/" in name or "\\" in name or escapes_folder(name):
                    why = "is no name of a subject or an action, by which files are named"
                    raise UserError(f"{_WHAT} {path}: {excerpt(name)} {why}")
            array = np.asarray(poses)
            if array.ndim != 3 or array.shape[1:] != (32, 3):
                raise UserError(f"{_WHAT} {path}: {subject}, {action} has shape {array.shape}, expected (T, 32, 3)")
            found[str(subject), str(action)] = _finite(path, f"{subject}, {action}", array)
    return found


def official_names(action: str) -> list[str]:
    """Returns the names of official files that VideoPose3D's name of an action may stand for."""
    longer = action.replace("WalkDog", "WalkingDog").replace("Photo", "TakingPhoto")
    return list(dict.fromkeys([action, longer]))

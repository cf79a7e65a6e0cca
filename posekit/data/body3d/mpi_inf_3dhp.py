"""MPIINF3DHP: MPI-INF-3DHP from its official files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posekit.arrays import Float64
from posekit.data.body3d.cameras import fit_pinhole
from posekit.data.body3d.frames import open_frames
from posekit.data.body3d.module import BodyDataModule, Part, Recording, pinhole
from posekit.data.body3d.numbers import label_numbers
from posekit.data.body3d.person import Person, Protocol, visible_joints
from posekit.data.body3d.vibe_boxes import BOX_RULES, BoxRule, vibe_boxes
from posekit.data.joint_maps import JointSource
from posekit.errors import UserError, one_of
from posekit.mat5 import read_mat5
from posekit.mat_arrays import flags, frames_first, read_arrays
from posekit.metrics.mpi_inf_3dhp_files import TEST_JOINTS_3DHP
from posekit.skeletons import LSP14

SUBJECTS = tuple(range(1, 9))
CAMERAS = tuple(range(14))
USUAL_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
TESTS = tuple(range(1, 7))
_FAST = {(1, 2), (3, 1), (3, 2), (5, 1), (5, 2)}  # (subject, sequence) at 50 frames per second; the others at 25
_WHAT = "annotation file"

# The data set's neck is LSP's, its head the middle of the face, which Human3.6M's 17 call neck.
_H36M: dict[str, str | None] = {"thorax": "neck", "neck": "head"}
_SPIN: dict[str, str | None] = {"thorax": None}
_ALSO = {"upper_neck": "neck", "head_bottom": "neck"}

TRAIN_JOINTS = JointSource(
    "MPI-INF-3DHP's 28 joints",
    (
        "3dhp_spine3", "3dhp_spine4", "3dhp_spine2", "spine", "pelvis", "neck", "head", "head_top", "left_clavicle",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand", "right_clavicle", "right_shoulder", "right_elbow",
        "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe", "right_hip",
        "right_knee", "right_ankle", "right_foot", "right_toe",
    ),
    _ALSO, {"H36M17": _H36M, "SPIN49": _SPIN, "SMPL24": {"head": None}},
)  # fmt: skip
TEST_JOINTS = JointSource(
    "MPI-INF-3DHP's 17 test joints",
    TEST_JOINTS_3DHP,
    _ALSO,
    {"H36M17": _H36M, "SPIN49": _SPIN, "SMPL24": {"head": None}},
)


class MPIINF3DHP(BodyDataModule):
    """MPI-INF-3DHP (Mehta et al., 3DV 2017) as clips of people with 3D joints.

    ``root`` holds, for training, ``S1/Seq1/annot.mat``, ``camera.calibration`` and either
    ``imageSequence/video_0.avi`` or pictures (``imageFrames/video_0/frame_000001.jpg``); for validation and test
    ``TS1/annot_data.mat`` and ``TS1/imageSequence/img_000001.jpg``, in ``root`` or in ``mpi_inf_3dhp_test_set/``. Read
    are ``annot2`` and ``annot3``; the universal skeleton on request. Test frames that ``valid_frame`` does not call
    valid have weight 0 in 3D and are no key frames. Rate of the training videos: 25 or 50, as the data set's tools
    say; the test files do not say theirs.

    Args:
        root: Folder of the data.
        subjects: Training subjects, of 1 … 8; all when None.
        sequences: Training sequences, of 1 and 2; both when None.
        cameras: Training cameras, of 0 … 13; the eight at chest height when None.
        test_subjects: Test sequences, of 1 … 6; all when None.
        universal: Take ``univ_annot3``, which has one skeleton's bone lengths; published test results often do.
        boxes: ``"own"``: the visible joints' extent, ``"vibe"``: that of VIBE's and MAED's label files, squares of 1.1
            times the longer side of the extent of the 17 test joints.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "https://vcai.mpi-inf.mpg.de/3dhp-dataset (for non-commercial research)"
    PROTOCOLS: ClassVar[dict[int, Protocol]] = {
        14: Protocol("LSP's 14 joints of the valid test frames; PCK at 150 mm and AUC, root-relative", LSP14),
        17: Protocol(
            "the 17 joints of the valid test frames; PCK at 150 mm and AUC, root-relative", None, TEST_JOINTS.joints
        ),
    }

    def __init__(
        self,
        root: str = "data/mpi_inf_3dhp",
        subjects: Sequence[int] | None = None,
        sequences: Sequence[int] | None = None,
        cameras: Sequence[int] | None = USUAL_CAMERAS,
        test_subjects: Sequence[int] | None = None,
        universal: bool = False,
        boxes: BoxRule = "own",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.subjects = self.chosen("subjects", subjects, SUBJECTS)
        self.sequences = self.chosen("sequences", sequences, (1, 2))
        self.cameras = self.chosen("cameras", cameras or USUAL_CAMERAS, CAMERAS)
        self.test_subjects = self.chosen("test_subjects", test_subjects, TESTS)
        self.universal = universal
        one_of("boxes of MPIINF3DHP", boxes, BOX_RULES)
        self.boxes: BoxRule = boxes

    def recordings(self, split: Part) -> list[Recording]:
        """Lists the training sequences, one for each camera, or the test sequences.

        Raises:
            UserError: There are none.
        """
        found = self._training() if split == "train" else self._testing()
        if not found:
            wanted = "S1/Seq1/annot.mat" if split == "train" else "TS1/annot_data.mat"
            raise self.missing("file", self.root / wanted)
        return found

    def _training(self) -> list[Recording]:
        found = []
        for subject in self.subjects:
            for sequence in self.sequences:
                folder = self.root / f"S{subject}" / f"Seq{sequence}"
                if (folder / "annot.mat").is_file():
                    label = f"S{subject}/Seq{sequence}"
                    rate = 50.0 if (subject, sequence) in _FAST else 25.0
                    found.append(Recording(label, partial(self._read_training, folder, rate)))
        return found

    def _testing(self) -> list[Recording]:
        found = []
        for number in self.test_subjects:
            places = [self.root / f"TS{number}", self.root / "mpi_inf_3dhp_test_set" / f"TS{number}"]
            folder = next((place for place in places if (place / "annot_data.mat").is_file()), None)
            if folder is not None:
                found.append(Recording(folder.name, partial(self._read_test, folder)))
        return found

    # -- training -----------------------------------------------------------------------------------------------------

    def _read_training(self, folder: Path, rate: float) -> list[Person]:
        path, name3d = folder / "annot.mat", "univ_annot3" if self.universal else "annot3"
        content = read_mat5(path, ["annot2", name3d], _WHAT)
        calibration = folder / "camera.calibration"
        cameras = read_calibration(calibration) if calibration.is_file() else {}
        readers = []
        for camera in self.cameras:
            points2d = _cell(content["annot2"], camera, 56, f"{_WHAT} {path}: annot2").reshape(-1, 28, 2)
            points3d = _cell(content[name3d], camera, 84, f"{_WHAT} {path}: {name3d}").reshape(-1, 28, 3) / 1000
            if len(points2d) != len(points3d):
                raise UserError(f"{_WHAT} {path}: camera {camera} has {len(points2d)} 2D and {len(points3d)} 3D poses")
            matrix = cameras.get(camera)
            readers.append(partial(self._training_person, folder, camera, points2d, points3d, matrix, rate))
        return self.each(readers)

    def _training_person(
        self, folder: Path, camera: int, points2d: Float64, points3d: Float64, matrix: Float64 | None, rate: float
    ) -> Person:
        label = f"{folder.parent.name}/{folder.name}, camera {camera}"
        count = len(points2d)
        rows = np.arange(count)
        name = f"video_{camera}"
        folders = [
            (folder / kind / name, ["frame_%06d.jpg", "img_%06d.jpg"]) for kind in ("imageFrames", "imageSequence")
        ]
        flat = f"{folder.parent.name}_{folder.name}_Cam{camera}_%06d.jpg"  # as mmpose extracts them
        folders.append((self.root / "images", [flat]))
        video = folder / "imageSequence" / f"{name}.avi"
        read = open_frames(label, rows, folders, video, offset=1, verify=self.verify_images)
        matrix = fit_pinhole(points3d, points2d) if matrix is None else matrix
        joints, size = _seen(points2d), (2048, 2048)
        return Person(
            name=label,
            video=label,
            read=read,
            image_rows=rows,
            frames=rows,
            joints=joints,
            source=TRAIN_JOINTS,
            joints3d=points3d,
            boxes=self._boxes(joints, TRAIN_JOINTS, size),
            image_size=size,
            camera=None if matrix is None else pinhole(matrix, count),
            fps=rate,
        )

    # -- test ---------------------------------------------------------------------------------------------------------

    def _read_test(self, folder: Path) -> list[Person]:
        path, name3d = folder / "annot_data.mat", "univ_annot3" if self.universal else "annot3"
        content = read_arrays(path, ["annot2", name3d, "valid_frame"], _WHAT)
        points2d = frames_first(content["annot2"], (17, 2), f"{_WHAT} {path}: annot2")
        points3d = frames_first(content[name3d], (17, 3), f"{_WHAT} {path}: {name3d}") / 1000
        valid = flags(content["valid_frame"], f"{_WHAT} {path}: valid_frame")
        count = len(points2d)
        if len(points3d) != count or len(valid) != count:
            sizes = f"{count} 2D poses, {len(points3d)} 3D poses, {len(valid)} values of valid_frame"
            raise UserError(f"{_WHAT} {path} has {sizes}")
        rows = np.arange(count)
        folders = [(folder / "imageSequence", ["img_%06d.jpg"])]
        read = open_frames(folder.name, rows, folders, offset=1, verify=self.verify_images)
        matrix = fit_pinhole(points3d, points2d, np.repeat(valid[:, None], 17, 1))
        joints, size = _seen(points2d), (1920, 1080) if folder.name in ("TS5", "TS6") else (2048, 2048)
        person = Person(
            name=folder.name,
            video=folder.name,
            read=read,
            image_rows=rows,
            frames=rows,
            joints=joints,
            source=TEST_JOINTS,
            joints3d=points3d,
            weight3d=np.repeat(valid[:, None].astype(np.float64), 17, 1),
            boxes=self._boxes(joints, TEST_JOINTS, size),
            keys=valid,
            image_size=size,
            camera=None if matrix is None else pinhole(matrix, count),
            fps=self.source_fps,
        )
        return [person]

    def _boxes(self, joints: Float64, source: JointSource, image_size: tuple[int, int]) -> Float64 | None:
        """Returns the boxes (N, 4) of joints (N, J, 3); None for the extent of all of them."""
        if self.boxes == "own":
            return None
        # The test joints are those of SPIN's 49 that the data set has: no hands and feet.
        return vibe_boxes(visible_joints(joints[:, list(map(source.joints.index, TEST_JOINTS.joints))], image_size))


def _seen(points: Float64) -> Float64:
    return np.concatenate([points, np.full((*points.shape[:-1], 1), 2.0)], -1)


def _cell(cells: Any, camera: int, width: int, label: str) -> Float64:
    """Returns a camera's array (T, width) of a MATLAB cell."""
    is_cell = isinstance(cells, np.ndarray) and cells.dtype.hasobject
    flat = cells.reshape(-1) if is_cell else None
    if flat is None or camera >= len(flat):
        raise UserError(f"{label} is for {0 if flat is None else len(flat)} cameras, camera {camera} is asked for")
    found = np.asarray(flat[camera])
    if found.dtype.kind not in "fiu" or found.ndim != 2 or found.shape[1] != width:
        raise UserError(f"{label} of camera {camera} has shape {found.shape}, expected (T, {width})")
    return label_numbers(found, f"{label} of camera {camera}")


def read_calibration(path: Path) -> dict[int, Float64]:
    """Reads the intrinsics (3, 3) of the cameras of a ``camera.calibration`` file, by number.

    Raises:
        UserError: It is faulty.
    """
    found: dict[int, Float64] = {}
    number: int | None = None
    for line, text in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        words = text.split()
        if words[:1] == ["name"]:
            number = int(words[1]) if len(words) > 1 and re.fullmatch(r"\d{1,3}", words[1]) else None
        if words[:1] == ["intrinsic"]:
            try:
                values = np.array([float(word) for word in words[1:]]).reshape(4, 4)
            except ValueError:
                raise UserError(f"calibration file {path}: line {line} has no intrinsic of 16 numbers") from None
            if number is None:
                raise UserError(f"calibration file {path}: line {line} has an intrinsic before any camera's name")
            found[number] = values[:3, :3]
    if not found:
        raise UserError(f"calibration file {path} holds no intrinsic of a camera")
    return found

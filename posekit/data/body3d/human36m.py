"""Human36M: Human3.6M from the official files or the common derived ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.arrays import Int64
from posekit.data.body3d.cameras import fit_pinhole
from posekit.data.body3d.frames import FrameReader, MediaError, open_frames
from posekit.data.body3d.human36m_files import (
    CAMERAS,
    JOINTS17,
    JOINTS32,
    SIZES,
    SUBJECTS,
    Poses,
    Take,
    base_action,
    find_annot,
    find_cdf,
    official_names,
    read_annot,
    read_cameras,
    read_mmpose,
    read_take_cdf,
    read_videopose,
)
from posekit.data.body3d.module import BodyDataModule, Part, Recording, pinhole
from posekit.data.body3d.person import Person, Protocol
from posekit.data.coco_file import escapes_folder
from posekit.data.crops import FileReader
from posekit.errors import UserError, one_of
from posekit.files import is_there
from posekit.skeletons import LSP14

Files = Literal["auto", "cdf", "h5", "mmpose", "videopose3d"]

_KINDS = ("cdf", "h5", "mmpose", "videopose3d")
_SUBJECTS: dict[str, tuple[str, ...]] = {
    "train": ("S1", "S5", "S6", "S7", "S8"),
    "val": ("S9", "S11"),
    "test": ("S9", "S11"),
}
_RATE = 50.0


class Human36M(BodyDataModule):
    """Human3.6M (Ionescu et al., PAMI 2014) as clips of people with 3D joints.

    Files under ``root``, told by what is there unless named:
        cdf          ``S1/MyPoseFeatures/{D2_Positions,D3_Positions_mono}/*.cdf`` as downloaded.
        h5           h36m-fetch's ``S1/<action>/annot.h5`` (or ``processed/S1/…``).
        mmpose       ``h36m_train.npz`` and ``h36m_test.npz`` (or ``annotation_body3d/fps50/…``, ``fps10/…``).
        videopose3d  ``data_3d_h36m.npz``, in world coordinates, with the data set's ``metadata.xml`` for the cameras.

    Pictures: ``images/S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg`` (mmpose's script),
    ``S1/<action>/imageSequence/<camera>/img_000001.jpg`` (h36m-fetch), or the videos ``S1/Videos/*.mp4``; jumping in
    a long video is slow, so extracted pictures are better for training. Training subjects are S1, 5, 6, 7, 8, the
    others S9 and S11. Joints are Human3.6M's 32 (17 of mmpose's file). Rate: 50. Intrinsics are fitted to the files'
    own 2D and 3D poses.

    Args:
        root: Folder of the data.
        files: ``"auto"``, ``"cdf"``, ``"h5"``, ``"mmpose"`` or ``"videopose3d"``.
        train_subjects: Training subjects; S1, S5, S6, S7, S8 when None.
        val_subjects: Subjects of validation and test; S9 and S11 when None.
        cameras: Serial numbers; all four when None. ``["60457274"]`` is the frontal one of protocol 2.
        actions: Actions by name without number, e.g. ``Walking``; all when None.
        metadata: The data set's ``metadata.xml``, relative to ``root``, for VideoPose3D's file.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "http://vision.imar.ro/human3.6m (registration; for academic use)"
    PROTOCOLS: ClassVar[dict[int, Protocol]] = {
        14: Protocol("LSP's 14 joints, mid hips aligned (protocol 1: all cameras; 2: the frontal one, PA)", LSP14),
        17: Protocol("Human3.6M's 17 joints, pelvis aligned", None, JOINTS17.joints),
    }

    def __init__(
        self,
        root: str = "data/h36m",
        files: Files = "auto",
        train_subjects: Sequence[str] | None = None,
        val_subjects: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
        actions: Sequence[str] | None = None,
        metadata: str = "metadata.xml",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        one_of("files of Human36M", files, ("auto", *_KINDS))
        train = self.chosen("train_subjects", train_subjects or _SUBJECTS["train"], SUBJECTS)
        val = self.chosen("val_subjects", val_subjects or _SUBJECTS["val"], SUBJECTS)
        self.files: Files = files
        self.subjects = {"train": train, "val": val, "test": val}
        self.cameras = self.chosen("cameras", cameras, CAMERAS)
        self.actions = list(actions) if actions is not None else None
        self.metadata = self.root / metadata

    def recordings(self, split: Part) -> list[Recording]:
        """Lists a split's takes.

        Raises:
            UserError: There are none, or an option names an action that is not there.
        """
        listers = {"cdf": self._cdf, "h5": self._h5, "mmpose": self._mmpose, "videopose3d": self._videopose}
        for kind in _KINDS if self.files == "auto" else (self.files,):
            found = listers[kind](split)
            if found:
                return found
        chosen = "" if self.actions is None else f" of actions {', '.join(self.actions)}"
        raise UserError(
            f"Human36M: {self.root} holds no poses of subjects {', '.join(self.subjects[split])}{chosen} "
            f"(files {self.files}: S1/MyPoseFeatures/D3_Positions_mono/*.cdf, S1/*/annot.h5, h36m_train.npz or "
            f"data_3d_h36m.npz); get them from {self.HOME}"
        )

    def _wanted(self, split: Part, take: Take) -> bool:
        return (
            take.subject in self.subjects[split]
            and take.camera in self.cameras
            and (self.actions is None or base_action(take.action) in self.actions)
        )

    # -- files --------------------------------------------------------------------------------------------------------

    def _cdf(self, split: Part) -> list[Recording]:
        takes = [take for subject in self.subjects[split] for take in find_cdf(self.root, subject)]
        return [Recording(take.label, partial(self._read_cdf, take)) for take in takes if self._wanted(split, take)]

    def _read_cdf(self, take: Take) -> list[Person]:
        return [self._person(take, read_take_cdf(self.root, take))]

    def _h5(self, split: Part) -> list[Recording]:
        return [
            Recording(str(path), partial(self._read_h5, split, path, subject, action))
            for subject in self.subjects[split]
            for path, action in find_annot(self.root, subject)
            if self.actions is None or base_action(action) in self.actions
        ]

    def _read_h5(self, split: Part, path: Path, subject: str, action: str) -> list[Person]:
        takes = read_annot(path, subject, action)
        return self.each(
            partial(self._person, take, poses, [path.parent / "imageSequence" / take.camera])
            for take, poses in takes.items()
            if self._wanted(split, take)
        )

    def _mmpose(self, split: Part) -> list[Recording]:
        name = "h36m_train.npz" if split == "train" else "h36m_test.npz"
        places = [self.root / name, *(self.root / "annotation_body3d" / rate / name for rate in ("fps50", "fps10"))]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            return []
        return [
            Recording(take.label, partial(self._read_mmpose, path, take, poses, names))
            for take, (poses, names) in read_mmpose(path).items()
            if self._wanted(split, take)
        ]

    def _read_mmpose(self, path: Path, take: Take, poses: Poses, names: list[str]) -> list[Person]:
        outside = next((name for name in names if escapes_folder(name)), None)
        if outside is not None:
            raise UserError(f"pose file {path}: imgname {outside!r} leads out of the folder of pictures")
        files = [self.root / "images" / name for name in names]
        if not is_there(files[0]):
            files = [self.root / name for name in names]
        absent = [file for file in files if not is_there(file)] if self.verify_images else []
        if absent:
            raise MediaError(f"{take.label}: {len(absent)} of {len(files)} pictures do not exist, e.g. {absent[0]}")
        return [self._made(take, poses, FileReader(files), np.arange(len(files)))]

    def _videopose(self, split: Part) -> list[Recording]:
        path = self.root / "data_3d_h36m.npz"
        if not path.is_file():
            return []
        if not self.metadata.is_file():
            raise UserError(
                f"Human36M: {path} is in world coordinates: the cameras' file {self.metadata} is needed as well "
                f"(option metadata; it comes with the data set, {self.HOME})"
            )
        cameras = read_cameras(self.metadata)
        found = []
        for (subject, action), world in read_videopose(path).items():
            for serial in self.cameras:
                take = Take(subject, action, serial)
                if not self._wanted(split, take):
                    continue
                camera = cameras[subject, serial]
                points = (world - camera.center) @ camera.rotation.T
                poses = Poses(np.arange(len(world)), camera.project(points), points, JOINTS32)
                found.append(Recording(take.label, partial(self._people_of, take, poses)))
        return found

    # -- people -------------------------------------------------------------------------------------------------------

    def _people_of(self, take: Take, poses: Poses) -> list[Person]:
        return [self._person(take, poses)]

    def _person(self, take: Take, poses: Poses, folders: Sequence[Path] = ()) -> Person:
        return self._made(take, poses, self._pictures(take, poses, folders), poses.frames)

    def _pictures(self, take: Take, poses: Poses, folders: Sequence[Path]) -> FrameReader:
        """Finds the pictures of a take under any of the names that its action goes by."""
        names = [Take(take.subject, action, take.camera) for action in official_names(take.action)]
        places = [(folder, ["img_%06d.jpg"]) for folder in folders]
        for name in names:
            places += [
                (self.root / "images" / take.subject / name.folder, [name.folder.replace("%", "%%") + "_%06d.jpg"]),
                (self.root / take.subject / name.action / "imageSequence" / take.camera, ["img_%06d.jpg"]),
            ]
        videos = [self.root / take.subject / "Videos" / f"{name.stem}.mp4" for name in names]
        video = next((path for path in videos if is_there(path)), videos[0])
        return open_frames(take.label, poses.frames, places, video, offset=1, verify=self.verify_images)

    def _made(self, take: Take, poses: Poses, read: FrameReader, rows: Int64) -> Person:
        count = len(poses.frames)
        matrix = fit_pinhole(poses.points3d, poses.points2d)
        return Person(
            name=take.label,
            video=take.label,
            read=read,
            image_rows=rows,
            frames=poses.frames,
            joints=np.concatenate([poses.points2d, np.full((*poses.points2d.shape[:2], 1), 2.0)], -1),
            source=poses.source,
            joints3d=poses.points3d,
            image_size=SIZES[take.camera],
            camera=None if matrix is None else pinhole(matrix, count),
            fps=self.source_fps or _RATE,
        )

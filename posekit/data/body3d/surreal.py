"""SURREAL: synthetic people in motion, from the official videos and info files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posekit.arrays import Float64, Int64
from posekit.data.body3d.frames import FrameReader, LazyVideo, MediaError, video_fault
from posekit.data.body3d.module import BodyDataModule, Part, Recording, pinhole
from posekit.data.body3d.numbers import label_numbers
from posekit.data.body3d.person import Person, Protocol
from posekit.data.joint_maps import source_of
from posekit.errors import UserError
from posekit.mat5 import read_mat5
from posekit.skeletons import LIMB17, SMPL24

RUNS = (0, 1, 2)
SIZE = (320, 240)
RATE = 30.0  # every fourth frame of motion at 120
INTRINSICS = np.array([[600.0, 0.0, 160.0], [0.0, 600.0, 120.0], [0.0, 0.0, 1.0]])
# World to camera. Its determinant is -1: the picture is a mirror image of the world.
MIRROR = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
# So what the file calls left is, of the person in the picture, the right side.
SWAP = np.array(SMPL24.flip_index)
MAX_OUTSIDE = 4  # of LIMB17's joints
_WHAT = "info file"


class SURREAL(BodyDataModule):
    """SURREAL (Varol et al., CVPR 2017) as clips of people with 3D joints.

    ``root`` holds ``cmu/{train,val,test}/run{0,1,2}/<sequence>/<sequence>_c0001.mp4`` and ``_info.mat`` beside it. The
    camera mirrors the world, so left and right joint labels are swapped to fit the person in the picture: with y down,
    (left x up) . forward > 0. Joints are SMPL's 24; SMPL's pose is left out, for it belongs to the unmirrored world.
    Frames with more than 4 of LIMB17's joints outside the picture are left out. Clips have 100 frames or fewer, some
    one only: they are padded as the windows' rule says, or left out by ``min_frames``. Rate: 30.

    Args:
        root: Folder of the data.
        runs: Which of run 0, 1 and 2; all when None.
        min_frames: Shorter clips are left out.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "https://www.di.ens.fr/willow/research/surreal (for non-commercial research)"
    PROTOCOLS: ClassVar[dict[int, Protocol]] = {24: Protocol("SMPL's 24 joints", None, SMPL24.joints)}

    def __init__(
        self, root: str = "data/surreal", runs: Sequence[int] | None = None, min_frames: int = 1, **options: Any
    ) -> None:
        super().__init__(root, **options)
        self.runs = self.chosen("runs", runs, RUNS)
        self.min_frames = min_frames

    def recordings(self, split: Part) -> list[Recording]:
        """Lists a split's clips.

        Raises:
            UserError: There are none.
        """
        places = [self.root / "cmu", self.root / "data" / "cmu", self.root]
        folder = next((place / split for place in places if (place / split).is_dir()), None)
        if folder is None:
            raise self.missing("folder", places[0] / split)
        found = []
        for run in self.runs:
            for path in sorted((folder / f"run{run}").glob("*/*_info.mat")):
                found.append(Recording(f"run{run}/{path.name}", partial(self._read, path)))
        if not found:
            runs = ", ".join(f"run{run}" for run in self.runs)
            raise UserError(f"SURREAL: {folder} holds no */*_info.mat in {runs}; get it from {self.HOME}")
        return found

    def _read(self, path: Path) -> list[Person]:
        content = read_mat5(path, ["joints2D", "joints3D", "camLoc"], _WHAT)
        points2d = _frames(path, content, "joints2D", 2)
        world = _frames(path, content, "joints3D", 3)
        if len(points2d) != len(world):
            raise UserError(f"{_WHAT} {path} has {len(points2d)} 2D and {len(world)} 3D poses")
        if len(world) < self.min_frames:
            return []
        try:
            place = np.asarray(content["camLoc"], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            place = np.zeros(0)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise UserError(f"{_WHAT} {path}: camLoc is not three finite numbers")
        return [self._person(path, points2d[:, SWAP], camera_points(world, place)[:, SWAP])]

    def _person(self, path: Path, points2d: Float64, points3d: Float64) -> Person:
        label = f"{path.parent.parent.name}/{path.name.removesuffix('_info.mat')}"
        count = len(points2d)
        rows = np.arange(count)
        joints = np.concatenate([points2d, np.full((count, 24, 1), 2.0)], -1)
        person = Person(
            name=label,
            video=label,
            read=self._video(path, label, count),
            image_rows=rows,
            frames=rows,
            joints=joints,
            source=source_of(SMPL24),
            joints3d=points3d,
            image_size=SIZE,
            camera=pinhole(INTRINSICS, count),
            fps=self.source_fps or RATE,
        )
        return person.take(outside(joints) <= MAX_OUTSIDE)

    def _video(self, path: Path, label: str, count: int) -> FrameReader:
        video = path.with_name(path.name.replace("_info.mat", ".mp4"))
        reason = video_fault(video, count) if self.verify_images or not video.is_file() else None
        if reason is not None:
            raise MediaError(f"{label}: video {video} {reason}")
        return LazyVideo(video)


def camera_points(world: Float64, place: Float64) -> Float64:
    """Moves points (…, 3) of the world into the camera's frame.

    Args:
        world: Metres.
        place: (3,) ``camLoc``.
    """
    return (world - place) @ MIRROR.T


def outside(joints: Float64) -> Int64:
    """Counts the joints of LIMB17 that lie outside the picture, (T,), of SMPL's joints (T, 24, 3)."""
    points = source_of(SMPL24).map_to(LIMB17)(joints[..., :2]).points
    inside = ((points >= -0.5) & (points <= np.array(SIZE) - 0.5)).all(-1)
    return np.asarray((~inside).sum(-1))


def _frames(path: Path, content: dict[str, Any], name: str, width: int) -> Float64:
    """Returns an array (T, 24, width); MATLAB drops the last axis of a single frame."""
    array = np.asarray(content[name])
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype.kind not in "fiu" or array.ndim != 3 or array.shape[:2] != (width, 24):
        raise UserError(f"{_WHAT} {path}: {name} has shape {array.shape}, expected ({width}, 24, T)")
    return label_numbers(array, f"{_WHAT} {path}: {name}").transpose(2, 1, 0)

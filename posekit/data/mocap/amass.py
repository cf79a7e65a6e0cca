"""AMASS: bodies in SMPL's format fitted to many motion-capture archives, as 3D joints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from posekit.arrays import Float64
from posekit.body import SMPLBody, load_body, load_builtin_body, rigid_transforms
from posekit.data.joint_maps import source_of
from posekit.data.mocap.module import MotionDataModule, Recording
from posekit.data.mocap.sequence import MotionSequence, near
from posekit.data.npz import NpzArchive, open_npz
from posekit.errors import UserError, excerpt, one_of
from posekit.geometry.rotations import axis_angle_to_matrix
from posekit.skeletons import SMPL24

_WHAT = "motion file"
_RATES = ("mocap_framerate", "mocap_frame_rate")
_BODY_JOINTS = 22  # the root and SMPL-H's body joints; SMPL's hands then rest against the wrists


class AMASS(MotionDataModule):
    """AMASS (Mahmood et al., ICCV 2019) as windows of 3D joints, in metres, z up.

    ``root`` holds the data sets as unpacked, ``<set>/<subject>/<recording>_poses.npz`` (SMPL-H) or ``_stageii.npz``
    (SMPL-X): ``poses`` (T, 66 or more) axis-angle, ``trans`` (T, 3) and ``mocap_framerate``. Joints are SMPL's 24 in
    the shape of the file where a body is given, else those of the built-in body's mean shape; hands rest.

    Args:
        root: Folder of the data.
        body: SMPL body for :func:`posekit.body.load_body`; the built-in one when None. Shapes of SMPL-X files
            (``_stageii.npz``) are of another space: their people get the body's mean shape.
        gender: Which body of a folder: ``"own"`` the file's, whose shape is of that body, or ``"neutral"``.
        options: Of :class:`~posekit.data.mocap.module.MotionDataModule`, by name.
    """

    HOME: ClassVar[str] = "https://amass.is.tue.mpg.de (registration; for non-commercial research)"

    def __init__(
        self,
        root: str = "data/amass",
        body: str | None = None,
        gender: Literal["own", "neutral"] = "neutral",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        one_of("gender of AMASS", gender, ("own", "neutral"))
        self.body = body
        self.gender = gender
        self._bodies: dict[str, SMPLBody] = {}

    def recordings(self) -> list[Recording]:
        """Lists the recordings, sorted by name: their path below ``root`` without ``_poses.npz``.

        Raises:
            UserError: There are none.
        """
        self.prepare_data()
        files = [p for end in ("_poses", "_stageii") for p in self.root.rglob(f"*{end}.npz")]
        if not files:
            raise UserError(f"AMASS: {self.root} holds no *_poses.npz or *_stageii.npz; get them from {self.HOME}")
        found = []
        for path in sorted(files):
            name = path.relative_to(self.root).as_posix().removesuffix(".npz").removesuffix("_poses")
            found.append(Recording(name.removesuffix("_stageii"), name.rpartition("/")[0], partial(self._read, path)))
        return found

    def _read(self, path: Path) -> MotionSequence:
        with open_npz(path, _WHAT, ("poses", "trans")) as archive:
            fps = _rate(archive)
            poses, trans = near(_numbers(archive, "poses")), near(_numbers(archive, "trans"))
            shaped = self.body and "betas" in archive and not path.stem.endswith("_stageii")
            betas = _numbers(archive, "betas") if shaped else np.zeros(10)
            gender = _gender(archive) if self.body and self.gender == "own" else "neutral"
        width = poses.shape[1] if poses.ndim == 2 else 0
        if width < 3 * _BODY_JOINTS or width % 3:
            raise UserError(f"{_WHAT} {path}: poses have shape {poses.shape}, expected (T, 66 or more) axis-angles")
        if trans.shape != (len(poses), 3):
            raise UserError(
                f"{_WHAT} {path}: trans has shape {trans.shape}, expected ({len(poses)}, 3), as many as poses"
            )
        count = 24 if width == 72 else _BODY_JOINTS
        turns = np.zeros((len(poses), 24, 3))
        turns[:, :count] = poses[:, : 3 * count].reshape(-1, count, 3)
        rest = np.broadcast_to(self._rest(betas.reshape(-1)[:10], gender), turns.shape)
        _, joints = rigid_transforms(axis_angle_to_matrix(turns), rest, SMPL24.parents)
        return MotionSequence(path.stem, joints + trans[:, None], source_of(SMPL24), fps)

    def _rest(self, betas: Float64, gender: str) -> Float64:
        """Returns the joints (24, 3) of a shape in the rest pose."""
        if self.body is None:
            return np.asarray(load_builtin_body().rest(np.zeros(10, dtype=np.float32))[1], dtype=np.float64)
        if gender not in self._bodies:
            self._bodies[gender] = load_body(self.body, gender=gender)
        shape = torch.zeros(1, 10)
        shape[0, : len(betas)] = torch.from_numpy(betas).float()
        with torch.no_grad():
            found = self._bodies[gender](torch.eye(3).expand(1, 24, 3, 3), shape)
        return np.asarray(found.joints24[0].numpy(), dtype=np.float64)


def _gender(archive: NpzArchive) -> str:
    """Returns whose body a file's shape is of."""
    value = archive["gender"].reshape(-1)
    text = (
        value[0].decode(errors="replace") if value.size == 1 and value.dtype.kind == "S" else str(value[0:1].tolist())
    )
    known = [name for name in ("female", "male", "neutral") if name in text.lower()]
    if not known:
        raise UserError(f"{_WHAT} {archive.path}: gender is {excerpt(text)}, not male, female or neutral")
    return known[0]


def _rate(archive: NpzArchive) -> float:
    name = next((name for name in _RATES if name in archive), None)
    if name is None:
        raise UserError(f"{_WHAT} {archive.path} has no {_RATES[0]}, so its frame rate is not known")
    value = _numbers(archive, name)
    if value.size != 1:
        raise UserError(f"{_WHAT} {archive.path}: {name} is no single number")
    return float(value.reshape(-1)[0])


def _numbers(archive: NpzArchive, name: str) -> Float64:
    value = archive[name]
    if value.dtype.kind not in "fiu":
        raise UserError(f"{_WHAT} {archive.path}: {name} is of {value.dtype}, not of numbers")
    return value.astype(np.float64)

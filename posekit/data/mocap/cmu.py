"""CMUMoCap: the recordings of the CMU Graphics Lab as ASF/AMC, BVH or exponential maps."""

from __future__ import annotations

import difflib
import filecmp
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.data.joint_maps import JointSource
from posekit.data.mocap.asf_amc import AsfSkeleton, read_amc, read_asf
from posekit.data.mocap.bvh import read_bvh
from posekit.data.mocap.expmap import (
    CMU_UNIT,
    ExpmapSkeleton,
    expmap_points,
    motion_fault,
    read_expmap_skeleton,
)
from posekit.data.mocap.module import MotionDataModule, Recording
from posekit.data.mocap.names import NAMEABLE, motionbuilder_joints
from posekit.data.mocap.sequence import MotionSequence, z_up
from posekit.data.npz import open_npz
from posekit.errors import UserError, listed, one_of, unknown_name
from posekit.skeletons import LIMB17

Format = Literal["auto", "asf_amc", "bvh", "expmap"]

RATE = 120.0  # frames per second of most of CMU's trials; ASF/AMC files and the archive do not say
LEG = (0.4, 1.5)  # metres of thigh and shin together: another length says that the unit is wrong


class CMUMoCap(MotionDataModule):
    """CMU motion capture (mocap.cs.cmu.edu) as windows of 3D joints, in metres, z up.

    Formats, told by what is under ``root`` unless named:
        asf_amc   ``subjects/02/02.asf`` and ``02_01.amc`` as downloaded, or all in one folder. Joints are the bones'
                  far ends.
        bvh       any ``*.bvh`` with MotionBuilder's or Mixamo's joint names (or ``joints``).
        expmap    ``*.npz`` of exponential maps beside a ``skeleton.npz``.

    A recording is named after its file, or, where several folders have files of that name, by its path below ``root``.
    Who was recorded is the part of the file's name before ``_``, or, where there are such names, the folder.

    Args:
        root: Folder of the data.
        format: ``"auto"``, ``"asf_amc"``, ``"bvh"`` or ``"expmap"``.
        source_fps: Frames per second of the recordings: 120 when None, and for BVH what the file says.
        rates: Other rates of some recordings or subjects, by name: some of CMU's trials have 60 frames per second.
        scale: Metres of a BVH file's unit, and of the root's place in an archive; CMU's unit of 0.0564 m when None.
        joints: BVH joints of other names: joint of posekit's sets -> name in the file.
        options: Of :class:`~posekit.data.mocap.module.MotionDataModule`, by name.
    """

    HOME: ClassVar[str] = "http://mocap.cs.cmu.edu (free for any use; acknowledge NSF EIA-0196217)"

    def __init__(
        self,
        root: str = "data/cmu_mocap",
        format: Format = "auto",
        source_fps: float | None = None,
        rates: Mapping[str, float] | None = None,
        scale: float | None = None,
        joints: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        one_of("format of CMUMoCap", format, ("auto", *_ENDINGS))
        if scale is not None and not scale > 0:
            raise UserError(f"CMUMoCap: scale is {scale}, but must be positive")
        unknown = sorted(set(joints or {}) - set(NAMEABLE))
        if unknown:
            raise unknown_name("joint in option joints of CMUMoCap", unknown[0], NAMEABLE)
        self.format: Format = format
        self.source_fps = source_fps
        self.rates = {str(name): rate for name, rate in (rates or {}).items()}
        self.scale = scale
        self.joints = dict(joints or {})
        self._skeletons: dict[Path, Any] = {}

    def recordings(self) -> list[Recording]:
        """Lists the recordings, sorted by name.

        Raises:
            UserError: There are none, there are several formats and none is named, or ``rates`` names none of them.
        """
        kind, files = self._files()
        found = self._archives(files) if kind == "expmap" else self._single_files(kind, files)
        names = {recording.name.rpartition("/")[2] for recording in found}
        names |= {name.split("_")[0] for name in names} | {recording.name for recording in found}
        for name in self.rates:
            if name not in names:
                near = ", ".join(difflib.get_close_matches(name, names, n=5, cutoff=0.3)) or listed(sorted(names), 5)
                raise UserError(f"CMUMoCap: option rates names {name!r}, but {self.root} has {near}, …")
        return found

    def _single_files(self, kind: str, files: list[Path]) -> list[Recording]:
        read = self._read_amc if kind == "asf_amc" else self._read_bvh
        named = self._named_files(files)
        by_path = any("/" in name for name in named)
        found = []
        for name, path in sorted(named.items()):
            folder = path.parent.relative_to(self.root).as_posix()
            # A name that several folders have is nobody's; all of a folder keeps a person in one split.
            subject = folder if by_path and folder != "." else path.stem.split("_")[0]
            found.append(Recording(name, subject, partial(read, path, name)))
        return found

    def _named_files(self, files: list[Path]) -> dict[str, Path]:
        """Returns the files by the recordings' names; those that share one go by their path."""
        alike: dict[str, list[Path]] = defaultdict(list)
        for path in files:
            alike[path.stem].append(path)
        named = {stem: paths[0] for stem, paths in alike.items() if len(paths) == 1}
        for stem, paths in alike.items():
            sizes: dict[int, list[Path]] = defaultdict(list)
            for path in paths if len(paths) > 1 else []:
                name = path.relative_to(self.root).with_suffix("").as_posix()
                twin = named.get(name) or _copied(path, sizes)
                if twin is not None:  # a copy would bring what is for validation into training
                    raise UserError(f"CMUMoCap: recording {stem} is there twice: {twin} and {path}")
                named[name] = path
        return named

    def _files(self) -> tuple[str, list[Path]]:
        self.prepare_data()
        kinds = list(_ENDINGS) if self.format == "auto" else [self.format]
        files = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in _ENDINGS.values())
        found = {kind: [p for p in files if p.suffix.lower() == _ENDINGS[kind]] for kind in kinds}
        if "expmap" in found:
            found["expmap"] = [p for p in found["expmap"] if p.with_name("skeleton.npz").is_file()]
            found["expmap"] = [p for p in found["expmap"] if p.name != "skeleton.npz"]
        there = {kind: files for kind, files in found.items() if files}
        if not there:
            looked = " or ".join(f"*{_ENDINGS[kind]}" for kind in kinds)
            raise UserError(
                f"CMUMoCap: {self.root} holds no {looked} (with skeleton.npz beside .npz); get it from {self.HOME}"
            )
        if len(there) > 1:
            raise UserError(f"CMUMoCap: {self.root} holds {' and '.join(there)}: say which by option format")
        return next(iter(there.items()))

    def _rate(self, name: str, usual: float) -> float:
        stem = name.rpartition("/")[2]
        named = next((self.rates[key] for key in (name, stem, stem.split("_")[0]) if key in self.rates), None)
        return named if named is not None else self.source_fps if self.source_fps is not None else usual

    # -- formats ------------------------------------------------------------------------------------------------------

    def _asf(self, path: Path) -> Path:
        """Returns the skeleton of a motion: its subject's, or the only one beside it."""
        own = path.with_name(path.stem.split("_")[0] + ".asf")
        if own.is_file():
            return own
        beside = [p for p in path.parent.iterdir() if p.suffix.lower() == ".asf"]
        found = [p for p in beside if p.name.lower() == own.name.lower()] or beside
        if len(found) != 1:
            raise UserError(
                f"CMUMoCap: motion {path} has no skeleton file {own.name} beside it; get it from {self.HOME}"
            )
        return found[0]

    def _read_amc(self, path: Path, name: str) -> MotionSequence:
        own = self._asf(path)
        if own not in self._skeletons:
            self._skeletons[own] = read_asf(own)
        skeleton: AsfSkeleton = self._skeletons[own]
        points = read_amc(path, skeleton)
        return MotionSequence(name, points, skeleton.joints, self._rate(name, RATE))

    def _read_bvh(self, path: Path, name: str) -> MotionSequence:
        motion = read_bvh(path)
        names = tuple(joint.name for joint in motion.joints)
        source = motionbuilder_joints(f"skeleton of {path}", names, self.joints)
        lost = sorted(set(self.joints.values()) - {*names, *source.joints})
        if lost:
            raise UserError(
                f"CMUMoCap: motion {path} has no joint {lost[0]!r} (option joints); it has {', '.join(names)}"
            )
        points = z_up(motion.points() * (self.scale or CMU_UNIT))
        self._check_size(path, points, source)
        return MotionSequence(name, points, source, self._rate(name, motion.fps), names)

    def _check_size(self, path: Path, points: np.ndarray[Any, Any], source: JointSource) -> None:
        """BVH files do not say what their unit is."""
        mapped = source.map_to(LIMB17)
        rows = [LIMB17.index(name) for name in ("left_hip", "left_knee", "left_ankle")]
        if not len(points) or not mapped.present[rows].all():
            return
        hip, knee, ankle = (mapped.matrix[row] @ points[0] for row in rows)
        leg = float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))
        if not LEG[0] <= leg <= LEG[1]:
            length = f"{leg:.3g} m long with a unit of {self.scale or CMU_UNIT:.4g} m"
            raise UserError(f"CMUMoCap: the legs of motion {path} are {length}: set option scale")

    def _archives(self, files: list[Path]) -> list[Recording]:
        found = []
        for path in files:
            skeleton = read_expmap_skeleton(path.with_name("skeleton.npz"))
            with open_npz(path, "motion file") as archive:
                names = archive.names
            prefix = "" if len(files) == 1 else f"{path.stem}/"
            found += [
                Recording(
                    prefix + name, name.rpartition("_")[0] or name,
                    partial(self._read_expmap, path, name, prefix + name, skeleton),
                )
                for name in names
            ]  # fmt: skip
        return sorted(found, key=lambda recording: recording.name)

    def _read_expmap(self, path: Path, name: str, title: str, skeleton: ExpmapSkeleton) -> MotionSequence:
        with open_npz(path, "motion file") as archive:
            motion = archive[name]
        reason = motion_fault(skeleton, motion.shape)
        if reason is not None or motion.dtype.kind != "f":
            raise UserError(f"motion file {path}: array {name!r} {reason or f'is of {motion.dtype}, not of numbers'}")
        points = expmap_points(skeleton, motion, self.scale or CMU_UNIT)
        return MotionSequence(title, points, skeleton.joints, self._rate(title, RATE))


def _copied(path: Path, sizes: dict[int, list[Path]]) -> Path | None:
    """Returns a file of the same bytes among those seen before, by size, and adds this one to them."""
    try:
        seen = sizes[path.stat().st_size]
        found = next((other for other in seen if filecmp.cmp(other, path, shallow=False)), None)
    except OSError:  # reading it will say why
        return None
    seen.append(path)
    return found


_ENDINGS = {"asf_amc": ".amc", "bvh": ".bvh", "expmap": ".npz"}

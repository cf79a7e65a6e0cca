"""Biovision's motion files (.bvh): a hierarchy of joints with offsets, and channels over time.

Rotation channels multiply in the order in which they are listed (for column vectors), and position channels take the
place of a joint's offset. Free ends are named after their joint with ``_end``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posekit.arrays import Float64
from posekit.data.mocap.euler import euler_matrix
from posekit.data.mocap.text import read_text, to_floats
from posekit.errors import UserError

_WHAT = "motion file"
_CHANNELS = tuple(axis + kind for kind in ("position", "rotation") for axis in ("X", "Y", "Z"))


@dataclass
class BvhJoint:
    """A joint, or a free end without channels.

    Attributes:
        name: Its name.
        parent: Row of its parent, -1 at the root.
        offset: (3,) from its parent at rest, file units.
        channels: Names of its channels in order.
        first: Column of its first channel.
    """

    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: tuple[str, ...] = ()
    first: int = 0


@dataclass(frozen=True)
class BvhMotion:
    """What a file holds.

    Attributes:
        joints: Parents first.
        values: (T, C) of the channels: file units and degrees.
        fps: Frames per second.
    """

    joints: list[BvhJoint]
    values: Float64
    fps: float

    def points(self) -> Float64:
        """Forward kinematics.

        Returns:
            (T, J, 3) in the file's units and axes (y up as a rule).
        """
        world: list[Float64] = []
        places: list[Float64] = []
        for joint in self.joints:
            turn, place = self._local(joint)
            if joint.parent < 0:
                world.append(turn)
                places.append(place)
                continue
            parent = joint.parent
            places.append(places[parent] + (world[parent] @ place[..., None])[..., 0])
            world.append(world[parent] @ turn)
        return np.stack(places, 1)

    def _local(self, joint: BvhJoint) -> tuple[Float64, Float64]:
        """Returns rotation (T, 3, 3) and place (T, 3) of a joint in its parent's frame."""
        columns = {name: joint.first + number for number, name in enumerate(joint.channels)}
        place = np.broadcast_to(np.array(joint.offset), (len(self.values), 3)).copy()
        for number, axis in enumerate("XYZ"):
            if axis + "position" in columns:
                place[:, number] = self.values[:, columns[axis + "position"]]
        turns = [name for name in joint.channels if name.endswith("rotation")]
        angles = np.deg2rad(self.values[:, [columns[name] for name in turns]])
        return euler_matrix("".join(name[0].lower() for name in turns), angles), place


def read_bvh(path: Path) -> BvhMotion:
    """Reads a motion.

    Args:
        path: The .bvh file.

    Raises:
        UserError: It is absent or faulty; the line is named.
    """
    lines = read_text(path, _WHAT).splitlines()
    head = next(number for number, line in enumerate(lines) if line.strip())
    if not lines[head].strip().upper().startswith("HIERARCHY"):
        raise UserError(f"{_WHAT} {path} is no BVH file: it does not begin with HIERARCHY")
    joints, at = _hierarchy(path, lines, head + 1)
    count, fps, at = _motion_head(path, lines, at)
    width = sum(len(joint.channels) for joint in joints)
    rows = []
    for number in range(at, len(lines)):
        words = lines[number].split()
        if not words:
            continue
        if len(words) != width:
            given = f"{len(words)} numbers, expected {width} (the channels of the hierarchy)"
            raise UserError(f"{_WHAT} {path}: line {number + 1} has {given}")
        rows.append(to_floats(path, _WHAT, number + 1, words))
    if len(rows) != count:
        raise UserError(f"{_WHAT} {path} has {len(rows)} frames, but says Frames: {count}")
    return BvhMotion(joints, np.array(rows).reshape(-1, width), fps)


class _Hierarchy:
    """Builds the joints statement by statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.joints: list[BvhJoint] = []
        self.open: list[int] = []
        self.columns = 0

    def add(self, line: int, words: list[str]) -> None:
        """Takes a statement: a line, or the part of one before, at or after a brace.

        Raises:
            UserError: It cannot stand there.
        """
        key = words[0].upper()
        steps = {"ROOT": self._joint, "JOINT": self._joint, "END": self._joint, "{": self._begin, "}": self._end}
        steps |= {"OFFSET": self._offset, "CHANNELS": self._channels} if self.joints else {}
        if key not in steps:
            raise UserError(f"{_WHAT} {self.path}: line {line} has {words[0][:30]!r}, which cannot stand there")
        steps[key](line, words)

    def _joint(self, line: int, words: list[str]) -> None:
        root, parent = words[0].upper() == "ROOT", self.open[-1] if self.open else -1
        if root != (parent < 0) or (root and self.joints):
            raise UserError(f"{_WHAT} {self.path}: line {line} has {words[0]} in a place where it cannot be")
        end = words[0].upper() == "END"
        name = f"{self.joints[parent].name}_end" if end else " ".join(words[1:])
        self.joints.append(BvhJoint(name, parent, first=self.columns))

    def _begin(self, line: int, words: list[str]) -> None:
        self.open.append(len(self.joints) - 1)

    def _end(self, line: int, words: list[str]) -> None:
        if not self.open:
            raise UserError(f"{_WHAT} {self.path}: line {line} closes a joint that is not open")
        self.open.pop()

    def _offset(self, line: int, words: list[str]) -> None:
        values = to_floats(self.path, _WHAT, line, words[1:])
        if len(values) != 3 or not np.isfinite(values).all():
            raise UserError(f"{_WHAT} {self.path}: line {line} has an OFFSET that is not three finite numbers")
        self.joints[-1].offset = values

    def _channels(self, line: int, words: list[str]) -> None:
        self.joints[-1].channels = _channels(self.path, line, words)
        self.columns += len(self.joints[-1].channels)


def _hierarchy(path: Path, lines: list[str], start: int) -> tuple[list[BvhJoint], int]:
    """Returns the joints and the number of the line after them."""
    builder = _Hierarchy(path)
    for number, line in enumerate(lines[start:], start):
        words = line.split()
        if words and words[0].upper() == "MOTION":
            if builder.open or not builder.joints:
                raise UserError(f"{_WHAT} {path}: line {number + 1} begins the motion before the hierarchy is closed")
            return builder.joints, number + 1
        for part in re.split(r"([{}])", line):  # braces may stand on a joint's line
            if part.strip():
                builder.add(number + 1, part.split())
    raise UserError(f"{_WHAT} {path} is cut short: it has no MOTION")


def _channels(path: Path, line: int, words: list[str]) -> tuple[str, ...]:
    known = {name.lower(): name for name in _CHANNELS}
    names = tuple(known.get(word.lower(), "") for word in words[2:])
    if not all(names) or words[1:2] != [str(len(names))]:
        raise UserError(f"{_WHAT} {path}: line {line} has CHANNELS {' '.join(words[1:])[:60]!r}")
    return names


def _motion_head(path: Path, lines: list[str], at: int) -> tuple[int, float, int]:
    """Returns the number of frames, their rate, and the number of the first frame's line."""
    found: dict[str, float] = {}
    while at < len(lines) and len(found) < 2:
        key, _, value = lines[at].partition(":")
        if key.strip():
            name = " ".join(key.lower().split())
            if name not in ("frames", "frame time"):
                missing = "Frames" if "frames" not in found else "Frame Time"
                raise UserError(f"{_WHAT} {path}: line {at + 1} should say {missing}")
            found[name] = to_floats(path, _WHAT, at + 1, value.split()[:1] or [""])[0]
        at += 1
    if len(found) < 2:
        raise UserError(f"{_WHAT} {path} is cut short: it lacks Frames or Frame Time")
    time, count = found["frame time"], found["frames"]
    if not np.isfinite(time) or time <= 0:
        raise UserError(f"{_WHAT} {path}: Frame Time is {time:g} s, but must be positive: its frame rate is not known")
    if not np.isfinite(count) or count < 0 or count != int(count):
        raise UserError(f"{_WHAT} {path}: Frames is {count:g}")
    return int(count), 1 / time, at

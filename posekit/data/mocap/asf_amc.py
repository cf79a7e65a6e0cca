"""Acclaim's skeleton (.asf) and motion (.amc) files, as the CMU Graphics Lab publishes them.

A bone has a direction and a length in the world's axes at rest, and a frame of its own (``axis``) in which its degrees
of freedom are counted: with C its frame and M its rotation, the bone turns by C M C^-1 relative to its parent. Both are
"XYZ" products: about x first, so M = Rz Ry Rx.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posekit.arrays import Float64
from posekit.data.joint_maps import JointSource, both_sides
from posekit.data.mocap.euler import euler_matrix
from posekit.data.mocap.sequence import FAR, z_up
from posekit.data.mocap.text import read_text, to_floats
from posekit.errors import UserError

INCH = 0.0254  # metres; ASF lengths are inches divided by the unit "length"
ROOT = "root"
_WHAT_ASF, _WHAT_AMC = "skeleton file", "motion file"

# A joint is the far end of a bone (NLRD, data section on CMU). The spine's bones and SMPL's joints only nearly agree.
_NAMES = both_sides({
    "pelvis": ROOT, "neck": "thorax", "head_top": "head", "head": "upperneck", "spine1": "lowerback",
    "spine2": "upperback", "left_shoulder": "lclavicle", "right_shoulder": "rclavicle", "left_elbow": "lhumerus",
    "right_elbow": "rhumerus", "left_wrist": "lradius", "right_wrist": "rradius", "left_hip": "lhipjoint",
    "right_hip": "rhipjoint", "left_knee": "lfemur", "right_knee": "rfemur", "left_ankle": "ltibia",
    "right_ankle": "rtibia", "left_foot": "lfoot", "right_foot": "rfoot", "left_hand": "lhand", "right_hand": "rhand",
})  # fmt: skip
_TRUNK: dict[str, str | None] = {"spine": "upperback", "thorax": "thorax", "neck": None}


@dataclass(frozen=True)
class Bone:
    """A bone of an .asf file; the root is one of length 0.

    Attributes:
        name: Its name.
        parent: Row of its parent, -1 at the root; parents come first.
        offset: (3,) from its beginning to its end at rest, metres, y up.
        frame: (3, 3) its own frame C.
        dof: Its degrees of freedom in the motion file's order, e.g. ``("rx", "rz")``.
        order: Letters of the product of its rotations, e.g. ``"zyx"``.
    """

    name: str
    parent: int
    offset: Float64
    frame: Float64
    dof: tuple[str, ...]
    order: str = "zyx"


@dataclass(frozen=True)
class AsfSkeleton:
    """A subject's bones.

    Attributes:
        path: The file.
        bones: The root first, then in the order of the hierarchy.
        length_unit: Metres of one unit of length.
        origin: (3,) where the root begins, metres.
    """

    path: Path
    bones: tuple[Bone, ...]
    length_unit: float
    origin: Float64

    @property
    def joints(self) -> JointSource:
        """The names of the points of :func:`forward`: the bones' ends."""
        names = tuple(bone.name for bone in self.bones)
        return JointSource(f"skeleton {self.path}", names, _NAMES, {"H36M17": _TRUNK})


@dataclass
class _Raw:
    """What a file says of a bone."""

    line: int
    values: dict[str, list[str]] = field(default_factory=dict)


def read_asf(path: Path) -> AsfSkeleton:
    """Reads a skeleton.

    Args:
        path: The .asf file.

    Raises:
        UserError: It is absent or faulty; the line and the key are named.
    """
    sections = _sections(path, read_text(path, _WHAT_ASF))
    units = _keys(sections.get("units", []))
    to_radians = _angle_unit(path, units)
    unit = _number(path, "units", units, "length", 1, [1.0])[0]
    if not np.isfinite(unit) or unit <= 0:
        raise UserError(f"{_WHAT_ASF} {path}: units length is {unit:g}, but must be positive")
    metres = INCH / unit
    raw = _bone_data(path, sections.get("bonedata", []))
    root = _keys(sections.get("root", []))
    order = " ".join(root.get("order", ["TX TY TZ RX RY RZ"])).lower().split()
    frame = euler_matrix("zyx", to_radians * np.array(_number(path, "root", root, "orientation", 3, [0.0] * 3)))
    bones = [Bone(ROOT, -1, np.zeros(3), frame, tuple(order), _root_axes(path, root))]
    rows = {ROOT: 0}
    for parent, child, line in _hierarchy(sections.get("hierarchy", [])):
        if parent not in rows:
            raise UserError(
                f"{_WHAT_ASF} {path}: line {line} names bone {parent!r} as a parent before it has one itself"
            )
        if child not in raw or child in rows:
            reason = "is not in bonedata" if child not in raw else "has two parents"
            raise UserError(f"{_WHAT_ASF} {path}: line {line} names bone {child!r}, which {reason}")
        rows[child] = len(bones)
        bones.append(_bone(path, child, rows[parent], raw[child], to_radians, metres))
    if len(bones) == 1:
        raise UserError(f"{_WHAT_ASF} {path} has no hierarchy of bones")
    origin = metres * np.array(_number(path, "root", root, "position", 3, [0.0] * 3))
    return AsfSkeleton(path, tuple(bones), metres, origin)


def _sections(path: Path, text: str) -> dict[str, list[tuple[int, list[str]]]]:
    """Returns the lines of each section as (number, words)."""
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    current: list[tuple[int, list[str]]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            current = sections.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if current is not None and words:
            current.append((number, words))
    missing = [name for name in ("root", "bonedata", "hierarchy") if name not in sections]
    if missing:
        raise UserError(f"{_WHAT_ASF} {path} is no ASF file: it has no section :{', :'.join(missing)}")
    return sections


def _keys(lines: list[tuple[int, list[str]]]) -> dict[str, list[str]]:
    return {words[0].lower(): words[1:] for _, words in lines}


def _angle_unit(path: Path, units: dict[str, list[str]]) -> float:
    name = (units.get("angle") or ["deg"])[0].lower()
    if name not in ("deg", "rad"):
        raise UserError(f"{_WHAT_ASF} {path}: units angle is {name!r}, but must be deg or rad")
    return float(np.pi / 180) if name == "deg" else 1.0


def _number(
    path: Path, what: str, keys: dict[str, list[str]], name: str, count: int, usual: list[float] | None = None
) -> list[float]:
    words = keys.get(name)
    if words is None:
        if usual is None:
            raise UserError(f"{_WHAT_ASF} {path}: {what} has no {name}")
        return usual
    try:
        values = [float(word) for word in words[:count]]
    except ValueError:
        values = []
    if len(values) != count or not (np.abs(values) < FAR).all():
        found = " ".join(words)[:40]
        raise UserError(f"{_WHAT_ASF} {path}: {what} has {name} {found!r}, expected {count} finite numbers")
    return values


def _product(axes: str) -> str:
    """Turns the file's order, first turn first, into the order of the product."""
    return axes.lower()[::-1]


def _root_axes(path: Path, root: dict[str, list[str]]) -> str:
    named = root.get("axis", ["XYZ"])
    order = _product(named[0]) if named else ""
    if sorted(order) != ["x", "y", "z"]:
        raise UserError(f"{_WHAT_ASF} {path}: root has axis {order[::-1]!r}, expected an order of x, y and z")
    return order


def _bone_data(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, _Raw]:
    bones: dict[str, _Raw] = {}
    current: _Raw | None = None
    for number, words in lines:
        key = words[0].lower()
        if key == "begin":
            current = _Raw(number)
        elif current is None:
            raise UserError(f"{_WHAT_ASF} {path}: line {number} of bonedata lies outside begin and end")
        elif key == "end":
            name = (current.values.get("name") or [""])[0]
            if not name or name in bones or name == ROOT:
                raise UserError(f"{_WHAT_ASF} {path}: the bone of line {current.line} has no name of its own")
            bones[name] = current
            current = None
        else:
            current.values[key] = words[1:]
    return bones


def _hierarchy(lines: list[tuple[int, list[str]]]) -> list[tuple[str, str, int]]:
    pairs = []
    for number, words in lines:
        if words[0].lower() not in ("begin", "end"):
            pairs += [(words[0], child, number) for child in words[1:]]
    return pairs


def _bone(path: Path, name: str, parent: int, raw: _Raw, to_radians: float, metres: float) -> Bone:
    what = f"bone {name}"
    direction = np.array(_number(path, what, raw.values, "direction", 3))
    length = _number(path, what, raw.values, "length", 1)[0]
    size = float(np.linalg.norm(direction))
    if size < 1e-6 or length < 0:
        raise UserError(f"{_WHAT_ASF} {path}: {what} has a direction of length {size:g} and a length of {length:g}")
    axis = _number(path, what, raw.values, "axis", 3, [0.0] * 3)
    named = raw.values.get("axis", [])[3:]
    order = _product(named[0]) if named else "zyx"
    dof = tuple(word.lower() for word in raw.values.get("dof", []))
    unknown = [word for word in dof if word not in ("rx", "ry", "rz", "tx", "ty", "tz", "l")]
    if sorted(order) != ["x", "y", "z"] or unknown:
        raise UserError(f"{_WHAT_ASF} {path}: {what} has axis order {order[::-1]!r} and dof {' '.join(dof)!r}")
    frame = euler_matrix(order, to_radians * np.array([axis["xyz".index(a)] for a in order]))
    return Bone(name, parent, metres * length * direction / size, frame, dof, order)


# -- motion -----------------------------------------------------------------------------------------------------------


def read_amc(path: Path, skeleton: AsfSkeleton) -> Float64:
    """Reads a motion and returns where the bones end.

    Args:
        path: The .amc file.
        skeleton: Its subject's skeleton.

    Returns:
        (T, J, 3) metres, z up; T = 0 for a file without frames. Numbers that are NaN in the file are NaN here.

    Raises:
        UserError: It is absent or faulty; the line, frame and bone are named.
    """
    values, to_radians = _read_values(path, skeleton)
    return z_up(forward(skeleton, values, to_radians))


def _read_values(path: Path, skeleton: AsfSkeleton) -> tuple[dict[str, Float64], float]:
    """Returns each bone's values (T, D), and radians of a unit of angle."""
    lines = read_text(path, _WHAT_AMC).splitlines()
    start, to_radians = _header(path, lines)
    words = [line.split() for line in lines[start:]]
    frames = [number for number, w in enumerate(words) if len(w) == 1]
    widths = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    if not frames:
        if any(words):
            raise UserError(f"{_WHAT_AMC} {path}: line {start + 1} has no frame number before the first bone")
        return {name: np.zeros((0, width)) for name, width in widths.items()}, to_radians
    rows: dict[str, list[list[float]]] = {name: [] for name in widths}
    for count, (first, last) in enumerate(zip(frames, [*frames[1:], len(words)], strict=True), 1):
        if words[first] != [str(count)]:
            found = words[first][0][:20]
            raise UserError(f"{_WHAT_AMC} {path}: line {start + first + 1} has frame {found!r}, expected {count}")
        _frame(path, count, start + first + 1, words[first + 1 : last], widths, rows)
    return {name: np.array(found) for name, found in rows.items()}, to_radians


def _header(path: Path, lines: list[str]) -> tuple[int, float]:
    """Returns the number of lines before the first frame, and radians of a unit of angle."""
    to_radians, fully = float(np.pi / 180), False
    for number, line in enumerate(lines):
        word = line.strip().upper()
        fully |= word == ":FULLY-SPECIFIED"
        if word == ":RADIANS":
            to_radians = 1.0
        if word and not word.startswith(("#", ":")):
            return number, to_radians
    if not fully:
        raise UserError(f"{_WHAT_AMC} {path} is no AMC file: it has neither frames nor :FULLY-SPECIFIED")
    return len(lines), to_radians


def _frame(
    path: Path,
    frame: int,
    line: int,
    words: list[list[str]],
    widths: dict[str, int],
    rows: dict[str, list[list[float]]],
) -> None:
    seen = set()
    for offset, entry in enumerate(words, 1):
        if not entry:
            continue
        name = entry[0]
        if name not in widths or name in seen:
            reason = "appears twice" if name in seen else "is no moving bone of its skeleton"
            raise UserError(f"{_WHAT_AMC} {path}: line {line + offset} (frame {frame}): bone {name[:30]!r} {reason}")
        if len(entry) - 1 != widths[name]:
            given = f"{len(entry) - 1} numbers, expected {widths[name]}"
            raise UserError(f"{_WHAT_AMC} {path}: line {line + offset} (frame {frame}): bone {name!r} has {given}")
        rows[name].append(to_floats(path, _WHAT_AMC, line + offset, entry[1:]))
        seen.add(name)
    missing = sorted(widths.keys() - seen)
    if missing:
        raise UserError(f"{_WHAT_AMC} {path}: frame {frame} is cut short: it lacks bone {', '.join(missing[:3])}")


def forward(skeleton: AsfSkeleton, values: dict[str, Float64], to_radians: float = float(np.pi / 180)) -> Float64:
    """Forward kinematics.

    Args:
        skeleton: The bones.
        values: (T, D) of each moving bone, in the order of its degrees of freedom; lengths in the skeleton's unit.
        to_radians: Radians of a unit of angle.

    Returns:
        (T, J, 3) ends of the bones, metres, y up; the root's is where it is.
    """
    frames = len(values[ROOT])
    world: list[Float64] = []
    ends: list[Float64] = []
    for bone in skeleton.bones:
        turn = _turn(bone, values, frames, to_radians)
        if bone.parent < 0:
            world.append(turn)
            ends.append(skeleton.origin + skeleton.length_unit * _columns(bone, values, frames, "t"))
            continue
        world.append(world[bone.parent] @ turn)
        ends.append(ends[bone.parent] + world[-1] @ bone.offset)
    return np.stack(ends, 1)


def _columns(bone: Bone, values: dict[str, Float64], frames: int, kind: str, axes: str = "xyz") -> Float64:
    """Returns a bone's values (T, len(axes)) of a kind, ``"r"`` or ``"t"``; 0 for those it does not have."""
    columns = [bone.dof.index(kind + axis) if kind + axis in bone.dof else -1 for axis in axes]
    zero = np.zeros(frames)
    return np.stack([values[bone.name][:, c] if c >= 0 else zero for c in columns], -1)


def _turn(bone: Bone, values: dict[str, Float64], frames: int, to_radians: float) -> Float64:
    """Returns a bone's rotations (T, 3, 3) relative to its parent."""
    angles = to_radians * _columns(bone, values, frames, "r", bone.order)
    return bone.frame @ euler_matrix(bone.order, angles) @ bone.frame.T

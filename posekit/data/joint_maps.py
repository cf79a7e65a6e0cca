"""From the joints of a data set's files to any joint set, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from posekit.arrays import Bool, Float64
from posekit.data.coco_file import CocoPeople
from posekit.skeletons import LIMB17, SPIN49, Skeleton

SIDES = ("left_", "right_")
# What Human3.6M's thorax is in other sets; none of them has the middle of the face, which it calls neck.
_NECKS: dict[str, dict[str, str | None]] = {
    "LIMB17": {"thorax": "neck"}, "LSP14": {"thorax": "neck"}, "CROWDPOSE14": {"thorax": "neck"},
    "POSETRACK15": {"thorax": "head_bottom"}, "MPII16": {},
}  # fmt: skip
_CHUNK = 4096  # people mapped at once: COCO's 260,000 would need gigabytes


def both_sides(names: Mapping[str, str]) -> dict[str, str]:
    """Spells out pairs of names in which ``*`` stands for ``left_`` or ``right_``; ``"*hip": "hip_*"`` makes two."""
    result = {}
    for target, own in names.items():
        for side in SIDES if "*" in target else ("",):
            result[target.replace("*", side)] = own.replace("*", side)
    return result


class MappedJoints(NamedTuple):
    """Joints in the wanted set."""

    points: Float64  # (…, K, C); zeros where the weight is 0
    weight: Float64  # (…, K)


@dataclass(frozen=True)
class JointMap:
    """The way from J joints of a file to the K of a joint set: each is a mean of some, or absent.

    Attributes:
        matrix: (K, J) rows sum to 1; a row of zeros stands for an absent joint.
    """

    matrix: Float64

    @property
    def present(self) -> Bool:
        """(K,) joints that the file has."""
        return np.asarray((self.matrix != 0).any(1))

    def __call__(self, points: Float64, weight: Float64 | None = None) -> MappedJoints:
        """Maps joints.

        Args:
            points: (…, J, C).
            weight: (…, J), all ones when None. A mean of several joints has the least of their weights.
        """
        weight = np.ones(points.shape[:-1]) if weight is None else weight
        known = np.where((weight > 0)[..., None], points, 0.0)
        used = self.matrix != 0
        least = np.where(used, weight[..., None, :], np.inf).min(-1)
        least = np.where(used.any(1), least, 0.0)
        return MappedJoints(np.where((least > 0)[..., None], self.matrix @ known, 0.0), least)


@dataclass(frozen=True)
class JointSource:
    """The joints of a data set's files.

    Attributes:
        name: What to call them in messages.
        joints: Their names in the files' order. Where one is a joint of posekit's sets, it has posekit's name.
        also: Further names: joint of posekit's sets -> own joint.
        instead: Names that hold for one joint set only: its name -> joint -> own joint; None makes the joint absent.
    """

    name: str
    joints: tuple[str, ...]
    also: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    def map_to(self, skeleton: Skeleton) -> JointMap:
        """Builds the map to a joint set. LIMB17's pelvis is the middle of the hips where both are there."""
        matrix = np.zeros((len(skeleton), len(self.joints)))
        for row, joint in enumerate(skeleton.joints):
            for own in self._own(joint, skeleton):
                matrix[row, self.joints.index(own)] += 1
        return JointMap(matrix / np.maximum(matrix.sum(1, keepdims=True), 1))

    def absent(self, skeleton: Skeleton) -> list[str]:
        """Returns the joints of a set that the files lack."""
        return [j for j, there in zip(skeleton.joints, self.map_to(skeleton).present, strict=True) if not there]

    def _own(self, joint: str, skeleton: Skeleton) -> list[str]:
        special = self.instead.get(skeleton.name, {})
        if joint in special:
            own = special[joint]
            return [own] if own is not None else []
        if joint == "pelvis" and skeleton.name == LIMB17.name:
            hips = [self._own(side + "hip", skeleton) for side in SIDES]
            if all(hips):
                return hips[0] + hips[1]
        name = joint if joint in self.joints else self.also.get(joint, "")
        return [name] if name in self.joints else []


def source_of(skeleton: Skeleton) -> JointSource:
    """Returns the source of files whose joints are one of posekit's sets.

    A set's neck may be another set's under another name; SPIN's detector joints stand in for absent labels.
    """
    also: dict[str, str] = {"neck": _first(skeleton, ("upper_neck", "head_bottom"))}
    also |= {name: _first(skeleton, ("neck", "upper_neck", "head_bottom")) for name in ("upper_neck", "head_bottom")}
    instead: dict[str, dict[str, str | None]] = {}
    if skeleton.name == "H36M17":
        # Its "neck" is the middle of the face; SPIN calls it the head, and the thorax the neck.
        necks: dict[str, str | None] = {"neck": "thorax", "thorax": None, "head": "neck"}
        same: dict[str, str | None] = {}
        sets = ("SPIN49", "LIMB17", "LSP14", "CROWDPOSE14", "POSETRACK15", "MPII16")
        instead = {name: {**necks, "upper_neck": "thorax", "head_bottom": "thorax"} for name in sets}
        instead["H36M17"] = same
        instead["MPII16"]["thorax"] = "thorax"
        instead["SMPL24"] = {"neck": "thorax", "head": None}
    elif skeleton.name in _NECKS:
        instead["H36M17"] = {"neck": None, **_NECKS[skeleton.name]}
    if skeleton.name == SPIN49.name:
        detected = (joint for joint in skeleton.joints if joint.startswith("op_"))
        also |= {
            joint.removeprefix("op_"): joint for joint in detected if joint.removeprefix("op_") not in skeleton.joints
        }
        instead["H36M17"] = {"thorax": "neck", "neck": "head"}
        instead["SMPL24"] = {"head": None}  # the middle of the face here, the pivot of the skull there
    if skeleton.name == "SMPL24":
        # SMPL has no top of the head: the head joint gives the direction (NLRD takes it so). Elsewhere its head, the
        # pivot of the skull, is not what is meant.
        instead = {
            "LIMB17": {"head_top": "head"},
            "SPIN49": {"head": None},
            "H36M17": {"spine": "spine2", "thorax": "neck", "neck": None},
        }
    return JointSource(skeleton.name, skeleton.joints, {k: v for k, v in also.items() if v}, instead)


def _first(skeleton: Skeleton, names: Iterable[str]) -> str:
    return next((name for name in names if name in skeleton.joints), "")


def map_people(people: CocoPeople, own: Skeleton, wanted: Skeleton) -> CocoPeople:
    """Maps the joints of people to another set by name; a mapped weight is a visibility.

    Args:
        people: They, with the joints of ``own``. ``num_keypoints`` becomes the number of labelled joints of ``wanted``.
        own: Their joint set.
        wanted: The other.
    """
    mapping = source_of(own).map_to(wanted)
    keypoints = np.zeros((len(people.keypoints), len(wanted), 3))
    for start in range(0, len(keypoints), _CHUNK):
        part = people.keypoints[start : start + _CHUNK]
        mapped = mapping(part[..., :2], part[..., 2])
        keypoints[start : start + _CHUNK, :, :2] = mapped.points
        keypoints[start : start + _CHUNK, :, 2] = mapped.weight
    return replace(people, keypoints=keypoints, num_keypoints=(keypoints[..., 2] > 0).sum(-1))

"""Joint sets: names, left/right pairs, bones, OKS sigmas, and maps between sets.

Joint names are shared by all sets, so that a map between two sets is a look-up by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posekit.arrays import Int64
from posekit.errors import one_of


@dataclass(frozen=True)
class Skeleton:
    """A named, ordered joint set.

    Attributes:
        name: Its name in configs, e.g. ``"COCO17"``.
        joints: Joint names in order.
        edges: Bones as pairs of joint indices, for drawing.
        sigmas: OKS standard deviations per joint (COCO's convention: the exponent divides by ``(2 sigma)^2``).
        parents: Kinematic parent of each joint, -1 at the root; empty where the set is no tree.
        upper_body: Joints of the upper body, for half-body crops; the rest is the lower body.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    parents: tuple[int, ...] = ()
    upper_body: tuple[int, ...] = ()
    flip_index: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Derives the flip permutation from the names and checks the lengths."""
        if len(self.sigmas) != len(self.joints):
            raise ValueError(f"{self.name}: {len(self.sigmas)} sigmas for {len(self.joints)} joints")
        object.__setattr__(self, "flip_index", tuple(self.joints.index(_mirrored(j)) for j in self.joints))

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of left/right joint indices, smaller index first."""
        return tuple((i, j) for i, j in enumerate(self.flip_index) if i < j)

    def index(self, joint: str) -> int:
        """Returns a joint's index.

        Raises:
            UserError: The set has no such joint.
        """
        one_of(f"joint of {self.name}", joint, self.joints)
        return self.joints.index(joint)

    def map_to(self, other: Skeleton) -> Int64:
        """Returns this set's index of each joint of ``other`` by name, -1 where it has none: shape (len(other),)."""
        return np.array([self.joints.index(j) if j in self.joints else -1 for j in other.joints], dtype=np.int64)


def _mirrored(joint: str) -> str:
    swapped = joint.replace("left_", "\0").replace("right_", "left_").replace("\0", "right_")
    return swapped


def _bones(joints: tuple[str, ...], pairs: str) -> tuple[tuple[int, int], ...]:
    """Reads bones written as ``"a-b c-d"`` of joint names; ``*-x`` of a side stands for both sides."""
    bones = []
    for pair in pairs.split():
        sides = ("left_", "right_") if "*" in pair else ("",)
        for side in sides:
            a, b = (name.replace("*", side) for name in pair.split("-"))
            bones.append((joints.index(a), joints.index(b)))
    return tuple(bones)


_LIMBS = (
    "*shoulder-*elbow *elbow-*wrist *hip-*knee *knee-*ankle "
    "left_shoulder-right_shoulder left_hip-right_hip *shoulder-*hip"
)

_COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

COCO17 = Skeleton(
    "COCO17",
    _COCO_JOINTS,
    _bones(_COCO_JOINTS, "nose-*eye *eye-*ear *ear-*shoulder " + _LIMBS),
    (.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
    upper_body=tuple(range(11)),
)  # fmt: skip

_MPII_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "pelvis", "thorax", "upper_neck", "head_top",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

# MPII, LSP, PoseTrack, H36M and SMPL publish no OKS sigmas: limbs take COCO's value of the joint of that name,
# and the remaining ones the values that mmpose's tables use for neck, head and trunk.
_SIGMA_BY_NAME = dict(zip(_COCO_JOINTS, COCO17.sigmas, strict=True)) | {
    "pelvis": .107, "thorax": .079, "upper_neck": .079, "head_bottom": .079, "neck": .079, "head_top": .079,
    "head": .079, "jaw": .079, "spine": .107, "spine1": .107, "spine2": .107, "spine3": .107, "left_collar": .079,
    "right_collar": .079, "left_foot": .089, "right_foot": .089, "left_hand": .062, "right_hand": .062,
    "left_big_toe": .089, "right_big_toe": .089, "left_small_toe": .089, "right_small_toe": .089,
    "left_heel": .089, "right_heel": .089, "mid_hip": .107,
}  # fmt: skip


def _sigmas(joints: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(_SIGMA_BY_NAME[j.removeprefix("op_")] for j in joints)


MPII16 = Skeleton(
    "MPII16",
    _MPII_JOINTS,
    _bones(
        _MPII_JOINTS,
        "*ankle-*knee *knee-*hip *hip-pelvis pelvis-thorax thorax-upper_neck upper_neck-head_top "
        "*wrist-*elbow *elbow-*shoulder *shoulder-thorax",
    ),
    _sigmas(_MPII_JOINTS),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
)

# The ids of the PoseTrack benchmark files (poseval): 12 is the neck, which the 2018 files call head_bottom.
_POSETRACK_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "head_bottom", "nose", "head_top",
)  # fmt: skip

POSETRACK15 = Skeleton(
    "POSETRACK15",
    _POSETRACK_JOINTS,
    _bones(_POSETRACK_JOINTS, "head_top-nose nose-head_bottom head_bottom-*shoulder " + _LIMBS),
    _sigmas(_POSETRACK_JOINTS),
    parents=(1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12, 13),
    upper_body=(6, 7, 8, 9, 10, 11, 12, 13, 14),
)

_H36M_JOINTS = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "spine", "thorax", "neck", "head_top",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip

H36M17 = Skeleton(
    "H36M17",
    _H36M_JOINTS,
    _bones(
        _H36M_JOINTS,
        "pelvis-*hip *hip-*knee *knee-*ankle pelvis-spine spine-thorax thorax-neck neck-head_top "
        "thorax-*shoulder *shoulder-*elbow *elbow-*wrist",
    ),
    _sigmas(_H36M_JOINTS),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
)

_LSP_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top",
)  # fmt: skip

LSP14 = Skeleton(
    "LSP14",
    _LSP_JOINTS,
    _bones(_LSP_JOINTS, "head_top-neck neck-*shoulder " + _LIMBS),
    _sigmas(_LSP_JOINTS),
    parents=(1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12),
    upper_body=(6, 7, 8, 9, 10, 11, 12, 13),
)

# CrowdPose: 14 joints with the data set's own sigmas (as its evaluation toolbox uses).
_CROWDPOSE_JOINTS = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head_top", "neck",
)  # fmt: skip

CROWDPOSE14 = Skeleton(
    "CROWDPOSE14",
    _CROWDPOSE_JOINTS,
    _bones(_CROWDPOSE_JOINTS, "head_top-neck neck-*shoulder " + _LIMBS),
    (.079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089, .079, .079),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip

_SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)  # fmt: skip
_SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

SMPL24 = Skeleton(
    "SMPL24",
    _SMPL_JOINTS,
    tuple((p, j) for j, p in enumerate(_SMPL_PARENTS) if p >= 0),
    _sigmas(_SMPL_JOINTS),
    parents=_SMPL_PARENTS,
    upper_body=(3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23),
)

# SPIN's 49: the 25 joints of OpenPose's detector (prefix op_), then 24 joints of ground-truth sets.
_SPIN_OPENPOSE = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_SPIN_JOINTS = (
    *("op_" + j for j in _SPIN_OPENPOSE),
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head",
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip

SPIN49 = Skeleton(
    "SPIN49",
    _SPIN_JOINTS,
    _bones(_SPIN_JOINTS, "head_top-neck neck-*shoulder neck-thorax thorax-spine spine-pelvis pelvis-*hip " + _LIMBS),
    _sigmas(_SPIN_JOINTS),
)

# A kinematic tree with feet and head top, rooted at the mid-point of the hips (Pose2vec's order).
_LIMB_JOINTS = (
    "pelvis", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "head_top", "right_hip", "right_knee", "right_ankle", "right_foot", "left_hip", "left_knee", "left_ankle",
    "left_foot",
)  # fmt: skip
_LIMB_PARENTS = (-1, 0, 1, 2, 3, 1, 5, 6, 1, 0, 9, 10, 11, 0, 13, 14, 15)

LIMB17 = Skeleton(
    "LIMB17",
    _LIMB_JOINTS,
    tuple((p, j) for j, p in enumerate(_LIMB_PARENTS) if p >= 0),
    _sigmas(_LIMB_JOINTS),
    parents=_LIMB_PARENTS,
    upper_body=(1, 2, 3, 4, 5, 6, 7, 8),
)

SKELETONS = {s.name: s for s in (COCO17, MPII16, POSETRACK15, H36M17, LSP14, CROWDPOSE14, SMPL24, SPIN49, LIMB17)}


def get_skeleton(name: str) -> Skeleton:
    """Looks a joint set up by name.

    Raises:
        UserError: There is no such set; the message lists the names.
    """
    return SKELETONS[one_of("skeleton", name, SKELETONS)]

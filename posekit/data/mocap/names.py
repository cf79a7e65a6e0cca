"""Names that MotionBuilder gives to the joints of CMU's recordings; BVH copies and the exponential maps use them.

Mixamo's are the same behind ``mixamorig:``, but for the top of the head.
"""

from __future__ import annotations

from collections import Counter

from posekit.data.joint_maps import JointSource
from posekit.skeletons import LIMB17

# Joints that a user may name (option joints of CMUMoCap).
NAMEABLE = (*LIMB17.joints, "head", "spine1", "spine2", "left_hand", "right_hand")

# LeftUpLeg is where the thigh begins, and so on. "_end" marks the free ends.
_NAMES = {
    "pelvis": "Hips", "neck": "Neck", "head": "Head", "head_top": "Head_end", "spine1": "Spine", "spine2": "Spine1",
} | {
    f"{side.lower()}_{joint}": side + own
    for side in ("Left", "Right")
    for joint, own in (
        ("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("foot", "ToeBase"), ("shoulder", "Arm"),
        ("elbow", "ForeArm"), ("wrist", "Hand"), ("hand", "FingerBase"),
    )
}  # fmt: skip
_MIXAMO = {"head_top": "HeadTop_End"}


def plain_names(joints: tuple[str, ...]) -> tuple[str, ...]:
    """Takes off what exporters put before names, as in ``mixamorig:Hips`` or ``Armature_Hips``.

    Args:
        joints: A file's names. A beginning is what stands before most of MotionBuilder's names that end one of these;
            where the half or fewer agree, as with two people in a file, all stay as they are.
    """
    known = tuple(_NAMES.values())
    found = Counter(name.removesuffix(own) for name in joints for own in known if name.endswith(own))
    prefix, count = max(found.items(), key=lambda item: item[1], default=("", 0))
    names = tuple(name.removeprefix(prefix) for name in joints)
    return names if count > max(1, found.total() // 2) and len(set(names)) == len(set(joints)) else joints


def motionbuilder_joints(name: str, joints: tuple[str, ...], also: dict[str, str] | None = None) -> JointSource:
    """Returns the source of files whose joints bear MotionBuilder's names.

    Args:
        name: What to call them in messages.
        joints: The names in the file's order, with or without a beginning common to all (:func:`plain_names`).
        also: Further names, joint of posekit's sets -> own, as in the file or plain; they win over MotionBuilder's.
    """
    given = {target: joints.index(found) for target, found in (also or {}).items() if found in joints}
    joints = plain_names(joints)
    also = {**(also or {}), **{target: joints[row] for target, row in given.items()}}
    trunk: dict[str, str | None] = {"spine": "Spine1", "thorax": "Neck", "neck": None}
    known = [(target, found) for names in (_MIXAMO, _NAMES, also) for target, found in names.items()]
    own = {target: found for target, found in known if found in joints}
    return JointSource(name, joints, own, {"H36M17": {k: v if v in joints else None for k, v in trunk.items()}})

"""Names that MotionBuilder gives to the joints of CMU's recordings; BVH copies and the exponential maps use them."""

from __future__ import annotations

from posekit.data.joint_maps import JointSource

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


def motionbuilder_joints(name: str, joints: tuple[str, ...], also: dict[str, str] | None = None) -> JointSource:
    """Returns the source of files whose joints bear MotionBuilder's names.

    Args:
        name: What to call them in messages.
        joints: The names in the file's order.
        also: Further names, joint of posekit's sets -> own; they win over MotionBuilder's.
    """
    trunk: dict[str, str | None] = {"spine": "Spine1", "thorax": "Neck", "neck": None}
    own = {target: found for target, found in (_NAMES | (also or {})).items() if found in joints}
    return JointSource(name, joints, own, {"H36M17": {k: v if v in joints else None for k, v in trunk.items()}})

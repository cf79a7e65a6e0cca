"""Part groups: which joints share one motion feature, and the slots that heatmaps are kept in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from posekit.errors import UserError
from posekit.posetrack import SLOTS_2018
from posekit.skeletons import COCO17, POSETRACK15, Skeleton

ARM = ("shoulder", "elbow", "wrist", "hand", "collar")
LEG = ("hip", "knee", "ankle", "foot", "toe", "heel")


def default_groups(skeleton: Skeleton) -> dict[str, list[str]]:
    """Divides a joint set into limbs by name: left and right arm, left and right leg, and all that has no side.

    Joints with a side that belong to no limb (eyes, ears) go with the head; groups without a joint are left out. Of
    POSETRACK15 this gives the head and four limbs, three joints each: the data-free stand-in for groups of joints that
    share information.

    >>> default_groups(POSETRACK15)["left_arm"]
    ['left_shoulder', 'left_elbow', 'left_wrist']
    """
    groups: dict[str, list[str]] = {name: [] for name in ("head", "left_arm", "right_arm", "left_leg", "right_leg")}
    for joint in skeleton.joints:
        side, _, part = joint.removeprefix("op_").partition("_")
        limb = "arm" if part.endswith(ARM) else "leg" if part.endswith(LEG) else None
        groups[f"{side}_{limb}" if side in ("left", "right") and limb else "head"].append(joint)
    return {name: sorted(joints, key=_outward) for name, joints in groups.items() if joints}


def _outward(joint: str) -> int:
    """Places a joint of a limb from the trunk outward; joints of the head keep their order."""
    order = [index for index, part in enumerate(ARM + LEG) if joint.endswith(part)]
    return order[0] if order else 0


def resolve_groups(groups: Mapping[str, Sequence[str]] | None, skeleton: Skeleton) -> tuple[tuple[int, ...], ...]:
    """Returns the joint indices of each group.

    Args:
        groups: Joint names by the group's name; None takes :func:`default_groups`.
        skeleton: The joint set.

    Raises:
        UserError: Unknown joints, a joint in two groups, or joints in none.
    """
    named = default_groups(skeleton) if groups is None else groups
    if any(isinstance(joints, str) or not joints for joints in named.values()) or not named:
        raise UserError("part_groups must map group names to lists of at least one joint name")
    indices = tuple(tuple(skeleton.index(joint) for joint in joints) for joints in named.values())
    count = Counter(index for group in indices for index in group)
    twice = [skeleton.joints[index] for index, times in count.items() if times > 1]
    if twice:
        raise UserError(f"part_groups: {twice[0]} is in more than one group")
    missing = [joint for index, joint in enumerate(skeleton.joints) if index not in count]
    if missing:
        raise UserError(f"part_groups: no group has {', '.join(missing)}; every joint of {skeleton.name} needs one")
    return indices


def slot_indices(skeleton: Skeleton, num_slots: int | None) -> tuple[int, ...] | None:
    """Returns the heatmap that each joint is kept in, or None for one map per joint in the set's own order.

    PoseTrack's 2018 files have 17 slots, two of which (ears) never hold a joint. A network with these 17 maps takes the
    head of a COCO network whole: its eyes start as head_bottom and head_top.

    Args:
        skeleton: The joint set.
        num_slots: 17 for those slots, the number of joints or None for one map per joint.

    Raises:
        UserError: Another number.
    """
    if num_slots is None or num_slots == len(skeleton):
        return None
    if num_slots != len(SLOTS_2018) or skeleton.name != POSETRACK15.name:
        also = f" or {len(SLOTS_2018)}" if skeleton.name == POSETRACK15.name else ""
        raise UserError(f"num_slots must be {len(skeleton)}{also} with {skeleton.name}, not {num_slots}")
    return tuple(SLOTS_2018.index(joint) for joint in skeleton.joints)


def coco_rows(state: Mapping[str, Tensor], skeleton: Skeleton, num_maps: int) -> dict[str, Tensor]:
    """Fits the last layer of a network of COCO's 17 joints to another joint set, row by row and by name.

    Joints that COCO lacks start from the nearest that it has: the neck and the top of the head from the eyes, as they
    do where a network of PoseTrack's 17 slots takes a COCO head whole.

    Args:
        state: Tensors by name; only ``final_layer`` with 17 rows is changed.
        skeleton: The joint set.
        num_maps: Rows wanted. A head of 17 rows stays as it is.
    """
    if num_maps == len(COCO17) or num_maps != len(skeleton):
        return dict(state)
    stand_in = {"head_bottom": "left_eye", "head_top": "right_eye"}
    names = [stand_in.get(joint, joint) for joint in skeleton.joints]
    if any(name not in COCO17.joints for name in names):
        return dict(state)
    rows = [COCO17.joints.index(name) for name in names]
    heads = tuple(f"final_layer.{kind}" for kind in ("weight", "bias"))
    return {
        name: value[rows] if name.endswith(heads) and value.shape[:1] == (len(COCO17),) else value
        for name, value in state.items()
    }

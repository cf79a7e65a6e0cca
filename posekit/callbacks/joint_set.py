"""The joint set that predictions are drawn by."""

from __future__ import annotations

from typing import Any

from posekit.errors import UserError
from posekit.skeletons import Skeleton, get_skeleton


def joint_set(method: Any, datamodule: Any, joints: int) -> Skeleton:
    """Returns the joint set of a method, or of its data where it keeps none.

    Args:
        method: Whose predictions are drawn.
        datamodule: What they were made of.
        joints: Number of joints that they have.

    Raises:
        UserError: There is none of so many joints.
    """
    own = getattr(method, "skeleton", None)
    found = own if isinstance(own, Skeleton) else get_skeleton(getattr(datamodule, "skeleton", None) or "COCO17")
    if len(found) != joints:
        name = type(method).__name__
        raise UserError(f"{name} predicts {joints} joints, {found.name} has {len(found)}: let {name} set self.skeleton")
    return found

"""How predictions are drawn: by which joint set, and whom of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

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


def drawn_people(method: Any, rows: Mapping[str, NDArray[Any]], threshold: float) -> NDArray[Any]:
    """Returns the joints (M, K, 3) of those of a picture's people who are drawn, as the method chooses.

    Args:
        method: Whose predictions they are; what has no ``drawn_people`` shows all of them.
        rows: Predictions of one picture.
        threshold: Least score.
    """
    choose = getattr(method, "drawn_people", None)
    people: NDArray[Any] = rows["keypoints"] if choose is None else choose(rows, threshold)
    return people

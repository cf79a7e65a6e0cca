"""Where the joints of other sets are among the 54 of an SMPL body: 24 centres, 21 surface points, SPIN's nine.

Source of the order and of the 49: the published code of SPIN, which VIBE and MAED share.
"""

from __future__ import annotations

from posekit.errors import UserError
from posekit.skeletons import SMPL24, SPIN49, Skeleton

SMPL_VERTICES = 6890  # of the only mesh whose landmark vertices smplx knows

# smplx's names of the surface points, in its order.
PICKS = (
    "nose", "reye", "leye", "rear", "lear", "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel",
    "lthumb", "lindex", "lmiddle", "lring", "lpinky", "rthumb", "rindex", "rmiddle", "rring", "rpinky",
)  # fmt: skip

_SURFACE = (
    "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip

# Rows 45 to 53 are those of J_regressor_extra.npy: right and left hip, neck and head top as LSP marks them, pelvis and
# thorax as MPII does, spine, jaw and head as Human3.6M does.
SPIN49_FROM_54 = (
    24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27,
)  # fmt: skip

_ALIASES = {"upper_neck": "neck", "head_bottom": "neck"}
# What needs no regressor file, and what SPIN's second 24 joints call the points of ground-truth sets.
_OWN = {**{name: row for row, name in enumerate(SMPL24.joints)}, **{name: 24 + k for k, name in enumerate(_SURFACE)}}
_ALL = {**_OWN, **dict(zip(SPIN49.joints[25:], SPIN49_FROM_54[25:], strict=True))}


def rows_among_54(skeleton: Skeleton) -> tuple[int, ...]:
    """Returns each joint's row among the 54; rows from 45 on need ``J_regressor_extra.npy``.

    A set whose names all occur among the 24 centres and the surface points takes those (COCO17); the others take the
    points that SPIN's ground-truth joints of the same names stand for.

    Raises:
        UserError: The set has a joint that no row stands for.
    """
    if skeleton.name == "SPIN49":
        return SPIN49_FROM_54
    names = [_ALIASES.get(joint, joint) for joint in skeleton.joints]
    known = _OWN if set(names) <= set(_OWN) else _ALL
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"an SMPL file cannot give {skeleton.name} joints: no regressor for {', '.join(unknown)}")
    return tuple(known[name] for name in names)

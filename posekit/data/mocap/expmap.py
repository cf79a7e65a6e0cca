"""An archive of CMU sequences as exponential maps on one common skeleton, with MotionBuilder's joints.

Each array of the motion file is (T, 3 + 3 J): the root's place in CMU units, then the joints' rotation vectors in
radians. The skeleton file holds ``parents`` (J,), ``offsets_mm`` (J, 3) and ``names`` (J,). Vectors are rows:
X_j = X_parent + offset_j G_parent and G_j = R_j G_parent, with R_j the Rodrigues matrix of rotation vector j.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float64
from posekit.data.joint_maps import JointSource
from posekit.data.mocap.names import motionbuilder_joints
from posekit.data.mocap.sequence import FAR, near, z_up
from posekit.data.npz import open_npz
from posekit.errors import UserError
from posekit.geometry.rotations import axis_angle_to_matrix

CMU_UNIT = 0.0254 / 0.45  # metres
_WHAT = "skeleton file"


@dataclass(frozen=True)
class ExpmapSkeleton:
    """The common skeleton.

    Attributes:
        path: The file.
        parents: Parent of each joint, -1 at the root; parents come first.
        offsets: (J, 3) from the parent at rest, metres, y up.
        names: Of the joints.
    """

    path: Path
    parents: tuple[int, ...]
    offsets: Float64
    names: tuple[str, ...]

    @property
    def joints(self) -> JointSource:
        """The names of the points."""
        return motionbuilder_joints(f"skeleton {self.path}", self.names)


def read_expmap_skeleton(path: Path) -> ExpmapSkeleton:
    """Reads the skeleton.

    Raises:
        UserError: It is absent or faulty.
    """
    with open_npz(path, _WHAT, ("parents", "offsets_mm", "names")) as archive:
        parents, offsets, names = (archive[name] for name in ("parents", "offsets_mm", "names"))
    count = len(parents) if parents.ndim == 1 else -1
    if offsets.shape != (count, 3) or names.shape != (count,) or parents.dtype.kind not in "iu":
        shapes = f"{parents.shape}, {offsets.shape} and {names.shape}"
        raise UserError(f"{_WHAT} {path}: parents, offsets_mm and names are {shapes}, expected (J,), (J, 3) and (J,)")
    if offsets.dtype.kind not in "fiu" or not (np.abs(offsets.astype(np.float64)) < FAR).all():
        raise UserError(f"{_WHAT} {path}: offsets_mm are no finite numbers of mm")
    if parents[0] != -1 or (parents[1:] < 0).any() or (parents[1:] >= np.arange(1, count)).any():
        raise UserError(f"{_WHAT} {path}: parents must begin with -1, and each must come before its children")
    return ExpmapSkeleton(
        path, tuple(parents.tolist()), offsets.astype(np.float64) / 1000, tuple(str(name) for name in names)
    )


def expmap_points(skeleton: ExpmapSkeleton, motion: NDArray[np.floating], unit: float = CMU_UNIT) -> Float64:
    """Forward kinematics.

    Args:
        skeleton: The skeleton of J joints.
        motion: (T, 3 + 3 J).
        unit: Metres of a unit of the root's place.

    Returns:
        (T, J, 3) metres, z up.
    """
    motion = near(motion.astype(np.float64))
    # The files' matrices act on row vectors: their transposes, which turn the other way, act on columns.
    turns = np.swapaxes(axis_angle_to_matrix(motion[:, 3:].reshape(len(motion), len(skeleton.parents), 3)), -1, -2)
    world = [turns[:, 0]]
    places = [unit * motion[:, :3]]
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        places.append(places[parent] + world[parent] @ skeleton.offsets[joint])
        world.append(world[parent] @ turns[:, joint])
    return z_up(np.stack(places, 1))


def motion_fault(skeleton: ExpmapSkeleton, shape: Iterable[int]) -> str | None:
    """Returns what is wrong with the shape of a motion, or None."""
    shape = tuple(shape)
    width = 3 + 3 * len(skeleton.parents)
    if len(shape) == 2 and shape[1] == width:
        return None
    return f"has shape {shape}, expected (T, {width}): 3 + 3 x {len(skeleton.parents)} joints of {skeleton.path.name}"

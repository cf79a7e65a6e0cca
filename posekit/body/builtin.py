"""The built-in body: a CC0 human mesh in SMPL format that comes with the package (``assets/PROVENANCE.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float32
from posekit.body.lbs import rigid_transforms, skin
from posekit.errors import one_of
from posekit.skeletons import SKELETONS, SMPL24, Skeleton

# Vertices of the hm08 base mesh that mark surface points; smplx asks for exactly these names (and head_top is ours).
_LANDMARKS = {
    "nose": 5054, "reye": 1056, "leye": 7748, "rear": 5439, "lear": 12038,
    "LBigToe": 11551, "LSmallToe": 13212, "LHeel": 12453, "RBigToe": 4933, "RSmallToe": 6616, "RHeel": 5856,
    "lthumb": 9348, "lindex": 8595, "lmiddle": 8813, "lring": 8979, "lpinky": 9171,
    "rthumb": 2680, "rindex": 1927, "rmiddle": 2145, "rring": 2311, "rpinky": 2503,
    "head_top": 881,
}  # fmt: skip

# A joint's row: the name of a surface landmark, or the weights of SMPL joints.
_RegressorRow = str | dict[int, float]


def _both(name: str, left: _RegressorRow, right: _RegressorRow) -> dict[str, _RegressorRow]:
    return {f"left_{name}": left, f"right_{name}": right}


# What a joint name means wherever no set says otherwise.
_SMPL24_ROWS: dict[str, _RegressorRow] = {name: {j: 1.0} for j, name in enumerate(SMPL24.joints)}
_COMMON_ROWS: dict[str, _RegressorRow] = {
    **_SMPL24_ROWS, "nose": "nose", "head_top": "head_top", "mid_hip": {1: 0.5, 2: 0.5}, "pelvis": {1: 0.5, 2: 0.5},
    **_both("eye", "leye", "reye"), **_both("ear", "lear", "rear"), **_both("heel", "LHeel", "RHeel"),
    **_both("big_toe", "LBigToe", "RBigToe"), **_both("small_toe", "LSmallToe", "RSmallToe"),
    "head_bottom": {12: 0.5, 15: 0.5}, "upper_neck": {12: 0.5, 15: 0.5}, "jaw": {12: 0.5, 15: 0.5},
    "thorax": {12: 0.5, 13: 0.25, 14: 0.25}, "spine": {6: 1.0},
}  # fmt: skip
# Where a set differs: H36M's trunk, OpenPose's neck between the shoulders, the middle of the face for H36M's neck
# and SPIN's head (which is what all label files of that name hold).
_SPECIAL_ROWS: dict[str, dict[str, _RegressorRow]] = {
    "H36M17": {"pelvis": {0: 0.5, 1: 0.25, 2: 0.25}, "thorax": {12: 1.0}, "neck": "nose"},
    "SMPL24": _SMPL24_ROWS,
    "SPIN49": {"op_neck": {16: 0.5, 17: 0.5}, "head": "nose"},
}


def _set_rows(skeleton: Skeleton) -> tuple[_RegressorRow, ...]:
    special = _SPECIAL_ROWS.get(skeleton.name, {})
    return tuple(special.get(j) or _COMMON_ROWS[j.removeprefix("op_")] for j in skeleton.joints)


_ROWS = {name: _set_rows(skeleton) for name, skeleton in SKELETONS.items()}
JOINT_SETS = tuple(_ROWS)
"""Joint sets that the built-in body regresses."""


@dataclass(frozen=True)
class BuiltinBody:
    """The arrays of an SMPL-format body. Lengths are metres; y is up, z is forward, the left side is x > 0.

    Attributes:
        v_template: (V, 3) mean shape in T-pose, pelvis at the origin.
        shapedirs: (V, 3, 10) shape components, one standard deviation per unit.
        joint_regressor: (24, V) joint centres from vertices.
        weights: (V, 24) skinning weights.
        faces: (F, 3) triangles, counter-clockwise seen from outside.
        mirror: (V,) index of each vertex's mirror image.
        base_vertex: (V,) index in the hm08 base mesh.
        parents: Parent of each of the 24 joints, -1 at the root.
    """

    v_template: Float32
    shapedirs: Float32
    joint_regressor: Float32
    weights: Float32
    faces: NDArray[np.int32]
    mirror: NDArray[np.int32]
    base_vertex: NDArray[np.int32]
    parents: tuple[int, ...]

    @cached_property
    def landmarks(self) -> dict[str, int]:
        """Vertex indices of surface landmarks, by smplx's names."""
        row = {int(base): index for index, base in enumerate(self.base_vertex)}
        return {name: row[base] for name, base in _LANDMARKS.items()}

    @cached_property
    def _rest_maps(self) -> tuple[Float32, Float32]:
        """Joint centres of the mean shape (24, 3) and their components (24, 3, 10): regressed once, not per body."""
        return self.joint_regressor @ self.v_template, np.einsum("jv,vcs->jcs", self.joint_regressor, self.shapedirs)

    def regressor(self, skeleton: str) -> Float32:
        """Returns the (K, V) matrix that takes posed vertices to the joints of a set, one of ``JOINT_SETS``.

        Raises:
            UserError: The body has no regressor of that joint set.
        """
        one_of("joint set of the built-in body", skeleton, _ROWS)
        rows = np.zeros((len(_ROWS[skeleton]), len(self.v_template)), dtype=np.float32)
        for row, source in zip(rows, _ROWS[skeleton], strict=True):
            if isinstance(source, str):
                row[self.landmarks[source]] = 1
            else:
                for joint, weight in source.items():
                    row += weight * self.joint_regressor[joint]
        return rows

    def rest(self, betas: Float32) -> tuple[Float32, Float32]:
        """Returns T-posed vertices (…, V, 3) and joint centres (…, 24, 3) of the shapes ``betas`` (…, 10)."""
        template, directions = self._rest_maps
        flat = self.shapedirs.reshape(-1, self.shapedirs.shape[-1])
        offsets = (betas @ flat.T).reshape(*betas.shape[:-1], *self.v_template.shape)
        return self.v_template + offsets, template + np.einsum("...s,jcs->...jc", betas, directions)

    def pose(self, betas: Float32, rotations: Float32) -> tuple[Float32, Float32]:
        """Shapes and poses the body, without translation.

        Args:
            betas: (…, 10) shape coefficients.
            rotations: (…, 24, 3, 3) rotations relative to the parent; row 0 turns the whole body about its pelvis.

        Returns:
            Vertices (…, V, 3) and joint centres (…, 24, 3), metres.
        """
        vertices, joints = self.rest(betas)
        world, posed = rigid_transforms(rotations, joints, self.parents)
        return skin(vertices, self.weights, world, posed, joints), posed


def _asset() -> dict[str, NDArray[Any]]:
    with as_file(files("posekit.body") / "assets" / "body_1500.npz") as path, np.load(path) as archive:
        return dict(archive)


@lru_cache(maxsize=1)
def load_builtin_body() -> BuiltinBody:
    """Loads the built-in body (1,500 vertices, CC0) once per process."""
    asset = _asset()
    parents = tuple(int(p) for p in asset["kintree_table"][0])
    return BuiltinBody(
        v_template=asset["v_template"],
        shapedirs=asset["shapedirs"],
        joint_regressor=asset["J_regressor"],
        weights=asset["weights"],
        faces=asset["f"],
        mirror=asset["mirror"],
        base_vertex=asset["base_vertex"],
        parents=(-1, *parents[1:]),
    )

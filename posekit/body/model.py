"""A body as a torch module: rotations and shape in, vertices and joints out.

Skinning as in Loper et al., "SMPL: a skinned multi-person linear model", SIGGRAPH Asia 2015, section 3. The files are
loaded by ``smplx``; the arithmetic here gives its numbers with fewer passes over the vertices: coordinates are stored
as rows of V, shape and pose components are one product, and joint centres are regressed once, not per body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posekit.arrays import Float32
from posekit.body.builtin import JOINT_SETS
from posekit.body.files import SPIN_SOURCE, BodyArrays
from posekit.body.joint_sets import PICKS, SMPL_VERTICES, rows_among_54
from posekit.body.views import builtin_view, smplx_model
from posekit.errors import UserError
from posekit.nn.constants import constants
from posekit.nn.precision import full_precision
from posekit.skeletons import get_skeleton


class BodyOutput(NamedTuple):
    """A posed body; lengths in metres.

    Attributes:
        vertices: (N, V, 3) float32.
        joints24: (N, 24, 3) float32, the centres about which the joints turn.
    """

    vertices: Tensor
    joints24: Tensor


class MeanParameters(NamedTuple):
    """Where an iterative regressor starts: pose (144,) as interleaved 6D, shape (S,), weak-perspective camera (3,)."""

    pose: Tensor
    shape: Tensor
    camera: Tensor


class SMPLBody(nn.Module):
    """A body in SMPL format. It has no parameters, and its arrays stay out of checkpoints.

    Attributes:
        name: The file's name, or ``builtin_1500``.
        is_builtin: Made from the free base mesh: it has its own landmarks and regresses every joint set by itself.
        num_betas: Shape coefficients it takes.
        num_vertices: V.
        parents: Parent of each of the 24 joints, -1 at the root.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        mean_parameters: SPIN's, if a file of them was given; the built-in body's own.
    """

    faces: Tensor
    _template: Tensor
    _directions: Tensor
    _weights: Tensor
    _joint_template: Tensor
    _joint_directions: Tensor
    _picks: Tensor
    _mean: Tensor

    def __init__(
        self,
        arrays: BodyArrays,
        name: str,
        extra: Float32 | None = None,
        h36m: Float32 | None = None,
        mean: tuple[Float32, Float32, Float32] | None = None,
    ) -> None:
        """Takes checked arrays; :func:`posekit.body.load_body` reads them from files.

        Args:
            arrays: The body.
            name: How errors and logs call it.
            extra: (9, V) regressor of SPIN's nine further joints.
            h36m: (17, V) regressor of Human3.6M's joints.
            mean: Pose (144,), shape (S,) and camera (3,) at which an iterative regressor starts.
        """
        super().__init__()
        self.name = name
        self.parents = arrays.parents
        self.num_vertices = len(arrays.v_template)
        self.num_betas = arrays.shapedirs.shape[2]
        self.is_builtin = arrays.base_vertex is not None
        self._levels: list[tuple[int, int]] = []
        for level, (start, end, parents, above) in enumerate(_levels(arrays.parents)):
            self._levels.append((start, end))
            self._buffer(f"_parents_{level}", torch.tensor(parents))
            self._buffer(f"_above_{level}", torch.tensor(above))
        self._register(smplx_model(arrays), has_pose_blends=bool(arrays.posedirs.any()))
        self._regressors: dict[str, str] = {}
        if self.is_builtin:
            self._register_builtin_regressors(arrays)
        if h36m is not None:
            self._regressor("H36M17", h36m)
        if extra is not None:
            self._regressor("extra", extra)
        self._has_mean = mean is not None
        self._buffer("_mean", np.concatenate(mean) if mean is not None else np.zeros(0, np.float32))

    def _buffer(self, name: str, value: Tensor | NDArray[Any]) -> None:
        self.register_buffer(name, torch.as_tensor(value).contiguous(), persistent=False)

    def _regressor(self, joint_set: str, rows: Float32) -> None:
        self._regressors[joint_set] = f"_regressor_{joint_set}"
        self._buffer(self._regressors[joint_set], rows)

    def _register(self, model: Any, has_pose_blends: bool) -> None:
        """Lays the arrays that smplx has loaded out for the forward pass."""
        template, shapes, count = model.v_template, model.shapedirs, self.num_vertices
        directions = shapes.permute(2, 1, 0).reshape(self.num_betas, 3 * count)
        if has_pose_blends:
            poses = model.posedirs.reshape(-1, count, 3).transpose(1, 2).reshape(-1, 3 * count)
            directions = torch.cat([directions, poses])
        self._has_pose_blends = has_pose_blends
        self._buffer("faces", model.faces_tensor)
        self._buffer("_template", template.T.reshape(-1))
        self._buffer("_directions", directions)
        self._buffer("_weights", model.lbs_weights.T)
        self._buffer("_joint_template", (model.J_regressor @ template).reshape(-1))
        joint_directions = torch.einsum("jv,vcs->sjc", model.J_regressor, shapes)
        self._buffer("_joint_directions", joint_directions.reshape(self.num_betas, -1))
        self._buffer("_picks", model.vertex_joint_selector.extra_joints_idxs)

    def _register_builtin_regressors(self, arrays: BodyArrays) -> None:
        body = builtin_view(arrays)
        picks = [body.landmarks[name] for name in PICKS]
        self._buffer("_picks", torch.tensor(picks))
        for joint_set in JOINT_SETS:
            self._regressor(joint_set, body.regressor(joint_set))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SMPLBody:
        """Moves the arrays with the module they are in, but keeps them in float32 where that becomes half precision."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    @property
    def mean_parameters(self) -> MeanParameters | None:
        """Where an iterative regressor starts, or None if the body came without."""
        if not self._has_mean:
            return None
        return MeanParameters(*self._mean.split([144, len(self._mean) - 147, 3]))

    def forward(self, rotations: Tensor, betas: Tensor, translation: Tensor | None = None) -> BodyOutput:
        """Shapes, poses and places bodies, in float32 also under autocast.

        Args:
            rotations: (N, 24, 3, 3) relative to the parent; row 0 turns the whole body about its pelvis.
            betas: (N, S) shape coefficients.
            translation: (N, 3) metres, or None.

        Returns:
            Vertices (N, V, 3) and joint centres (N, 24, 3).

        Raises:
            UserError: The number of shape coefficients is not the body's.
        """
        if betas.shape[-1] != self.num_betas:
            raise UserError(
                f"body {self.name} takes {self.num_betas} shape coefficients (num_betas), and got {betas.shape[-1]}"
            )
        with full_precision(rotations):
            return self._pose(rotations.float(), betas.float(), None if translation is None else translation.float())

    def _pose(self, rotations: Tensor, betas: Tensor, translation: Tensor | None) -> BodyOutput:
        count = rotations.shape[0]
        joints = torch.addmm(self._joint_template, betas, self._joint_directions).view(count, 24, 3)
        world, posed = self._chain(rotations, joints)
        if translation is not None:
            posed = posed + translation[:, None]
        shift = posed - (world @ joints[..., None])[..., 0]
        motion = torch.cat([world, shift[..., None]], -1).permute(0, 2, 3, 1).reshape(count * 12, 24)
        blended = (motion @ self._weights).view(count, 3, 4, self.num_vertices)
        rest = self._rest(rotations, betas)
        vertices = blended[:, :, 3]
        for axis in range(3):
            vertices = torch.addcmul(vertices, blended[:, :, axis], rest[:, None, axis])
        return BodyOutput(vertices.transpose(1, 2).contiguous(), posed)

    def _rest(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """Returns unposed vertices (N, 3, V) with the components of shape and pose."""
        weights = betas
        if self._has_pose_blends:
            identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            weights = torch.cat([betas, (rotations[:, 1:] - identity).reshape(-1, 207)], 1)
        return torch.addmm(self._template, weights, self._directions).view(-1, 3, self.num_vertices)

    def _chain(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Forward kinematics, all joints of one depth at a time; world rotations (N, 24, 3, 3) and centres."""
        world, posed = [rotations[:, :1]], [joints[:, :1]]
        for level, (start, end) in enumerate(self._levels):
            parents, above = getattr(self, f"_parents_{level}"), getattr(self, f"_above_{level}")
            turn = world[-1][:, above]
            offset = joints[:, start:end] - joints[:, parents]
            posed.append(posed[-1][:, above] + (turn @ offset[..., None])[..., 0])
            world.append(turn @ rotations[:, start:end])
        return torch.cat(world, 1), torch.cat(posed, 1)

    def joints45(self, output: BodyOutput) -> Tensor:
        """Returns smplx's 45 joints (N, 45, 3): the 24 and 21 points of the surface (face, feet, finger tips).

        Raises:
            UserError: The landmarks of this mesh are not known.
        """
        self._needs_landmarks("the 45 joints")
        return torch.cat([output.joints24, output.vertices[:, self._picks]], 1)

    def joints(self, output: BodyOutput, skeleton: str) -> Tensor:
        """Returns the joints (N, K, 3) of a set, metres, in float32 also under autocast.

        The built-in body regresses every set from its vertices, as the labels of ``SyntheticPeople`` are. An SMPL file
        gives SMPL24 and COCO17 by itself, H36M17 by its regressor, and SPIN49 and the other sets by SPIN's nine
        further joints.

        Args:
            output: What ``forward`` returned.
            skeleton: Name of the joint set.

        Raises:
            UserError: The set is unknown, or needs a regressor that was not given.
        """
        with full_precision(output.vertices):
            if skeleton in self._regressors:
                return self._regressed(skeleton, output)
            return self._smpl_joints(output, skeleton)

    def _smpl_joints(self, output: BodyOutput, skeleton: str) -> Tensor:
        if skeleton == "SMPL24":
            return output.joints24
        if skeleton == "H36M17":
            raise self._lacks(skeleton, "joint_regressor_h36m", "J_regressor_h36m.npy")
        rows = rows_among_54(get_skeleton(skeleton))
        if max(rows) < 45:
            return _picked(self.joints45(output), rows)
        if "extra" not in self._regressors:
            raise self._lacks(skeleton, "joint_regressor_extra", "J_regressor_extra.npy")
        return _picked(torch.cat([self.joints45(output), self._regressed("extra", output)], 1), rows)

    def _regressed(self, joint_set: str, output: BodyOutput) -> Tensor:
        regressor: Tensor = getattr(self, self._regressors[joint_set])
        return regressor @ output.vertices

    def _lacks(self, skeleton: str, option: str, file: str) -> UserError:
        return UserError(
            f"{skeleton} joints of body {self.name} need {file} beside the body's file "
            f"(a model's body also takes option {option}). {SPIN_SOURCE}"
        )

    def _needs_landmarks(self, what: str) -> None:
        if not self.is_builtin and self.num_vertices != SMPL_VERTICES:
            raise UserError(
                f"body {self.name} has {self.num_vertices} vertices, and SMPL's landmark vertices are known for "
                f"{SMPL_VERTICES} alone: {what} cannot be picked"
            )

    def extra_repr(self) -> str:
        """Names the body and its sizes."""
        return f"{self.name}, vertices={self.num_vertices}, betas={self.num_betas}"


def _picked(points: Tensor, rows: Sequence[int]) -> Tensor:
    """Returns rows (N, K, 3) of points; a list as the index would be copied to the device in each step."""
    return points[:, constants(rows, points)]


def _levels(parents: tuple[int, ...]) -> list[tuple[int, int, list[int], list[int]]]:
    """Groups joints by depth: first and last index, parents, and the parents' places within the level above."""
    depth = [0]
    for parent in parents[1:]:
        depth.append(depth[parent] + 1)
    starts = [depth.index(d) for d in range(max(depth) + 1)] + [len(parents)]
    assert depth == sorted(depth), "joints are not ordered by depth"
    levels = []
    for above, start, end in zip(starts, starts[1:], starts[2:], strict=False):
        rows = list(parents[start:end])
        levels.append((start, end, rows, [p - above for p in rows]))
    return levels

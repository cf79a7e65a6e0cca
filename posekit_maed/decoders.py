"""Decoders: from a frame's feature to 24 joint rotations (6D), body shape and camera."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from posekit.body import MeanParameters
from posekit.errors import UserError, in_range
from posekit.nn.precision import full_precision, precise
from posekit.skeletons import SMPL24

JOINTS = 24
SIX = 6
SHAPES = 10
CAMERA = 3

_IDENTITY6 = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)  # interleaved columns of the unit matrix
_UPRIGHT6 = (1.0, 0.0, 0.0, -1.0, 0.0, 0.0)  # half a turn about x: bodies at rest are y up, cameras y down
_START_CAMERA = (0.9, 0.0, 0.0)


class Regression(NamedTuple):
    """What a decoder predicts of each frame."""

    pose6d: Tensor  # (N, 24, 6), SMPL order, columns interleaved: entries 0, 2, 4 are the first column
    shape: Tensor  # (N, 10)
    camera: Tensor  # (N, 3) weak perspective: scale, tx, ty


def ancestors(parents: tuple[int, ...] = SMPL24.parents) -> list[list[int]]:
    """Returns each joint's ancestors, the root first."""
    paths: list[list[int]] = []
    for parent in parents:
        paths.append([] if parent < 0 else [*paths[parent], parent])
    return paths


class KinematicDecoder(nn.Module):
    """The kinematic topology decoder: every joint's rotation is regressed from the feature and its ancestors'.

    Two linear layers with dropout and no activation give a hidden vector h; pose_j = W_j [h, pose_a for all ancestors a
    of j, the root first] + b_j. The rotations depend on each other linearly, so all 24 are found at once as the
    solution of a unit lower triangular system (which is forward substitution along the kinematic tree).

    Args:
        feature_width: Channels of the feature.
        hidden: Channels of h.
        dropout: After each of the two layers.
        start: Pose, shape and camera that an untrained decoder answers with; None is the rest pose, upright before the
            camera, the mean shape and a camera of scale 0.9. (The published code starts from random rotations and a
            camera of scale 0, which puts the body infinitely far away.)

    Raises:
        UserError: A number out of its range, or ``start`` has other sizes.
    """

    scatter: Tensor

    def __init__(
        self, feature_width: int, hidden: int = 1024, dropout: float = 0.5, start: MeanParameters | None = None
    ) -> None:
        super().__init__()
        _check_layers(hidden, dropout)
        self.hidden = hidden
        self.fc1 = nn.Linear(feature_width, hidden)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, hidden)
        self.drop2 = nn.Dropout(dropout)
        paths = ancestors()
        self.joint_regs = nn.ModuleList(nn.Linear(hidden + SIX * len(path), SIX) for path in paths)
        self.decshape = nn.Linear(hidden, SHAPES)
        self.deccam = nn.Linear(hidden, CAMERA)
        pose, shape, camera = _start(start)
        biases = (*pose.view(JOINTS, SIX), shape, camera)
        for layer, bias in zip((*self.joint_regs, self.decshape, self.deccam), biases, strict=True):
            linear = cast(nn.Linear, layer)
            nn.init.xavier_uniform_(linear.weight, gain=0.01)
            linear.bias.data.copy_(bias)
        self.levels = max(map(len, paths))
        self.register_buffer("scatter", _ancestor_places(paths), persistent=False)

    def hidden_features(self, features: Tensor) -> Tensor:
        """Returns h (N, hidden) of features (N, feature_width)."""
        hidden: Tensor = self.drop2(self.fc2(self.drop1(self.fc1(features))))
        return hidden

    def forward(self, features: Tensor) -> Regression:
        """Decodes features (N, feature_width)."""
        h = self.hidden_features(features)
        layers: list[nn.Linear] = list(self.joint_regs)  # type: ignore[arg-type]
        weight = torch.cat([layer.weight[:, : self.hidden] for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        free = torch.nn.functional.linear(h, weight, bias)
        with full_precision(h):
            chain = precise(torch.cat([layer.weight[:, self.hidden :].reshape(-1) for layer in layers]))
            size = JOINTS * SIX
            ancestors_of = chain.new_zeros(size * size).index_add(0, self.scatter, chain).view(size, size)
            # Forward substitution by levels of the tree: after n rounds all joints with n ancestors are exact.
            own = precise(free).T
            pose = own
            for _ in range(self.levels):
                pose = torch.addmm(own, ancestors_of, pose)
        return Regression(pose.T.reshape(-1, JOINTS, SIX), self.decshape(h), self.deccam(h))


def _ancestor_places(paths: list[list[int]]) -> Tensor:
    """Returns where each weight of an ancestor's entry stands in the flattened (144, 144) system."""
    size = JOINTS * SIX
    places = []
    for joint, path in enumerate(paths):
        rows = (joint * SIX + torch.arange(SIX)) * size
        columns = torch.tensor([a * SIX + k for a in path for k in range(SIX)], dtype=torch.int64)
        places.append((rows[:, None] + columns).reshape(-1))
    return torch.cat(places)


class IterativeDecoder(nn.Module):
    """The regressor of HMR and SPIN, as a rival: refines pose, shape and camera in a few passes from mean parameters.

    Args:
        feature_width: Channels of the feature.
        hidden: Channels of the two layers.
        dropout: After each of them.
        iterations: Passes.
        start: Where the first pass starts; None is the rest pose, upright before the camera, the mean shape and a
            camera of scale 0.9.

    Raises:
        UserError: A number out of its range, or ``start`` has other sizes.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(
        self,
        feature_width: int,
        hidden: int = 1024,
        dropout: float = 0.5,
        iterations: int = 3,
        start: MeanParameters | None = None,
    ) -> None:
        super().__init__()
        _check_layers(hidden, dropout)
        in_range("MAED", "iterations", iterations, "[1, inf)", whole=True)
        self.iterations = iterations
        self.fc1 = nn.Linear(feature_width + JOINTS * SIX + SHAPES + CAMERA, hidden)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, hidden)
        self.drop2 = nn.Dropout(dropout)
        self.decpose = nn.Linear(hidden, JOINTS * SIX)
        self.decshape = nn.Linear(hidden, SHAPES)
        self.deccam = nn.Linear(hidden, CAMERA)
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        for name, value in zip(("init_pose", "init_shape", "init_cam"), _start(start), strict=True):
            self.register_buffer(name, value[None].clone())

    def forward(self, features: Tensor) -> Regression:
        """Decodes features (N, feature_width)."""
        count = len(features)
        pose, shape, camera = (t.expand(count, -1) for t in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(self.iterations):
            h = self.drop1(self.fc1(torch.cat([features, pose, shape, camera], 1)))
            h = self.drop2(self.fc2(h))
            pose, shape, camera = pose + self.decpose(h), shape + self.decshape(h), camera + self.deccam(h)
        return Regression(pose.reshape(-1, JOINTS, SIX), shape, camera)


def _check_layers(hidden: int, dropout: float) -> None:
    in_range("MAED", "hidden_dim", hidden, "[1, inf)", whole=True)
    in_range("MAED", "dropout", dropout, "[0, 1)")  # at 1 nothing would reach the output


def _start(start: MeanParameters | None) -> MeanParameters:
    sizes = (JOINTS * SIX, SHAPES, CAMERA)
    if start is None:
        pose = torch.tensor(_UPRIGHT6 + _IDENTITY6 * (JOINTS - 1))
        return MeanParameters(pose, torch.zeros(SHAPES), torch.tensor(_START_CAMERA))
    for name, value, size in zip(MeanParameters._fields, start, sizes, strict=True):
        if value.numel() != size:
            raise UserError(f"mean parameters: {name} has {value.numel()} numbers, MAED's decoders take {size}")
    return start


DECODERS = {"ktd": KinematicDecoder, "iterative": IterativeDecoder}
"""Decoders by name."""

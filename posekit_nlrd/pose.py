"""The pose auto-encoder: E_p, D_p and the critics (sections 3.1 to 3.3 of the reconstruction; WACV 2019's design).

Joints are grouped along the kinematic tree. E_p merges limb by limb, D_p splits in the same order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.nn.precision import precise
from posekit_nlrd.geometry import NUM_JOINTS, forward_kinematics, pick, unit
from posekit_nlrd.layers import LEAK, Bounded, linear, mlp

LATENT = 32
LIMBS = ((1, 2, 3, 4), (1, 5, 6, 7), (9, 10, 11, 12), (13, 14, 15, 16))  # right and left arm, right and left leg
TRUNK = (0, 1, 8)
GROUPS = (*LIMBS, TRUNK)


class PoseEncoder(nn.Module):
    """E_p: local unit vectors to a latent, limb by limb.

    Args:
        latent_range: a of the latent's range (-a, a).
    """

    def __init__(self, latent_range: float = 1.0) -> None:
        super().__init__()
        self.limbs = nn.ModuleList(linear(3 * len(group), 32) for group in LIMBS)
        self.trunk = linear(3 * len(TRUNK), 32)
        self.with_trunk = nn.ModuleList(linear(64, 64) for _ in LIMBS)
        self.halves = nn.ModuleList(linear(128, 128) for _ in range(2))
        self.full = linear(256, 512)
        self.out = linear(512, LATENT)
        self.bound = Bounded(latent_range)

    def forward(self, local: Tensor) -> Tensor:
        """Maps local unit vectors (..., 17, 3) to latents (..., 32)."""
        trunk = _leaky(self.trunk(pick(local, TRUNK).flatten(-2)))
        limbs = [_leaky(f(pick(local, group).flatten(-2))) for f, group in zip(self.limbs, LIMBS, strict=True)]
        limbs = [_leaky(f(torch.cat([trunk, x], dim=-1))) for f, x in zip(self.with_trunk, limbs, strict=True)]
        pairs = (limbs[:2], limbs[2:])
        halves = [_leaky(f(torch.cat(pair, dim=-1))) for f, pair in zip(self.halves, pairs, strict=True)]
        bounded: Tensor = self.bound(self.out(_leaky(self.full(torch.cat(halves, dim=-1)))))
        return bounded


class PoseDecoder(nn.Module):
    """D_p: a latent to local unit vectors; E_p's tree the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.ModuleList([linear(LATENT, 512), linear(512, 512)])
        self.full = linear(512, 256)
        self.halves = nn.ModuleList(linear(128, 128) for _ in range(2))
        self.with_trunk = nn.ModuleList(linear(64, 64) for _ in LIMBS)
        self.limbs = nn.ModuleList(linear(32, 3 * len(group)) for group in LIMBS)
        self.trunk = linear(32, 3 * len(TRUNK))

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents (..., 32) to local unit vectors (..., 17, 3), float32; the root's is zero."""
        return unit(self.vectors(latent))

    def vectors(self, latent: Tensor) -> Tensor:
        """Maps latents (..., 32) to local vectors (..., 17, 3) of any length, :meth:`forward` before scaling."""
        x = latent
        for layer in self.into:
            x = _leaky(layer(x))
        halves = [f(_leaky(part)) for f, part in zip(self.halves, self.full(x).chunk(2, -1), strict=True)]
        pairs = [part for half in halves for part in half.chunk(2, -1)]
        parts = [f(_leaky(part)).chunk(2, -1) for f, part in zip(self.with_trunk, pairs, strict=True)]
        trunk = parts[0][0] + parts[1][0] + parts[2][0] + parts[3][0]  # four limbs, four opinions on the trunk
        groups = [f(_leaky(part[1])) for f, part in zip(self.limbs, parts, strict=True)]
        return _joined([*groups, self.trunk(_leaky(trunk))])

    def pose(self, latent: Tensor) -> Tensor:
        """Maps latents (..., 32) to poses (..., 17, 3) with canonical bones, in units."""
        return forward_kinematics(self(latent))


def _joined(groups: list[Tensor]) -> Tensor:
    """Adds up what the groups (..., 3 J) say of each joint: (..., 17, 3)."""
    said: dict[int, Tensor] = {}
    for group, values in zip(GROUPS, groups, strict=True):
        for joint, vector in zip(group, precise(values).unflatten(-1, (-1, 3)).unbind(-2), strict=True):
            said[joint] = said[joint] + vector if joint in said else vector
    # The pelvis is its own parent; times zero, not left out: all of the last layer takes part in every backward.
    said[0] = 0.0 * said[0]
    return torch.stack([said[j] for j in range(NUM_JOINTS)], dim=-2)


class PoseCritic(nn.Module):
    """Judges root-relative poses joint by joint, group by group, and as a whole: 23 logits.

    Args:
        relu_out: ReLU on the logits of the whole pose, as the release has it although fakes aim at -1.
    """

    def __init__(self, relu_out: bool = False) -> None:
        super().__init__()
        self.joint = mlp([3, 32, 32], last_relu=True)
        self.joint_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(NUM_JOINTS, 32)))
        self.joint_bias = nn.Parameter(torch.zeros(NUM_JOINTS))
        self.groups = nn.ModuleList(linear(32 * len(group), 200) for group in GROUPS)
        self.group_logits = nn.ModuleList(linear(200, 1) for _ in GROUPS)
        self.whole = mlp([200 * len(GROUPS), 1024, 1024, 1])
        self.relu_out = relu_out

    def forward(self, pose: Tensor) -> Tensor:
        """Maps poses (..., 17, 3) in units to logits (..., 23): 17 joints, 5 groups, the whole."""
        features = self.joint(pose)
        joints = (features * self.joint_weight).sum(-1) + self.joint_bias
        parts = [F.relu(f(pick(features, group).flatten(-2))) for f, group in zip(self.groups, GROUPS, strict=True)]
        groups = [f(part) for f, part in zip(self.group_logits, parts, strict=True)]
        whole = self.whole(torch.cat(parts, dim=-1))
        return torch.cat([joints, *groups, F.relu(whole) if self.relu_out else whole], dim=-1)


def latent_critic() -> nn.Sequential:
    """Builds the critic of latents (..., 32) that ``adversary: latent`` uses."""
    return mlp([LATENT, 32, 32, 16, 16, 8, 4, 1])


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAK)

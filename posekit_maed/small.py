"""Tokens from the library's small heatmap network, for runs on a CPU."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from posekit.errors import in_range
from posekit.nn import SmallNet
from posekit.nn.joint_tokens import joint_places
from posekit.skeletons import COCO17


class SmallTokens(nn.Module):
    """Tokens of the small network: one per cell of its coarsest map, and one per joint that its heatmaps show.

    A joint's token tells where the joint is seen: the mean of its softmaxed map in half crops from the centre, the
    highest value, and the decoder's feature there; every joint has its own linear map, so that the sum of tokens still
    tells the joints apart. (Not part of the paper, whose hybrid network does not train on a CPU.)

    Args:
        image_size: (W, H) of the crops, px.
        width: Channels C of a token.
        joints: Heatmaps; the shipped weights ``starter`` have COCO's 17.

    Raises:
        UserError: ``joints`` is no positive whole number.
    """

    def __init__(self, image_size: tuple[int, int], width: int, joints: int = len(COCO17)) -> None:
        super().__init__()
        in_range("backbone 'small'", "joints", joints, "[1, inf)", whole=True)
        self.backbone = SmallNet(num_joints=joints)
        cells = [-(-side // 32) for side in image_size]
        self.count = cells[0] * cells[1] + joints
        self.proj = nn.Conv2d(self.backbone.branch_channels[-1], width, 1)
        inputs = 3 + self.backbone.feature_channels
        self.norm = nn.LayerNorm(self.backbone.feature_channels)
        self.joint_weight = nn.Parameter(torch.randn(joints, inputs, width) / inputs**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Returns tokens (B, cells + joints, C) of images (B, 3, H, W)."""
        coarse, features = self._maps(images)
        place, seen = joint_places(self.backbone.final_layer(features), features)
        seen = self.norm(seen)
        joints = torch.einsum("bki,kic->bkc", torch.cat([place.to(seen.dtype), seen], -1), self.joint_weight)
        cells = cast(Tensor, self.proj(coarse)).flatten(2).transpose(1, 2)
        return torch.cat([cells, joints], 1)

    def class_token(self, learned: Tensor, tokens: Tensor) -> Tensor:
        """Returns the class token (B, 1, C): the learned one plus the joints' tokens, so that it knows all places."""
        joints = self.joint_weight.shape[0]
        return learned + tokens[:, -joints:].sum(1, keepdim=True) / joints**0.5

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the coarsest map of the encoder and the decoder's last one."""
        maps = self.backbone.branches(images)
        return maps[-1], self.backbone.decode(maps)

"""ResNet (He et al., CVPR 2016) with the deconvolution head of Simple Baselines (Xiao et al., ECCV 2018).

The trunk has torchvision's parameter names, the head those of the official Simple Baselines repository, so the ImageNet
files of the one and the pose files of the other load by name.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError, in_range
from posekit.nn.blocks import BasicBlock, Bottleneck, HeatmapNetwork, crop_to, heatmap_head, residual_stage

DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
NUM_DECONVS = 3  # from stride 32 to stride 4
DECONV_STD = 0.001


class ResNet(HeatmapNetwork):
    """ResNet trunk, three 4x4 transposed convolutions of stride 2, 1x1 head: heatmaps at stride 4.

    Any image size works; maps have ceil(size / stride) cells.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_joints: Number K of heatmaps; None leaves the head out, and ``forward`` returns the features.
        deconv_channels: Channels of each transposed convolution (256 in the paper).

    Attributes:
        branch_channels: Channels of the maps that :meth:`branches` returns.

    Raises:
        UserError: There is no ResNet of this depth, or ``deconv_channels`` is no positive whole number.
    """

    def __init__(self, depth: int = 50, num_joints: int | None = 17, deconv_channels: int = 256) -> None:
        super().__init__(feature_channels=deconv_channels, stride=4)
        in_range("ResNet", "deconv_channels", deconv_channels, "[1, inf)", whole=True)
        if depth not in DEPTHS:
            raise UserError(f"unknown ResNet depth {depth}; known: {', '.join(map(str, DEPTHS))}")
        block, blocks = DEPTHS[depth]
        planes = (64, 128, 256, 512)
        self.branch_channels = tuple(width * block.expansion for width in planes)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = residual_stage(block, 64, planes[0], blocks[0])
        self.layer2 = residual_stage(block, self.branch_channels[0], planes[1], blocks[1], stride=2)
        self.layer3 = residual_stage(block, self.branch_channels[1], planes[2], blocks[2], stride=2)
        self.layer4 = residual_stage(block, self.branch_channels[2], planes[3], blocks[3], stride=2)
        self.deconv_layers = _deconvolutions(self.branch_channels[3], deconv_channels)
        _init_convs(self)
        self.final_layer = heatmap_head(deconv_channels, num_joints)

    def branches(self, images: Tensor) -> list[Tensor]:
        """Returns the trunk's four maps (B, branch_channels[i], H/(4 2^i), W/(4 2^i)) of images (B, 3, H, W)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Returns the deconvolved map (B, deconv_channels, H/4, W/4) of images (B, 3, H, W)."""
        maps = self.branches(images)
        return crop_to(cast(Tensor, self.deconv_layers(maps[-1])), maps[0])


def _deconvolutions(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(NUM_DECONVS):
        layers += [
            nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        in_channels = channels
    return nn.Sequential(*layers)


def _init_convs(network: nn.Module) -> None:
    """He's normal start for the trunk (torchvision's), N(0, 0.001) for the deconvolutions (Simple Baselines')."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=DECONV_STD)

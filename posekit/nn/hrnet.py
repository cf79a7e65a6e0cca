"""HRNet, the high-resolution network for poses (Sun et al., CVPR 2019, arXiv:1902.09212; IV.A of arXiv:1908.07919).

Parameter names are those of the official pose repository, so its COCO, MPII and ImageNet files load by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import in_range, yes_or_no
from posekit.nn.blocks import (
    BasicBlock,
    Bottleneck,
    HeatmapNetwork,
    conv_bn,
    crop_to,
    heatmap_head,
    residual_stage,
)

STEM_CHANNELS = 64
STAGE_MODULES = (1, 4, 3)  # exchange modules of stages 2, 3 and 4
BLOCKS = 4  # residual blocks per branch between two exchanges
CONV_STD = 0.001


class HRNet(HeatmapNetwork):
    """HRNet-W``width``: four branches at strides 4, 8, 16, 32 with width, 2, 4 and 8 times width channels.

    Any image size works; maps have ceil(size / stride) cells. HRNet-W32 with 17 joints has 28,536,113 parameters and
    7,645,003,776 convolution multiply-adds at 256 x 192 (H x W).

    Args:
        width: Channels of the finest branch (32 and 48 have public weights).
        num_joints: Number K of heatmaps; None leaves the head out, and ``forward`` returns the features.
        multi_scale_output: Keep all four outputs of the last exchange (LOGO-CAP, ImageNet networks). The pose network
            keeps the finest one only.

    Attributes:
        branch_channels: Channels of the maps that :meth:`branches` returns.

    Raises:
        UserError: ``width`` is no positive whole number, or ``multi_scale_output`` neither true nor false.
    """

    def __init__(self, width: int = 32, num_joints: int | None = 17, multi_scale_output: bool = False) -> None:
        super().__init__(feature_channels=width, stride=4)
        in_range("HRNet", "width", width, "[1, inf)", whole=True)
        yes_or_no("HRNet", "multi_scale_output", multi_scale_output)
        widths = [width * 2**i for i in range(4)]
        self.branch_channels = tuple(widths if multi_scale_output else widths[:1])
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = residual_stage(Bottleneck, STEM_CHANNELS, 64, BLOCKS)
        self.transition1 = _transition([64 * Bottleneck.expansion], widths[:2])
        self.stage2 = _stage(widths[:2], STAGE_MODULES[0])
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = _stage(widths[:3], STAGE_MODULES[1])
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = _stage(widths, STAGE_MODULES[2], last_outputs=4 if multi_scale_output else 1)
        _init_convs(self)
        self.final_layer = heatmap_head(width, num_joints)

    def branches(self, images: Tensor) -> list[Tensor]:
        """Returns the last stage's maps, finest first.

        Args:
            images: (B, 3, H, W) normalised RGB.

        Returns:
            With ``multi_scale_output`` four maps (B, width 2^i, H/(4 2^i), W/(4 2^i)), else the first of them.
        """
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        maps = [self.layer1(x)]
        for number in (1, 2, 3):
            transition = cast(nn.ModuleList, getattr(self, f"transition{number}"))
            maps = _add_branch(transition, maps)
            maps = getattr(self, f"stage{number + 1}")(maps)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Returns the finest map (B, width, H/4, W/4) of images (B, 3, H, W)."""
        return self.branches(images)[0]


class ExchangeModule(nn.Module):
    """Residual blocks on every branch, then each output is the sum of all branches brought to its size.

    Args:
        widths: Channels of the branches, finest first.
        num_outputs: How many outputs, finest first, are computed.
    """

    def __init__(self, widths: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(residual_stage(BasicBlock, width, width, BLOCKS) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_bring(widths, source, target) for source in range(len(widths)))
            for target in range(num_outputs)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps one tensor (B, C_i, H_i, W_i) per branch to one per output, of the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [
            F.relu(_fuse(cast(nn.ModuleList, row), maps, target), inplace=True)
            for target, row in enumerate(self.fuse_layers)
        ]


def _fuse(row: nn.ModuleList, maps: list[Tensor], target: int) -> Tensor:
    # From the finest to the coarsest, so that rounding is that of the official network.
    total = crop_to(row[0](maps[0]), maps[target])
    for layer, x in zip(row[1:], maps[1:], strict=True):
        total = total + crop_to(layer(x), maps[target])
    return total


def _bring(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Builds the layers that bring branch ``source`` to the size and width of branch ``target``."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_bn(widths[source], widths[target]), up)
    # Only the last of the strided convolutions changes the width, and it alone has no ReLU.
    steps = [conv_bn(widths[source], widths[source], 3, stride=2, relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, conv_bn(widths[source], widths[target], 3, stride=2))


def _stage(widths: Sequence[int], num_modules: int, last_outputs: int | None = None) -> nn.Sequential:
    outputs = [len(widths)] * (num_modules - 1) + [last_outputs or len(widths)]
    return nn.Sequential(*(ExchangeModule(widths, count) for count in outputs))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Builds the layers that change the branches' widths where they differ and add one coarser branch."""
    kept = [
        nn.Identity() if old == new else conv_bn(old, new, 3, relu=True)
        for old, new in zip(before, after, strict=False)
    ]
    # The official code nests the new branch once more, and its names show that.
    added = [nn.Sequential(conv_bn(before[-1], new, 3, stride=2, relu=True)) for new in after[len(before) :]]
    return nn.ModuleList([*kept, *added])


def _add_branch(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    """Applies a transition; the new branch starts from the coarsest map."""
    return [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]


def _init_convs(network: nn.Module) -> None:
    """Draws convolutions from N(0, 0.001), as the official pose network does; batch norms start at 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=CONV_STD)

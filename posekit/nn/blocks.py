"""Building blocks that all networks share, and what a heatmap network is."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import in_range

HEAD_STD = 0.001  # HRNet and SimpleBaseline start their last layer this close to zero


class HeatmapNetwork(nn.Module):
    """What every heatmap network of the library offers; third-party networks may simply look like it.

    A subclass implements :meth:`features`, sets ``final_layer`` and calls this constructor first.

    Attributes:
        feature_channels: Channels C of :meth:`features`.
        stride: Input pixels per heatmap cell; a map has ceil(H / stride) rows and ceil(W / stride) columns.
        final_layer: 1x1 convolution from C to K channels; an identity in a network built without a head.
    """

    final_layer: nn.Module

    def __init__(self, feature_channels: int, stride: int = 4) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        self.stride = stride

    def features(self, images: Tensor) -> Tensor:
        """Returns the feature map (B, C, H/stride, W/stride) in front of the last layer.

        Args:
            images: (B, 3, H, W) normalised RGB.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Returns raw heatmaps (B, K, H/stride, W/stride) of normalised images (B, 3, H, W)."""
        return cast(Tensor, self.final_layer(self.features(images)))


def heatmap_head(channels: int, num_joints: int | None) -> nn.Module:
    """Builds the 1x1 convolution to K maps with HRNet's start (weights N(0, 0.001), bias 0).

    Args:
        channels: Channels of the feature map.
        num_joints: K; None gives an identity, for networks that are used for their features only.

    Raises:
        UserError: ``num_joints`` is no positive whole number.
    """
    if num_joints is None:
        return nn.Identity()
    in_range("heatmap network", "num_joints", num_joints, "[1, inf)", whole=True, none=True)
    head = nn.Conv2d(channels, num_joints, kernel_size=1)
    nn.init.normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(cast(Tensor, head.bias))
    return head


def conv_bn(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, relu: bool = False) -> nn.Sequential:
    """Builds a same-padded convolution without bias, batch norm and, if asked for, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18/34; names as in torchvision and HRNet).

    Args:
        in_channels: Channels of the input.
        planes: Channels of the output.
        stride: Stride of the first convolution; the shortcut is projected where stride or width change.
    """

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, planes, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + _skip(self.downsample, x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut (ResNet-50 and deeper; the stride sits in the 3x3 one).

    Args:
        in_channels: Channels of the input.
        planes: Channels in the middle; the output has four times as many.
        stride: Stride of the 3x3 convolution.
    """

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, 4 planes, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + _skip(self.downsample, x), inplace=True)


def residual_stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, planes: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """Stacks residual blocks; only the first one strides."""
    layers = [block(in_channels, planes, stride)]
    layers += [block(planes * block.expansion, planes) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """Cuts the right and bottom rim of ``x`` (..., H', W') off to the size of ``like`` (..., H, W).

    Where the input is no multiple of the coarsest stride, an upsampled map is a few cells too large. Cutting keeps cell
    (0, 0) over pixel (0, 0), while resizing to a ratio other than 2 would shift the joints.
    """
    return x[..., : like.shape[-2], : like.shape[-1]]


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return conv_bn(in_channels, out_channels, stride=stride)


def _skip(shortcut: nn.Sequential | None, x: Tensor) -> Tensor:
    return x if shortcut is None else cast(Tensor, shortcut(x))

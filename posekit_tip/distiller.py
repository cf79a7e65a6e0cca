"""Motion of part groups: encoders that observe it, distillers that keep what is useful of it, and their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV_STD = 0.001
REDUCTION = 4


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut: 1x1 without norm where the width changes.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, h, w) to (B, out_channels, h, w)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.skip is None else self.skip(x)), inplace=True)


class GroupDistiller(nn.Module):
    """Weighs the channels of a group's observed motion and refines what is left: M to Z.

    Args:
        width: Channels D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // REDUCTION, 1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1),
            nn.Sigmoid(),
        )
        self.refine = ResidualBlock(width, width)

    def forward(self, motion: Tensor) -> Tensor:
        """Maps motion (B, D, h, w) to its distilled form of the same shape."""
        return cast(Tensor, self.refine(motion * self.gate(motion)))


class GroupMotion(nn.Module):
    """Encoder, distiller and task head of every part group.

    The task head (1x1, zero at the start) is for the complementary term alone and does not run in inference.

    Args:
        sizes: Joints of each group.
        shared: Channels that all groups see (feature differences).
        maps: Maps that a group sees per joint of its own.
        width: Channels D of a group's feature.
    """

    def __init__(self, sizes: Sequence[int], shared: int, maps: int, width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(ResidualBlock(shared + size * maps, width) for size in sizes)
        self.distillers = nn.ModuleList(GroupDistiller(width) for _ in sizes)
        self.task_heads = nn.ModuleList(nn.Conv2d(width, size, 1) for size in sizes)

    def forward(self, shared: Tensor, own: Sequence[Tensor | None]) -> list[Tensor]:
        """Returns the distilled feature (B, D, h, w) of each group.

        Args:
            shared: (B, shared, h, w) what all groups see.
            own: What each group sees besides, (B, size * maps, h, w), or None.
        """
        inputs = [shared if maps is None else torch.cat([shared, maps], dim=1) for maps in own]
        steps = zip(inputs, self.encoders, self.distillers, strict=True)
        return [distiller(encoder(x)) for x, encoder, distiller in steps]

    def additions(self, distilled: Sequence[Tensor]) -> list[Tensor]:
        """Returns what each group adds to the rough maps of its joints, (B, size, h, w) each."""
        return [head(z) for head, z in zip(self.task_heads, distilled, strict=True)]


def init_weights(module: nn.Module) -> None:
    """Draws convolutions from N(0, 0.001) with bias 0, as DCPose and FAMI-Pose do; batch norms start at 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=CONV_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

"""The convolutional front of a hybrid vision transformer: a ResNet with group norm and standardised weights.

Kolesnikov et al., "Big Transfer (BiT)", ECCV 2020, as the stem of ViT hybrids (Dosovitskiy et al., ICLR 2021): three
stages of post-activation bottlenecks, convolutions whose weights are standardised, TensorFlow's SAME padding. Names
are those of the public ViT hybrid weights (``stem.conv``, ``stages.0.blocks.0.conv1``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError, each_in_range, in_range
from posekit.nn.recompute import recompute

WEIGHT_EPS = 1e-5
FRUGAL_STAGES = 2  # their blocks are computed twice in training, for 4 % more arithmetic and 100 MB a clip of 4 less


class _Standardize(torch.autograd.Function):
    """``(w - mean) / (std + eps)`` of each output channel; keeps its result alone, as the convolution does anyway."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor) -> Tensor:
        axes = (1, 2, 3)
        # Two passes over the centred weight: several times faster than var_mean on a CPU.
        centred = weight - weight.mean(axes, keepdim=True)
        deviation = centred.square().mean(axes, keepdim=True).sqrt()
        scale = 1 / (deviation + WEIGHT_EPS)
        result = centred.mul_(scale)
        # d(scale)/d(deviation) = -scale^2, d(deviation)/dw = (w - mean) / (n deviation)
        ctx.save_for_backward(result, scale, 1 / (deviation * scale).clamp(min=1e-12))
        return result

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        result, scale, stretch = ctx.saved_tensors  # type: ignore[attr-defined]
        axes = (1, 2, 3)
        along = (grad * result).mean(axes, keepdim=True) * stretch
        return torch.addcmul(grad - grad.mean(axes, keepdim=True), result, along, value=-1).mul_(scale)


def standardize(weight: Tensor) -> Tensor:
    """Standardises a convolution's weight (O, I, h, w): ``(w - mean) / (std + 1e-5)`` of each output channel.

    The deviation is the biased one, and the small constant stands outside the root.
    """
    return cast(Tensor, _Standardize.apply(weight))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the padding before and after an axis by TensorFlow's SAME rule: the output has ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class StdConv2d(nn.Conv2d):
    """Convolution without bias, with standardised weights and SAME padding.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Side of the kernel.
        stride: Stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, I, H, W) to (B, O, ceil(H / stride), ceil(W / stride))."""
        weight = standardize(self.weight)
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (same_padding(n, kernel, stride) for n in x.shape[-2:])
        if top == bottom and left == right:
            return F.conv2d(x, weight, stride=stride, padding=(top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=stride)


def same_max_pool(x: Tensor) -> Tensor:
    """3x3 max pooling (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)) with SAME padding of minus infinity."""
    # A window that hangs over the far edge is what ceil_mode allows, so nothing needs to be copied.
    padding = [same_padding(n, 3, 2)[0] for n in x.shape[-2:]]
    return F.max_pool2d(x, 3, 2, padding=padding, ceil_mode=True)


class GroupBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 standardised convolution, group norm after each, and a shortcut.

    In training little is kept for the backward pass (:func:`~posekit.nn.recompute.recompute`): the input and the
    outputs of the first two convolutions; with ``frugal`` the input alone. Norms, rectifiers, standardised weights and
    the last convolution, or the whole block, are then computed twice.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output; the middle has a quarter.
        stride: Stride of the 3x3 convolution and of the shortcut.
        groups: Groups of the norms.
        project: Whether the shortcut is a convolution (of the first block of a stage).
        frugal: Keep the input only. Early blocks cost little and would keep much.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, groups: int, project: bool, frugal: bool = False
    ) -> None:
        super().__init__()
        middle = channels // 4
        self.frugal = frugal
        self.downsample = _Projection(in_channels, channels, stride, groups) if project else None
        self.conv1 = StdConv2d(in_channels, middle, 1)
        self.norm1 = nn.GroupNorm(groups, middle)
        self.conv2 = StdConv2d(middle, middle, 3, stride)
        self.norm2 = nn.GroupNorm(groups, middle)
        self.conv3 = StdConv2d(middle, channels, 1)
        self.norm3 = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        return recompute(self._run, x) if self.frugal else self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        aside = x if self.downsample is None else recompute(self.downsample, x)
        return recompute(self._third, recompute(self._second, recompute(self.conv1, x)), aside)

    def _second(self, y: Tensor) -> Tensor:
        return cast(Tensor, self.conv2(F.relu(self.norm1(y), inplace=True)))

    def _third(self, y: Tensor, aside: Tensor) -> Tensor:
        y = self.norm3(self.conv3(F.relu(self.norm2(y), inplace=True)))
        return F.relu(y.add_(aside), inplace=True)


class _Projection(nn.Module):
    """The shortcut of a stage's first block: strided 1x1 convolution and norm."""

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = StdConv2d(in_channels, channels, 1, stride)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.conv(x)))


class _Stem(nn.Module):
    """7x7 convolution of stride 2, norm, rectifier, max pool of stride 2."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv = StdConv2d(3, channels, 7, 2)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, images: Tensor) -> Tensor:
        return recompute(self._run, images)

    def _run(self, images: Tensor) -> Tensor:
        return same_max_pool(F.relu(self.norm(self.conv(images)), inplace=True))


class _Stage(nn.Module):
    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int, groups: int, frugal: bool) -> None:
        super().__init__()
        first = GroupBottleneck(in_channels, channels, stride, groups, project=True, frugal=frugal)
        rest = [GroupBottleneck(channels, channels, 1, groups, project=False, frugal=frugal) for _ in range(blocks - 1)]
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(x))


class HybridResNet(nn.Module):
    """ResNet-50's first three stages, weight-standardised and group-normed: a map at stride 16 of 1024 channels.

    Args:
        blocks: Bottlenecks of each stage; 3, 4, 9 in the ViT hybrid.
        channels: Output channels of each stage.
        stem_channels: Channels of the first convolution.
        groups: Groups of the norms.

    Attributes:
        out_channels: Channels of the map.
        stride: Image pixels per cell.

    Raises:
        UserError: A number that is not positive and whole, lengths that differ, or channels that are no multiple of 4
            groups.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 4, 9),
        channels: Sequence[int] = (256, 512, 1024),
        stem_channels: int = 64,
        groups: int = 32,
    ) -> None:
        super().__init__()
        owner = "the hybrid network"
        blocks = each_in_range(owner, "blocks", blocks, "[1, inf)", whole=True)
        channels = each_in_range(owner, "channels", channels, "[1, inf)", whole=True)
        for name, value in {"stem_channels": stem_channels, "groups": groups}.items():
            in_range(owner, name, value, "[1, inf)", whole=True)
        if len(blocks) != len(channels):
            raise UserError(
                f"the hybrid network's blocks {list(blocks)} and channels {list(channels)} differ in length"
            )
        if stem_channels % groups or any(width % (4 * groups) for width in channels):
            raise UserError(
                f"the hybrid network's channels {list(channels)} must be multiples of 4 x {groups} groups, and "
                f"stem_channels={stem_channels} of {groups}"
            )
        self.out_channels = channels[-1]
        self.stride = 4 * 2 ** (len(blocks) - 1)
        self.stem = _Stem(stem_channels, groups)
        widths = [stem_channels, *channels]
        self.stages = nn.ModuleList(
            _Stage(before, after, count, 2 if i else 1, groups, frugal=i < FRUGAL_STAGES)
            for i, (before, after, count) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Returns the map (B, out_channels, ceil(H / stride), ceil(W / stride)) of images (B, 3, H, W)."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return cast(Tensor, x)

"""The network: a backbone, three heads on its joined maps, and the message passing of a person's joints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError, in_range
from posekit.nn import HeatmapNetwork, HRNet, SmallNet, build_backbone
from posekit.nn.blocks import conv_bn
from posekit.nn.precision import full_precision, precise
from posekit_logocap.message_passing import MessagePassing, folded_norm

STRIDE = 4
GRID = 32  # px: inputs are extended to multiples of the backbones' total stride


class DenseMaps(NamedTuple):
    """What the heads say of a picture, at a quarter of its size."""

    heatmaps: Tensor  # (B, K + 1, h, w) raw: K joints, then the person's centre
    offsets: Tensor  # (B, 2 K, h, w) cells: x0, y0, x1, ..., from the joint to the cell (cell - joint)
    embedding: Tensor  # (B, C, h, w) features for the message passing


class LogoCapNetwork(nn.Module):
    """LOGO-CAP's network; names are those of the official code.

    HRNets give all four branches, upsampled to stride 4 and joined (480 channels for W32, 720 for W48). The small
    network gives its decoder's last map and the encoder's four; other networks their last map.

    Args:
        backbone: Name of the backbone, e.g. ``hrnet_w32``, ``small``.
        num_joints: K.
        backbone_options: Further arguments of the backbone.
        embedding: Channels of the message passing's features.
        heatmap_channels: Hidden channels of the heatmap head; None takes the backbone's width.
        offset_channels: Hidden channels of the offset head.
        message_channels: Channels of the message passing.
        attention_kernels: Affine maps of its attentive norm.

    Raises:
        UserError: Unknown backbone or option, a stride other than 4, or channels that are no positive whole number.
    """

    def __init__(
        self,
        backbone: str = "hrnet_w32",
        num_joints: int = 17,
        backbone_options: dict[str, Any] | None = None,
        embedding: int = 64,
        heatmap_channels: int | None = None,
        offset_channels: int = 256,
        message_channels: Sequence[int] = (512, 256, 128),
        attention_kernels: int = 20,
    ) -> None:
        super().__init__()
        for name, width in (("embedding", embedding), ("offset_channels", offset_channels)):
            in_range("LogoCap", name, width, "[1, inf)", whole=True)
        in_range("LogoCap", "heatmap_channels", heatmap_channels, "[1, inf)", whole=True, none=True)
        options = dict(backbone_options or {})
        if backbone.startswith("hrnet"):
            options.setdefault("multi_scale_output", True)
        self.num_joints, self.embedding = num_joints, embedding
        self.backbone = build_backbone(backbone, num_joints=None, **options)
        if self.backbone.stride != STRIDE:
            raise UserError(f"LogoCap needs a backbone of stride {STRIDE}; {backbone} has {self.backbone.stride}")
        channels = _joined_channels(self.backbone)
        hidden = heatmap_channels or self.backbone.feature_channels
        self.transition_cls = _reduce(channels, hidden)
        self.transition_reg = _reduce(channels, offset_channels)
        self.final_layer_cls = nn.Conv2d(hidden, num_joints + 1, 1)
        self.final_layer_reg = nn.Conv2d(offset_channels, 2 * num_joints, 1)
        self.transition_embedding = _reduce(channels, embedding)
        self.joints_mlp = MessagePassing(num_joints, embedding, message_channels, attention_kernels)

    def branches(self, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Returns the backbone's maps, the first at stride 4, and how many rows and columns of that belong to images.

        Images (B, 3, H, W) of any size are extended to multiples of the backbone's stride.
        """
        height, width = images.shape[-2:]
        missing = (_multiple(width, GRID) - width, _multiple(height, GRID) - height)
        maps = _pyramid(self.backbone, F.pad(images, (0, missing[0], 0, missing[1])))
        return maps, (_multiple(height, STRIDE) // STRIDE, _multiple(width, STRIDE) // STRIDE)

    def forward(self, images: Tensor) -> DenseMaps:
        """Returns heatmaps, offsets and embedding (B, …, ceil(H / 4), ceil(W / 4)) of images (B, 3, H, W).

        A 1x1 convolution of joined, upsampled maps is the sum of those of the maps, upsampled: so the heads' first
        layers run at each map's own resolution, and the joined map is never made.
        """
        maps, (height, width) = self.branches(images)
        return DenseMaps(
            self._heat(_joined_head(self.transition_cls, maps))[..., :height, :width],
            self.final_layer_reg(_joined_head(self.transition_reg, maps))[..., :height, :width],
            _joined_head(self.transition_embedding, maps)[..., :height, :width],
        )

    def _heat(self, hidden: Tensor) -> Tensor:
        """Returns heatmaps, in float32 also under autocast: bfloat16 would tie neighbouring cells, and lose people."""
        layer = self.final_layer_cls
        with full_precision(hidden):
            return F.conv2d(precise(hidden), precise(layer.weight), None if layer.bias is None else precise(layer.bias))


def _reduce(in_channels: int, out_channels: int) -> nn.Sequential:
    """Builds a head's first layer."""
    return conv_bn(in_channels, out_channels, relu=True)


def _joined_head(head: nn.Sequential, maps: list[Tensor]) -> Tensor:
    """Applies a head's first layer to joined maps; in inference with its norm folded into the weights."""
    weight, norm, bias = cast(nn.Conv2d, head[0]).weight, cast(nn.BatchNorm2d, head[1]), None
    if not norm.training and not torch.is_grad_enabled():
        scale, bias = folded_norm(norm)
        weight = weight * scale[:, None, None, None]
    parts = weight.split([x.shape[1] for x in maps], dim=1)
    hidden = F.conv2d(maps[0], parts[0], bias)
    for x, part in zip(maps[1:], parts[1:], strict=True):
        hidden += _upsample(F.conv2d(x, part), hidden)
    return F.relu(hidden if bias is not None else norm(hidden), inplace=True)


def _joined_channels(backbone: HeatmapNetwork) -> int:
    if isinstance(backbone, HRNet):
        return sum(backbone.branch_channels)
    own = backbone.feature_channels
    return own + sum(backbone.branch_channels) if isinstance(backbone, SmallNet) else own


def _pyramid(backbone: HeatmapNetwork, images: Tensor) -> list[Tensor]:
    """Returns a backbone's maps, finest first; the first has stride 4."""
    if isinstance(backbone, HRNet):
        return backbone.branches(images)
    if not isinstance(backbone, SmallNet):
        return [backbone.features(images)]
    maps = backbone.branches(images)
    return [backbone.decode(maps), *maps]


def _multiple(length: int, step: int) -> int:
    """Returns the next multiple; without ``%`` of a negative number, which ``torch.compile`` has not for any size."""
    return (length + step - 1) // step * step


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

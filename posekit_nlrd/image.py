"""G: a picture to a pose latent (section 3.5): a residual trunk to stride 16, strided convolutions, a deep head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from posekit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from posekit.errors import UserError, each_in_range, one_of
from posekit.nn import BACKBONES, ResNet, SmallNet, build_backbone
from posekit_nlrd.joint_head import HeatmapTrunk, JointHead
from posekit_nlrd.layers import Bounded, linear
from posekit_nlrd.pose import LATENT

LAYERS = ("layer1", "layer2", "layer3")
TRUNKS = ("tiny", *(name for name in BACKBONES if name == "small" or name.startswith("resnet")))
WIDTHS = (16, 24, 32, 48)
HEAD_CONVS = (512, 256, 128)
HEAD_WIDTHS = (1024, 1024, 512, 512, 256, 256, 128, 128)
NORMALIZATIONS = ("imagenet", "release")
HEADS = ("convs", "joints")


class Trunk(nn.Module):
    """A backbone cut after its third stage (stride 16; Res-4F of ResNet-50), its stages named as torchvision's.

    Args:
        name: ``resnet50`` and other ResNets, ``small`` (posekit's small network), or ``tiny`` (three convolutions).
        options: Options of the backbone.

    Attributes:
        channels: Channels of the result.

    Raises:
        UserError: There is no such backbone, or an option is not one of its.
    """

    def __init__(self, name: str = "resnet50", **options: Any) -> None:
        super().__init__()
        one_of("backbone of NLRD", name, TRUNKS)
        stages: Sequence[nn.Module]
        if name == "tiny":
            if unknown := set(options) - {"widths"}:
                raise UserError(f"backbone 'tiny' has no option {min(unknown)!r}; its options: widths")
            widths = each_in_range("backbone 'tiny'", "widths", options.get("widths", WIDTHS), "[1, inf)", whole=True)
            if len(widths) != len(WIDTHS):
                raise UserError(f"backbone 'tiny': widths must be four numbers, not {widths}")
            self.stem: nn.Module = _tiny_stage(3, widths[0])
            stages = [_tiny_stage(a, b) for a, b in pairwise(widths)]
            self.channels = int(widths[-1])
        else:
            network = build_backbone(name, num_joints=None, **options)
            self.channels = int(cast(Any, network).branch_channels[2])
            stages = self._take(network)
        self.layer1, self.layer2, self.layer3 = stages

    def _take(self, network: nn.Module) -> Sequence[nn.Module]:
        if isinstance(network, SmallNet):
            self.stem = network.stem
            return list(network.stages)[:3]
        assert isinstance(network, ResNet)
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = nn.ReLU(inplace=True), network.maxpool
        return [network.layer1, network.layer2, network.layer3]

    def before(self, images: Tensor, layer: str) -> Tensor:
        """Returns what enters a stage: the part of the trunk that stays as it is when that stage adapts."""
        x = self.stem(images) if hasattr(self, "stem") else self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in LAYERS[: LAYERS.index(layer)]:
            x = getattr(self, name)(x)
        return cast(Tensor, x)

    def after(self, x: Tensor, layer: str) -> Tensor:
        """Runs a stage and those behind it on what enters it."""
        for name in LAYERS[LAYERS.index(layer) :]:
            x = getattr(self, name)(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, W) to features (B, channels, H/16, W/16)."""
        return self.after(self.before(images, LAYERS[0]), LAYERS[0])


def _heatmap_trunk(options: dict[str, Any]) -> HeatmapTrunk:
    try:
        return HeatmapTrunk(**options)
    except TypeError as error:
        raise UserError(f"backbone 'small': {error}") from None


def trunk_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the small network's ``stages.0`` ... to the ``layer1`` ... of :class:`Trunk`; other names pass."""

    def renamed(name: str) -> str:
        before, found, after = name.partition("stages.")
        number = after.partition(".")[0]
        return f"{before}layer{int(number) + 1}{after[len(number) :]}" if found and number.isdigit() else name

    return {renamed(name): value for name, value in state.items()}


def _tiny_stage(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class LatentHead(nn.Module):
    """Strided convolutions and fully connected layers from features to the latent.

    Args:
        channels: Channels of the features.
        cells: (rows, columns) of the features.
        convs: Channels of the 3x3 convolutions; the first one strides.
        widths: Fully connected layers; the first one's output serves the contrastive loss.
        latent_range: a of the latent's range (-a, a).
    """

    def __init__(
        self,
        channels: int,
        cells: tuple[int, int],
        convs: Sequence[int] = HEAD_CONVS,
        widths: Sequence[int] = HEAD_WIDTHS,
        latent_range: float = 1.0,
    ) -> None:
        super().__init__()
        steps = zip([channels, *convs[:-1]], convs, strict=True)
        self.convs = nn.Sequential(*(_conv(a, b, 2 if i == 0 else 1) for i, (a, b) in enumerate(steps)))
        rows, columns = (-(-side // 2) for side in cells)
        sizes = [convs[-1] * rows * columns, *widths]
        self.layers = nn.ModuleList(linear(a, b) for a, b in pairwise(sizes))
        self.out = linear(sizes[-1], LATENT)
        self.bound = Bounded(latent_range)
        self.feature_size = int(widths[0])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps features (B, C, h, w) to latents (B, 32) and the first layer's output (B, feature_size)."""
        x = self.convs(features).flatten(1)
        found = []
        for layer in self.layers:
            x = layer(x).relu()
            found.append(x)
        return self.bound(self.out(x)), found[0]


def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(cast(Tensor, convolution.bias))
    return nn.Sequential(convolution, nn.ReLU())


class ImageEncoder(nn.Module):
    """G: normalised pictures to pose latents.

    Args:
        backbone: See :class:`Trunk`.
        backbone_options: Options of the backbone.
        image_size: (W, H) of the pictures, px; the head is made for it.
        head_convs: See :class:`LatentHead`.
        head_widths: See :class:`LatentHead`.
        head: ``convs`` (the paper's), or ``joints`` for the small backbone: see :mod:`posekit_nlrd.joint_head`.
        latent_range: a of the latent's range (-a, a).
        normalization: ``imagenet`` takes pictures as posekit gives them, ``release`` turns them to RGB / 255 - 0.4.

    Raises:
        UserError: An unknown name, channels that are no positive whole numbers, or pictures smaller than 32 px.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        image_size: tuple[int, int] = (224, 224),
        head_convs: Sequence[int] = HEAD_CONVS,
        head_widths: Sequence[int] = HEAD_WIDTHS,
        latent_range: float = 1.0,
        normalization: str = "imagenet",
        head: str = "convs",
    ) -> None:
        super().__init__()
        if min(image_size) < 32:
            raise UserError(f"NLRD needs pictures of at least 32 x 32 px, not {list(image_size)}")
        one_of("normalization", normalization, NORMALIZATIONS)
        head_convs = each_in_range("NLRD", "head_convs", head_convs, "[1, inf)", whole=True)
        head_widths = each_in_range("NLRD", "head_widths", head_widths, "[1, inf)", whole=True)
        one_of("head of NLRD", head, HEADS)
        if head == "joints" and backbone != "small":
            raise UserError(f"head 'joints' needs the heatmaps of backbone 'small', not {backbone!r}")
        self.image_size = image_size
        self.trunk: Trunk | HeatmapTrunk
        self.head: LatentHead | JointHead
        if head == "joints":
            self.trunk = _heatmap_trunk(backbone_options or {})
            self.head = JointHead(self.trunk, image_size, head_widths, latent_range)
        else:
            self.trunk = Trunk(backbone, **(backbone_options or {}))
            cells = (-(-image_size[1] // 16), -(-image_size[0] // 16))
            self.head = LatentHead(self.trunk.channels, cells, head_convs, head_widths, latent_range)
        self.normalization = normalization
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalize(self, images: Tensor) -> Tensor:
        """Turns posekit's pictures into those the trunk was made for."""
        if self.normalization == "release":
            return images * self.deviation + self.mean - 0.4
        return images

    def features(self, images: Tensor, frozen_before: str | None = None) -> tuple[Tensor, Tensor]:
        """Returns latents (B, 32) and the contrastive features of pictures (B, 3, H, W).

        Args:
            images: Normalised pictures.
            frozen_before: No gradient flows into the stages before this one, and nothing is kept for it.
        """
        images = self.normalize(images).contiguous(memory_format=torch.channels_last)
        if frozen_before is None:
            found: tuple[Tensor, Tensor] = self.head(self.trunk(images))
            return found
        trunk: Any = self.trunk
        with torch.no_grad():
            x = trunk.before(images, frozen_before)
        found = self.head(trunk.after(x, frozen_before))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Returns pose latents (B, 32) of pictures (B, 3, H, W)."""
        return self.features(images)[0]

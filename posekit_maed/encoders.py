"""Encoders: from the frames of clips to one feature a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from posekit.errors import UserError, in_range, one_of
from posekit.nn import ResNet
from posekit.nn.hybrid import HybridResNet
from posekit_maed.attention import NORM_EPS, TIMED_MODES, Block
from posekit_maed.small import SmallTokens

INIT_STD = 0.02  # at the paper's width; narrower layers start larger, so that their outputs have the same size
PAPER_WIDTH = 768


class PatchEmbed(nn.Module):
    """Tokens of the hybrid ResNet's map: a 1x1 convolution with bias, cells row by row.

    Args:
        image_size: (W, H) of the crops, px.
        width: Channels C of a token.
        backbone_options: Arguments of :class:`~posekit.nn.hybrid.HybridResNet`.
    """

    def __init__(self, image_size: tuple[int, int], width: int, **backbone_options: Any) -> None:
        super().__init__()
        self.backbone = HybridResNet(**backbone_options)
        stride = self.backbone.stride
        self.count = -(-image_size[0] // stride) * -(-image_size[1] // stride)
        self.proj = nn.Conv2d(self.backbone.out_channels, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Returns tokens (B, cells, C) of images (B, 3, H, W)."""
        return cast(Tensor, self.proj(self.backbone(images)).flatten(2).transpose(1, 2))

    def class_token(self, learned: Tensor, tokens: Tensor) -> Tensor:
        """Returns the class token (1, 1, C): the learned one."""
        return learned


BACKBONES: dict[str, type[PatchEmbed] | type[SmallTokens]] = {"hybrid": PatchEmbed, "small": SmallTokens}
"""What makes tokens of a crop, by name."""


class _PreLogits(nn.Module):
    """A linear layer and a tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.fc(x))


class SpatialTemporalEncoder(nn.Module):
    """The STE: tokens of every frame, position embeddings, transformer blocks, the class token of each frame.

    While training, the last block's MLP and projection are evaluated for the class token alone: nothing reads the
    other tokens, and their gradient is zero.

    Args:
        image_size: (W, H) of the crops, px.
        st_mode: Arrangement of attention, one of :data:`~posekit_maed.attention.MODES`.
        num_blocks: Transformer blocks.
        num_heads: Heads.
        width: Channels C of a token and of the feature.
        max_frames: Longest clip (rows of the temporal embedding).
        backbone: One of :data:`BACKBONES`.
        backbone_options: Arguments of the backbone.

    Attributes:
        out_width: Channels of the feature.

    Raises:
        UserError: An unknown name, or a size that is no positive whole number.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (224, 224),
        st_mode: str = "parallel",
        num_blocks: int = 6,
        num_heads: int = 12,
        width: int = 768,
        max_frames: int = 16,
        backbone: str = "hybrid",
        backbone_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        one_of("backbone of MAED", backbone, BACKBONES)
        for name, value in {"num_blocks": num_blocks, "embed_dim": width, "max_frames": max_frames}.items():
            in_range("MAED", name, value, "[1, inf)", whole=True)
        self.image_size = image_size
        self.max_frames = max_frames
        self.out_width = width
        try:
            self.patch_embed = BACKBONES[backbone](image_size, width, **(backbone_options or {}))
        except TypeError as error:
            raise UserError(f"backbone_options of {backbone}: {error}") from None
        tokens = self.patch_embed.count + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, max_frames, 1, width)) if st_mode in TIMED_MODES else None
        self.blocks = nn.ModuleList(Block(width, num_heads, st_mode) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.pre_logits = _PreLogits(width)
        self._init_weights()

    def _init_weights(self) -> None:
        for embedding in (self.cls_token, self.pos_embed, self.temp_embed):
            if embedding is not None:
                nn.init.trunc_normal_(embedding, std=INIT_STD)
        std = INIT_STD * (PAPER_WIDTH / self.out_width) ** 0.5
        for part in (self.blocks, self.pre_logits):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=std)
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encodes clips.

        Args:
            images: (B, T, 3, H, W) normalised RGB.
            valid: (B, T) bool, False on padding, which no other frame attends to; None: all frames count.

        Returns:
            (B T, C) features in [-1, 1].

        Raises:
            UserError: Frames of another size than the network's, or clips longer than ``max_frames``.
        """
        clips, frames = images.shape[:2]
        self._check(images)
        x = self.embed(images.flatten(0, 1), clips, frames, valid)
        for block in self.blocks[:-1]:
            x = block(x, frames, valid)
        x = self.blocks[-1](x, frames, valid, count=1 if self.training else None)
        return cast(Tensor, self.pre_logits(self.norm(x[:, 0])))

    def embed(self, images: Tensor, clips: int, frames: int, valid: Tensor | None = None) -> Tensor:
        """Returns tokens (B T, N, C) of frames (B T, 3, H, W), class token first, with position embeddings."""
        tokens = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        first = self.patch_embed.class_token(self.cls_token, tokens)
        x = torch.cat([first.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], 1)
        x = x.add_(self.pos_embed)
        if self.temp_embed is not None:
            timed = self.temp_embed[:, :frames]
            if valid is not None:
                # The first real frame is frame 0, so that padding in front changes nothing.
                place = (valid.long().cumsum(1) - 1).clamp(min=0)
                timed = self.temp_embed[0, place]
            x = x.view(clips, frames, *x.shape[1:]).add_(timed).flatten(0, 1)
        return x

    @property
    def longest(self) -> int | None:
        """Most frames of a clip; None where frames have no place of their own."""
        return None if self.temp_embed is None else self.max_frames

    def _check(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if (width, height) != self.image_size:
            raise UserError(
                f"frames are {width} x {height}, but the model's image_size is {list(self.image_size)}: "
                "give the data module and the model the same image_size"
            )
        if self.longest is not None and images.shape[1] > self.longest:
            raise UserError(
                f"clips of {images.shape[1]} frames are longer than max_frames={self.max_frames}: "
                "set data.frames or model.max_frames"
            )


class CnnEncoder(ResNet):
    """ResNet-50 with global average pooling, frame by frame: the encoder of the published code's first stage.

    Attributes:
        out_width: Channels of the feature, 2048.
    """

    def __init__(self) -> None:
        super().__init__(depth=50, num_joints=None)
        self.deconv_layers = nn.Sequential()  # the heatmap head's; it would never get a gradient
        self.out_width = self.branch_channels[-1]

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Returns features (B T, 2048) of clips (B, T, 3, H, W); frames do not see each other, so ``valid`` is moot."""
        frames = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.branches(frames)[-1].mean((2, 3))


ENCODERS = ("ste", "cnn")
"""Encoders by name."""


def build_encoder(name: str, image_size: Sequence[int], **options: Any) -> SpatialTemporalEncoder | CnnEncoder:
    """Builds an encoder; ``options`` are those of :class:`SpatialTemporalEncoder` (``cnn`` takes none).

    Raises:
        UserError: The name is unknown.
    """
    one_of("encoder", name, ENCODERS)
    if name == "cnn":
        return CnnEncoder()
    return SpatialTemporalEncoder((int(image_size[0]), int(image_size[1])), **options)

"""A plain vision transformer with two upsampling layers, as ViTPose has it (Xu et al., NeurIPS 2022, arXiv:2204.12484).

Parameter names are those of ViTPose's public code, so its weight files load by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.init import normal_, trunc_normal_, zeros_

from posekit.errors import UserError, each_in_range, in_range
from posekit.nn.blocks import HEAD_STD, HeatmapNetwork, heatmap_head

PATCH = 16
DECODER_CHANNELS = 256
NORM_EPS = 1e-6


class ViT(HeatmapNetwork):
    """Patches of 16 x 16, transformer blocks at stride 16, and two transposed convolutions to stride 4.

    Args:
        num_joints: Number K of heatmaps; None leaves the head out.
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads; they divide ``width``.
        image_size: [W, H] that the positions are learned for, multiples of 16; at other sizes they are interpolated.

    Raises:
        UserError: A value does not fit.
    """

    def __init__(
        self,
        num_joints: int | None = 17,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        image_size: Sequence[int] = (192, 256),
    ) -> None:
        for name, value in {"width": width, "depth": depth, "heads": heads}.items():
            in_range("ViT", name, value, "[1, inf)", whole=True)
        if width % heads:
            raise UserError(f"ViT: heads must divide the width {width}, not be {heads}")
        size = each_in_range("ViT", "image_size", image_size, "[1, inf)", whole=True)
        if len(size) != 2:
            raise UserError(f"ViT: image_size must be [W, H], two whole numbers of px, not {size}")
        super().__init__(feature_channels=DECODER_CHANNELS, stride=4)
        self.grid = _grid(size[1], size[0])
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH, padding=2)})
        # The first row belongs to the class token of the networks it is trained from; it is added to all patches.
        self.pos_embed = Parameter(torch.zeros(1, self.grid[0] * self.grid[1] + 1, width))
        trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.deconv_layers = nn.Sequential(*_double(width), *_double(DECODER_CHANNELS))
        self.final_layer = heatmap_head(DECODER_CHANNELS, num_joints)
        self._init_weights()

    def features(self, images: Tensor) -> Tensor:
        """Returns the decoder's map (B, 256, H/4, W/4) of images (B, 3, H, W).

        Raises:
            UserError: A side of the images is no multiple of 16.
        """
        grid = _grid(*images.shape[-2:])
        tokens = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self._positions(grid)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.last_norm(tokens)
        decoded: Tensor = self.deconv_layers(tokens.transpose(1, 2).unflatten(2, grid))
        return decoded

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        first, rows = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if grid != self.grid:
            plane = rows.transpose(1, 2).unflatten(2, self.grid)
            rows = F.interpolate(plane, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
        return first + rows

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                zeros_(module.bias)
            elif isinstance(module, nn.ConvTranspose2d):
                normal_(module.weight, std=HEAD_STD)


class _Block(nn.Module):
    """Attention and a two-layer network, each on the norm of its input and added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (B, N, width) to tokens."""
        x = x + self.attn(self.norm1(x))
        moved: Tensor = self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + moved


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, width / heads)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def _grid(height: int, width: int) -> tuple[int, int]:
    if height % PATCH or width % PATCH or min(height, width) < PATCH:
        raise UserError(f"a ViT's images have sides that are multiples of {PATCH} px, not {width} x {height}")
    return height // PATCH, width // PATCH


def _double(channels: int) -> list[nn.Module]:
    """Returns the layers that double a map's size."""
    up = nn.ConvTranspose2d(channels, DECODER_CHANNELS, 4, stride=2, padding=1, bias=False)
    return [up, nn.BatchNorm2d(DECODER_CHANNELS), nn.ReLU(inplace=True)]

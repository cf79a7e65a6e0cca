"""The network written plainly over the same modules: the yardstick of the benchmark, and a check of the fast form.

Every intermediate result is kept, attention weights are formed in full, weights are standardised and images padded at
each call, the kinematic tree is walked joint by joint: as public vision-transformer code does it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.nn.hybrid import WEIGHT_EPS, GroupBottleneck, HybridResNet, StdConv2d, same_padding
from posekit_maed.attention import Block, SpaceTimeAttention
from posekit_maed.decoders import KinematicDecoder, Regression, ancestors
from posekit_maed.encoders import PatchEmbed, SpatialTemporalEncoder
from posekit_maed.network import MAEDNetwork


def plain_forward(network: MAEDNetwork, images: Tensor) -> Regression:
    """Evaluates a network of hybrid backbone, mode ``parallel`` and kinematic decoder on clips (B, T, 3, H, W)."""
    encoder, decoder = network.encoder, network.decoder
    assert isinstance(encoder, SpatialTemporalEncoder)
    assert isinstance(decoder, KinematicDecoder)
    return _decode(decoder, _encode(encoder, images))


def _encode(encoder: SpatialTemporalEncoder, images: Tensor) -> Tensor:
    clips, frames = images.shape[:2]
    embed = encoder.patch_embed
    assert isinstance(embed, PatchEmbed)
    tokens = embed.proj(_trunk(embed.backbone, images.flatten(0, 1))).flatten(2).transpose(1, 2)
    x = torch.cat([encoder.cls_token.expand(len(tokens), -1, -1), tokens], 1) + encoder.pos_embed
    assert encoder.temp_embed is not None
    x = (x.reshape(clips, frames, *x.shape[1:]) + encoder.temp_embed[:, :frames]).flatten(0, 1)
    for block in encoder.blocks:
        x = _block(cast(Block, block), x, frames)
    return cast(Tensor, encoder.pre_logits(encoder.norm(x)[:, 0]))


def _trunk(trunk: HybridResNet, images: Tensor) -> Tensor:
    x = _conv(trunk.stem.conv, images)
    x = F.relu(trunk.stem.norm(x))
    (top, bottom), (left, right) = (same_padding(n, 3, 2) for n in x.shape[-2:])
    x = F.max_pool2d(F.pad(x, (left, right, top, bottom), value=float("-inf")), 3, 2)
    for stage in trunk.stages:
        for block in stage.blocks:  # type: ignore[union-attr]
            x = _bottleneck(cast(GroupBottleneck, block), x)
    return x


def _bottleneck(block: GroupBottleneck, x: Tensor) -> Tensor:
    shortcut = x
    if block.downsample is not None:
        shortcut = block.downsample.norm(_conv(block.downsample.conv, x))
    y = F.relu(block.norm1(_conv(block.conv1, x)))
    y = F.relu(block.norm2(_conv(block.conv2, y)))
    return F.relu(block.norm3(_conv(block.conv3, y)) + shortcut)


def _conv(conv: StdConv2d, x: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(conv.weight, dim=(1, 2, 3), correction=0, keepdim=True)
    weight = (conv.weight - mean) / (deviation + WEIGHT_EPS)
    (top, bottom), (left, right) = (same_padding(n, conv.kernel_size[0], conv.stride[0]) for n in x.shape[-2:])
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=conv.stride)


def _block(block: Block, x: Tensor, frames: int) -> Tensor:
    x = x + _attention(block.attn, block.norm1(x), frames)
    hidden = F.gelu(block.mlp.fc1(block.norm2(x)))
    return x + block.mlp.fc2(hidden)


def _attention(attention: SpaceTimeAttention, x: Tensor, frames: int) -> Tensor:
    rows, tokens, width = x.shape
    heads = attention.heads
    q, k, v = attention.qkv(x).reshape(rows, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    spatial = _weighted(q, k, v).transpose(1, 2).reshape(rows, tokens, width)
    # (B T, heads, N, D) -> (B, heads, N, T, D)
    timed = (part.reshape(-1, frames, heads, tokens, width // heads).permute(0, 2, 3, 1, 4) for part in (q, k, v))
    temporal = _weighted(*timed).permute(0, 3, 2, 1, 4).reshape(rows, tokens, width)
    means = torch.cat([spatial, temporal], -1).mean(1, keepdim=True)
    shares = attention.ts_attn(means).reshape(rows, 1, width, 2).softmax(-1)
    return cast(Tensor, attention.proj(spatial * shares[..., 0] + temporal * shares[..., 1]))


def _weighted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return weights.softmax(-1) @ v


def _decode(decoder: KinematicDecoder, features: Tensor) -> Regression:
    h = decoder.hidden_features(features)
    poses: list[Tensor] = []
    for layer, path in zip(decoder.joint_regs, ancestors(), strict=True):
        poses.append(layer(torch.cat([h, *(poses[a] for a in path)], 1)))
    return Regression(torch.stack(poses, 1), decoder.decshape(h), decoder.deccam(h))

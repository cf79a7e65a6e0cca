"""Convolutional message passing: the features around all joints of a person become one attraction map per joint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError, each_in_range, in_range
from posekit.nn.precision import precise


class Attention(nn.Module):
    """Instance-wise weights in [0, 1] of an attentive norm's K affine maps.

    Args:
        channels: Channels of the input.
        kernels: K.
    """

    def __init__(self, channels: int, kernels: int) -> None:
        super().__init__()
        layer = nn.Conv2d(channels, kernels, 1, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.attention = nn.Sequential(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Returns weights (N, K) of maps (N, C, h, w), from each channel's mean over its standard deviation."""
        x = precise(x)
        ratio = x.mean((2, 3)) * torch.rsqrt(x.var((2, 3), unbiased=True) + 1e-3)
        return F.hardsigmoid(self.attention(ratio[..., None, None])).flatten(1)


class AttentiveNorm(nn.Module):
    """Batch norm whose scale and shift are a mixture of K learned ones, by instance (Li et al., arXiv 1908.01259).

    It has a batch norm's state but is none, lest conversion to synchronised norms puts a plain norm in its place.

    Args:
        channels: Channels.
        kernels: K.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    eps = 1e-5
    momentum = 0.1

    def __init__(self, channels: int, kernels: int = 20) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.weight_ = nn.Parameter(torch.empty(kernels, channels).normal_(1, 0.1))
        self.bias_ = nn.Parameter(torch.empty(kernels, channels).normal_(0, 0.1))
        self.attn_weights = Attention(channels, kernels)

    def mixture(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scale and shift (N, C) of the normalised map, of the layer's input (N, C, h, w)."""
        weights = self.attn_weights(x).to(self.weight_.dtype)
        return weights @ self.weight_, weights @ self.bias_

    def folded_mixture(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scale and shift (N, C) of the layer's input itself (N, C, h, w), in evaluation."""
        scale, shift = self.mixture(x)
        scale = scale * torch.rsqrt(self.running_var + self.eps)
        return scale, shift - scale * self.running_mean

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)
        scale, shift = self.mixture(x)
        normal = F.batch_norm(
            x, self.running_mean, self.running_var, training=self.training, momentum=self.momentum, eps=self.eps
        )
        return normal * scale[..., None, None].to(normal.dtype) + shift[..., None, None].to(normal.dtype)


class MessagePassing(nn.Sequential):
    """Three 3x3 convolutions with zero padding over the expansion window, and a 1x1 one to the attraction maps.

    Names are those of the official code's ``joints_mlp``.

    Args:
        num_joints: K joints.
        embedding: Channels C of each joint's features.
        channels: Output channels of the three 3x3 convolutions.
        kernels: Affine maps of the attentive norm behind the second of them.

    Raises:
        UserError: ``channels`` are not three positive whole numbers, or ``kernels`` is none.
    """

    def __init__(
        self, num_joints: int, embedding: int = 64, channels: Sequence[int] = (512, 256, 128), kernels: int = 20
    ) -> None:
        channels = each_in_range("LogoCap", "message_channels", channels, "[1, inf)", whole=True)
        if len(channels) != 3:
            raise UserError(f"LogoCap: message_channels must be three numbers, not {channels}")
        in_range("LogoCap", "attention_kernels", kernels, "[1, inf)", whole=True)
        first, second, third = channels
        super().__init__(
            nn.Conv2d(num_joints * embedding, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            AttentiveNorm(second, kernels),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3, padding=1, bias=False),
            nn.BatchNorm2d(third),
            nn.ReLU(inplace=True),
            nn.Conv2d(third, num_joints, 1),
        )


def folded_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns the scale and shift (C,) that a batch norm applies in evaluation."""
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    return scale, norm.bias - scale * cast(Tensor, norm.running_mean)

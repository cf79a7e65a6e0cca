"""One convolution kernel for each map, with a gradient that does not slow down training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def correlate_each(maps: Tensor, kernels: Tensor) -> Tensor:
    """Correlates each map (N, S, S) with its own kernel (N, P, P), P odd, zero-padded to the same size.

    ``conv2d`` with N groups does this; but its gradient by the kernels is a convolution with kernels of S x S, which
    takes many times as long as the rest of the step. Here it is a product of Fourier transforms.
    """
    result: Tensor = _CorrelateEach.apply(maps, kernels)
    return result


class _CorrelateEach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(maps, kernels)
        return _grouped(maps, kernels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        maps, kernels = ctx.saved_tensors
        by_maps = _grouped(gradient, kernels.flip((-2, -1))) if ctx.needs_input_grad[0] else None
        return by_maps, _lags(maps, gradient, kernels.shape[-1]) if ctx.needs_input_grad[1] else None


def _grouped(maps: Tensor, kernels: Tensor) -> Tensor:
    if not len(maps):
        return torch.zeros_like(maps)
    side = kernels.shape[-1]
    return F.conv2d(maps[None], kernels[:, None].to(maps.dtype), padding=side // 2, groups=len(maps))[0]


def _lags(maps: Tensor, others: Tensor, side: int) -> Tensor:
    """Returns sum over p of others[p] maps[p + l] for the lags l of a (side, side) window around 0."""
    half = side // 2
    length = _smooth(maps.shape[-1] + half)  # so long that no other lag folds onto these
    size = (length, length)
    product = torch.fft.rfft2(maps, s=size) * torch.fft.rfft2(others, s=size).conj()
    return torch.fft.irfft2(product, s=size).roll((half, half), (-2, -1))[..., :side, :side]


def _smooth(length: int) -> int:
    """Returns the least number of prime factors 2, 3 and 5 that is not below ``length``."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1

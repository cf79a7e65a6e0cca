"""Decoders: heatmaps (B, K, H, W) to points (B, K, 2) in heatmap px and scores (B, K).

All are batched, without loops over joints or pixels and without a value read back from the device. Leading axes may be
any. A map without a positive value gives a point somewhere on the map and, in the mass decoders, the score 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from posekit.errors import UserError, one_of
from posekit.nn.constants import constants
from posekit.nn.precision import full_precision


def decode_argmax(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the highest pixel and its height."""
    scores, index = heatmaps.flatten(-2).max(-1)
    return _unravel(index, heatmaps).to(heatmaps.dtype), scores


def decode_argmax_shift(heatmaps: Tensor, shift: float = 0.25) -> tuple[Tensor, Tensor]:
    """Moves the highest pixel by ``shift`` px towards the higher neighbour on each axis (HRNet, Sun et al., CVPR 2019).

    At the map's border the axis without two neighbours does not move.
    """
    peak, scores = decode_argmax(heatmaps)
    patch, inside = _patch(heatmaps, peak, 1)
    slope = torch.stack([patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]], dim=-1)
    return peak + shift * slope.sign() * inside, scores


def decode_parabola(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Fits a parabola to the logarithm of the highest pixel and its neighbours, axis by axis.

    Exact for a Gaussian of any width; moves by half a pixel at most.
    """
    peak, scores = decode_argmax(heatmaps)
    patch, inside = _patch(heatmaps, peak, 1)
    # Neighbours at or below zero count as a thousandth of the peak: the logarithm stays bounded.
    floor = (1e-3 * scores).clamp(min=torch.finfo(heatmaps.dtype).tiny)[..., None]
    logs = torch.stack([patch[..., 1, :], patch[..., :, 1]], dim=-2).maximum(floor[..., None]).log()
    low, middle, high = logs.unbind(-1)
    curve = 2 * middle - low - high
    offset = 0.5 * (high - low) / torch.where(curve > 0, curve, torch.ones_like(curve))
    offset = torch.where(curve > 0, offset, torch.zeros_like(offset))
    return peak + offset.clamp(-0.5, 0.5) * inside, scores


def decode_dark(heatmaps: Tensor, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """Blurs the map and takes one Newton step on its logarithm from the highest pixel (DARK, Zhang et al., CVPR 2020).

    The blur and the two-pixel stencils of the second derivatives are those of the official code; as there, peaks
    within two pixels of the border stay as they are. Only the pixels around the peak are blurred.

    Args:
        heatmaps: (…, H, W).
        kernel: Odd side of the blur, px; its sigma is 0.3 ((kernel - 1) / 2 - 1) + 0.8. 11 suits targets of sigma 2,
            5 those of sigma 1.

    Raises:
        UserError: ``kernel`` is even or below 1.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"kernel must be odd and positive, not {kernel}")
    peak, scores = decode_argmax(heatmaps)
    patch, _ = _patch(heatmaps, peak, 2 + kernel // 2)
    blur = _blur_matrix(kernel, heatmaps)
    # The official code scales the blurred map back to its old peak; the derivatives of a logarithm do not notice.
    scale = scores[..., None, None].clamp(min=torch.finfo(heatmaps.dtype).tiny)
    with full_precision(heatmaps):
        log = (blur @ (patch / scale) @ blur.T).clamp(min=1e-10).log()
    center = log[..., 2, 2]
    gx, gy = 0.5 * (log[..., 2, 3] - log[..., 2, 1]), 0.5 * (log[..., 3, 2] - log[..., 1, 2])
    hxx = 0.25 * (log[..., 2, 4] - 2 * center + log[..., 2, 0])
    hyy = 0.25 * (log[..., 4, 2] - 2 * center + log[..., 0, 2])
    hxy = 0.25 * (log[..., 3, 3] - log[..., 1, 3] - log[..., 3, 1] + log[..., 1, 1])
    det = hxx * hyy - hxy * hxy
    limit = _limit(heatmaps)
    usable = (det > 1e-12) & (hxx < 0) & ((peak >= 2) & (peak <= limit - 2)).all(-1) & (scores > 0)
    det = torch.where(usable, det, torch.ones_like(det))
    step = torch.stack([hxy * gy - hyy * gx, hxy * gx - hxx * gy], dim=-1) / det[..., None]
    # A flat or noisy peak can ask for a far step; the maximum is known to lie within about a pixel.
    return peak + torch.where(usable[..., None], step.clamp(-1.5, 1.5), torch.zeros_like(step)), scores


def decode_expectation(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean of the positive part as a distribution; the score is the mass of the best 2x2 window."""
    mass = _distribution(heatmaps)
    scores, _ = _best_window(mass.detach(), 2)
    return mean_position(mass), scores * (heatmaps.detach().amax((-2, -1)) > 0)


def mean_position(mass: Tensor) -> Tensor:
    """Returns the mean pixel (…, 2) of distributions (…, H, W), each of sum 1."""
    x, y = (torch.arange(side, device=mass.device, dtype=mass.dtype) for side in (mass.shape[-1], mass.shape[-2]))
    return torch.stack([(mass.sum(-2) * x).sum(-1), (mass.sum(-1) * y).sum(-1)], dim=-1)


def decode_window(heatmaps: Tensor, window: int = 2) -> tuple[Tensor, Tensor]:
    """Returns the mean within the square window of largest mass: the inverse of bilinear corner targets.

    Args:
        heatmaps: (…, H, W); their positive part is taken as a distribution. Maps of a loss with another supply
            (softplus, softmax) should be normalised by that loss first.
        window: Side of the window, px.

    Returns:
        Points (…, 2), and scores (…): the window's mass, in [0, 1].

    Raises:
        UserError: The window does not fit into the map.
    """
    mass = _distribution(heatmaps)
    width = heatmaps.shape[-1]
    scores, index = _best_window(mass, window)
    columns = width - window + 1
    left, top = index % columns, torch.div(index, columns, rounding_mode="floor")
    step = torch.arange(window, device=mass.device)
    flat = (top[..., None, None] + step[:, None]) * width + left[..., None, None] + step
    patch = mass.flatten(-2).gather(-1, flat.flatten(-2)).view(*flat.shape)
    patch = patch / patch.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)
    dx, dy = (patch.sum(-2) * step).sum(-1), (patch.sum(-1) * step).sum(-1)
    scores = scores * (heatmaps.amax((-2, -1)) > 0)
    return torch.stack([left + dx, top + dy], dim=-1), scores


Decoder = Callable[..., tuple[Tensor, Tensor]]

DECODERS: dict[str, Decoder] = {
    "argmax": decode_argmax,
    "argmax_shift": decode_argmax_shift,
    "parabola": decode_parabola,
    "dark": decode_dark,
    "expectation": decode_expectation,
    "window": decode_window,
}


def decode_heatmaps(heatmaps: Tensor, decoder: str = "window", **options: Any) -> tuple[Tensor, Tensor]:
    """Decodes by a decoder's name.

    Args:
        heatmaps: (…, H, W).
        decoder: Key of ``DECODERS``.
        options: Further arguments of the decoder.

    Raises:
        UserError: An unknown decoder.
    """
    one_of("decoder", decoder, DECODERS)
    return DECODERS[decoder](heatmaps, **options)


def _unravel(index: Tensor, heatmaps: Tensor) -> Tensor:
    width = heatmaps.shape[-1]
    return torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)


def _limit(heatmaps: Tensor) -> Tensor:
    """Last pixel (W - 1, H - 1)."""
    height, width = heatmaps.shape[-2:]
    return constants((width - 1, height - 1), heatmaps, heatmaps.dtype)


def _patch(heatmaps: Tensor, peak: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Cuts squares around pixels, zero outside the map.

    Returns:
        Patches (…, 2 radius + 1, 2 radius + 1), and per axis (…, 2) 1.0 where both direct neighbours are on the map.
    """
    height, width = heatmaps.shape[-2:]
    reach = torch.arange(-radius, radius + 1, device=heatmaps.device)
    corner = peak.long()
    x, y = corner[..., :1] + reach, corner[..., 1:] + reach
    on_x, on_y = (x >= 0) & (x < width), (y >= 0) & (y < height)
    flat = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
    values = heatmaps.flatten(-2).gather(-1, flat.flatten(-2)).view(flat.shape)
    values = torch.where(on_y[..., :, None] & on_x[..., None, :], values, torch.zeros_like(values))
    inside = (peak > 0) & (peak < _limit(heatmaps))
    return values, inside.to(heatmaps.dtype)


def _blur_matrix(kernel: int, like: Tensor) -> Tensor:
    """Rows of a Gaussian blur (5, 4 + kernel) that yield the five pixels around a patch's centre."""
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    tap = torch.arange(kernel, device=like.device, dtype=like.dtype) - kernel // 2
    tap = torch.exp(-0.5 * (tap / sigma) ** 2)
    tap = functional.pad(tap / tap.sum(), (0, 5))
    return tap.repeat(5)[: 5 * (kernel + 4)].view(5, kernel + 4)


def _distribution(heatmaps: Tensor) -> Tensor:
    """Positive part over its sum; even where there is none."""
    mass = heatmaps.clamp(min=0)
    total = mass.sum((-2, -1), keepdim=True)
    empty = total <= torch.finfo(mass.dtype).tiny
    even = 1.0 / math.prod(heatmaps.shape[-2:])
    return torch.where(empty, torch.full_like(mass, even), mass / total.masked_fill(empty, 1.0))


def _best_window(mass: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Mass of the heaviest window and its flat index among all positions."""
    if not 1 <= window <= min(mass.shape[-2:]):
        raise UserError(f"a window of {window} px does not fit into heatmaps of {mass.shape[-2]}x{mass.shape[-1]}")
    total = functional.avg_pool2d(mass.reshape(-1, 1, *mass.shape[-2:]), window, stride=1, divisor_override=1)
    scores, index = total.flatten(1).max(-1)
    return scores.view(mass.shape[:-2]), index.view(mass.shape[:-2])

"""Random views of motions and random colours of pictures; every draw comes from the generator that is passed in.

So a step's randomness is a function of (seed, stage, step, process), and a resumed run draws what the unbroken one
would have drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posekit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from posekit.nn.constants import constants
from posekit.nn.precision import precise
from posekit_nlrd.geometry import azimuth_matrix, rotate, tilt_matrix
from posekit_nlrd.relations import flip_pose


class Draws:
    """Random numbers of one step, drawn on the CPU and sent to a device.

    Args:
        device: Where they go.
        key: Integers that name the step: seed, stage, step, process.
    """

    def __init__(self, device: torch.device, *key: int) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(mixed(*key))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draws numbers in [low, high), of torch's default type."""
        return (low + (high - low) * self._shares(*shape)).to(self.device, non_blocking=True)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Draws bool."""
        return (self._shares(*shape) < probability).to(self.device, non_blocking=True)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draws int64 in [0, high)."""
        return torch.randint(high, shape, generator=self.generator).to(self.device, non_blocking=True)

    def rows(self, probability: float, count: int) -> Tensor:
        """Chooses each of ``count`` rows; the host knows how many, so nothing waits for the device."""
        chosen = (self._shares(count) < probability).nonzero()[:, 0]
        return chosen.to(self.device, non_blocking=True)

    def number(self, high: int) -> int:
        """Draws one integer in [0, high) for the host."""
        return int(torch.randint(high, (1,), generator=self.generator))

    def _shares(self, *shape: int) -> Tensor:
        """Draws numbers in [0, 1), the same ones in double precision, for which torch draws others."""
        return torch.rand(*shape, generator=self.generator, dtype=torch.float32).to(torch.get_default_dtype())


def mixed(*key: int) -> int:
    """Makes one seed of several integers; neighbouring keys get unrelated ones."""
    seed = 0
    for part in key:  # Knuth's linear congruence, once per part
        seed = (seed * 6364136223846793005 + int(part) + 1442695040888963407) % 2**63
    return seed


@dataclass(frozen=True)
class ViewAugmentation:
    """Random views of recorded motion, one per window.

    Attributes:
        tilt: Largest in-plane rotation, degrees; T networks need poses turned as far as their relation does.
        tilt_probability: Of any in-plane rotation.
        flip: Probability of the mirror image.
        reverse: Probability of playing backwards.
    """

    tilt: float = 60.0
    tilt_probability: float = 0.5
    flip: float = 0.5
    reverse: float = 0.0

    def __call__(self, windows: Tensor, draws: Draws) -> Tensor:
        """Turns windows (B, T, 17, 3) about the vertical by any angle, then tilts, mirrors and reverses them."""
        count = len(windows)
        azimuth = draws.uniform(count, high=2 * math.pi)
        limit = math.radians(self.tilt)
        tilt = draws.uniform(count, low=-limit, high=limit) * draws.chance(self.tilt_probability, count)
        turned = rotate(rotate(windows, azimuth_matrix(azimuth)[:, None]), tilt_matrix(tilt)[:, None])
        mirrored = torch.where(_per_sample(draws.chance(self.flip, count), turned), flip_pose(turned), turned)
        return torch.where(_per_sample(draws.chance(self.reverse, count), mirrored), mirrored.flip(1), mirrored)

    def poses(self, windows: Tensor, count: int, draws: Draws) -> Tensor:
        """Draws views (count, 17, 3) of single poses from windows (B, T, 17, 3)."""
        flat = windows.flatten(0, 1)
        return self(flat[draws.integers(len(flat), count)][:, None], draws)[:, 0]


def _per_sample(choice: Tensor, like: Tensor) -> Tensor:
    return choice.reshape(-1, *[1] * (like.ndim - 1))


# -- colours ----------------------------------------------------------------------------------------------------------


def jitter(images: Tensor, draws: Draws, probability: float) -> Tensor:
    """Shifts hue, saturation and value of normalised pictures (B, 3, H, W), each picture by itself.

    The release's strengths: of the pictures chosen, each shift is applied with probability 1/2; hue by 0.3 to 0.5 of
    the circle, saturation by 0.6 to 0.8 and value by 0 to 0.125, clipped at 1.
    """
    rows = draws.rows(probability, len(images))
    return images.index_copy(0, rows, _shift_colors(images[rows], draws)) if len(rows) else images


def _shift_colors(images: Tensor, draws: Draws) -> Tensor:
    count = len(images)
    shifts = [
        draws.uniform(count, low=low, high=high) * draws.chance(0.5, count)
        for low, high in ((0.3, 0.5), (0.6, 0.8), (0.0, 0.125))
    ]
    hue, saturation, value = _to_hsv(_to_rgb(images))
    h, s, v = (x[:, None, None].to(hue) for x in shifts)
    changed = _hsv_to_rgb((hue + h) % 1.0, (saturation + s).clamp(max=1), (value + v).clamp(max=1))
    return _from_rgb(changed).to(images.dtype)


def scale_value(images: Tensor, draws: Draws) -> Tensor:
    """Scales the brightness of normalised pictures (B, 3, H, W) by 0.5 to 1.5, each by itself, clipped at white."""
    gain = draws.uniform(len(images), low=0.5, high=1.5).reshape(-1, 1, 1, 1)
    rgb = _to_rgb(images)
    # Scaling the value of HSV scales all three channels alike; the brightest may not pass 1.
    room = 1 / rgb.amax(1, keepdim=True).clamp(min=1e-6)
    return _from_rgb(rgb * torch.minimum(gain, room)).to(images.dtype)


def contrast_view(images: Tensor, draws: Draws) -> Tensor:
    """Returns the positive of a contrastive pair: half the pictures (B, 3, H, W) shifted in colour, half in value."""
    order = torch.randperm(len(images), generator=draws.generator).to(images.device, non_blocking=True)
    first, second = order.chunk(2) if len(order) > 1 else (order, order[:0])
    changed = images.index_copy(0, first, _shift_colors(images[first], draws))
    return changed.index_copy(0, second, scale_value(images[second], draws)) if len(second) else changed


def _to_rgb(images: Tensor) -> Tensor:
    images = precise(images)
    mean, deviation = _statistics(images)
    return (images * deviation + mean).clamp(0, 1)


def _from_rgb(rgb: Tensor) -> Tensor:
    mean, deviation = _statistics(rgb)
    return (rgb - mean) / deviation


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    mean, deviation = (constants(x, like, like.dtype)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, deviation


def _to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hue, saturation and value in [0, 1] of RGB (B, 3, H, W), each (B, H, W)."""
    red, green, blue = rgb.unbind(1)
    value = rgb.amax(1)
    span = value - rgb.amin(1)
    safe = span.clamp(min=1e-8)
    hue = torch.where(
        value == red,
        (green - blue) / safe % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return hue / 6, span / value.clamp(min=1e-8), value


def _hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    channels = []
    for offset in (5.0, 3.0, 1.0):  # the closed form without cases: k = (n + 6 h) mod 6
        k = (offset + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)

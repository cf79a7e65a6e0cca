"""Frames between the ones that were run: linear interpolation over time, and weaving of interleaved clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from posekit.errors import UserError


def interleave(frames: Tensor, count: int) -> list[Tensor]:
    """Splits windows (B, n count, ...) into ``count`` clips (B, n, ...), each of every ``count``-th frame.

    Raises:
        UserError: The window is no multiple of ``count`` frames.
    """
    if count < 1 or frames.shape[1] % count:
        raise UserError(f"a window of {frames.shape[1]} frames cannot be split into {count} interleaved clips")
    return [frames[:, start::count] for start in range(count)]


def weave(clips: Sequence[Tensor]) -> Tensor:
    """Puts interleaved clips (B, n, ...) back into windows (B, n count, ...); undoes :func:`interleave`."""
    return torch.stack(list(clips), 2).flatten(1, 2)


def interpolate(kept: Tensor, step: int, length: int, official: bool = False) -> Tensor:
    """Fills in the frames between those that were run.

    Frames before the first or after the last kept one take its value.

    Args:
        kept: (B, n, ...) values of frames 0, step, 2 step, ...
        step: Frames from one kept frame to the next.
        length: Frames wanted.
        official: The published code's time axis, about one step out of place: kept frame i stands at (i + 1) / n, and
            frame j of the result is read at j / (length - 1), beyond the ends by the outermost line.

    Returns:
        (B, length, ...).
    """
    count = kept.shape[1]
    if count == 1:
        return kept.expand(-1, length, *kept.shape[2:])
    wanted = torch.arange(length, device=kept.device, dtype=torch.float64)
    place = wanted / max(length - 1, 1) * count - 1 if official else (wanted / step).clamp(max=count - 1)
    before = place.floor().clamp(0, count - 2).long()
    share = (place - before).to(kept).view(-1, *[1] * (kept.ndim - 2))
    return torch.lerp(kept[:, before], kept[:, before + 1], share)

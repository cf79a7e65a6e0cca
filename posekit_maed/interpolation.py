"""Frames between the ones that were run: linear interpolation over time, also in clips with padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from posekit_maed.network import BodyParameters


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
    # Whole numbers, in parts of a step: exact, and known to devices without float64.
    parts = max(length - 1, 1) if official else step
    place = torch.arange(length, device=kept.device)
    place = place * count - parts if official else place.clamp(max=(count - 1) * step)
    before = torch.div(place, parts, rounding_mode="floor").clamp(0, count - 2)
    share = (place - before * parts).to(torch.promote_types(kept.dtype, torch.float32)) / parts
    return torch.lerp(kept[:, before], kept[:, before + 1], share.to(kept).view(-1, *[1] * (kept.ndim - 2)))


class KeptFrames(NamedTuple):
    """Which frames of padded clips are run: every so-manieth from each clip's first real one on.

    Attributes:
        rows: (B, 1) the clips.
        place: (B, n) the frames that are run.
        valid: (B, n) whether they are real; what is not takes the answer of the nearest real one before it.
        first: (B,) the first real frame.
    """

    rows: Tensor
    place: Tensor
    valid: Tensor
    first: Tensor

    @classmethod
    def of(cls, valid: Tensor, step: int) -> KeptFrames:
        """Chooses the frames of clips (B, T), each with a real frame at least."""
        clips, frames = valid.shape
        first = valid.long().argmax(1)
        place = first[:, None] + torch.arange(0, frames, step, device=valid.device)
        inside = place < frames
        place, rows = place.clamp(max=frames - 1), torch.arange(clips, device=valid.device)[:, None]
        return cls(rows, place, valid[rows, place] & inside, first)

    def filled(self, parameters: BodyParameters) -> BodyParameters:
        """Replaces what the network said of padding; the first frame that is run is real."""
        order = torch.arange(self.valid.shape[1], device=self.valid.device)
        nearest = torch.where(self.valid, order, 0).cummax(1).values
        return BodyParameters(*(value[self.rows, nearest] for value in parameters))

    def back(self, frames: int) -> tuple[Tensor, Tensor]:
        """Returns rows and places that put frames counted from the first real one back to the clip's own."""
        places = torch.arange(frames, device=self.first.device) - self.first[:, None]
        return self.rows, places.clamp(min=0)

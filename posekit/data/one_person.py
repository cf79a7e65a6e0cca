"""One person in consecutive frames that are at hand: windows as ``posekit predict`` makes them of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader

from posekit.arrays import Bytes, Float64
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipBox, ClipDataset, Track
from posekit.data.given_boxes import given_boxes
from posekit.data.given_people import moved
from posekit.data.images import require_picture
from posekit.data.video_boxes import smooth_boxes
from posekit.errors import UserError
from posekit.nn.modes import evaluating
from posekit.skeletons import Skeleton

SMOOTH = 15
"""Frames over which boxes are averaged, as VideoClips does."""


def person_windows(
    frames: Bytes | Sequence[Bytes],
    boxes: ArrayLike | None,
    skeleton: Skeleton,
    size: tuple[int, int],
    length: int,
    halo: int = 0,
    box_scale: float = 1.25,
    clip_box: ClipBox = "window",
) -> DataLoader[dict[str, Any]]:
    """Cuts one person out of consecutive frames.

    Args:
        frames: Of one size, each (H, W, 3) uint8 RGB.
        boxes: (T, 4) xywh px; None takes whole frames, not enlarged.
        skeleton: Joint set of the (empty) labels.
        size: (W, H) of the crops, px.
        length: Frames of a window at most.
        halo: Frames at either end of a window that it does not answer for.
        box_scale: Enlargement of boxes.
        clip_box: Which box cuts a frame: ``"window"`` (around all boxes of the window), ``"frame"`` or ``"key"``.

    Raises:
        UserError: There are no frames, or they or the boxes are of another kind.
    """
    _check_frames(frames)
    count = len(frames)
    if not count:
        raise UserError("frames must be pictures (H, W, 3), and there is none")
    for frame in frames:
        require_picture(frame)
    if len({frame.shape for frame in frames}) > 1:
        sizes = ", ".join(sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames}))
        raise UserError(f"frames must be of one size, as those of a video are, not {sizes}")
    place = np.arange(count)
    track = Track(
        name="frames", read=lambda row: frames[row], image_rows=place, frames=place, image_ids=place, sample_ids=place,
        boxes=smooth_boxes(place, _checked(boxes, count), SMOOTH), box_scores=np.ones(count),
        joints=np.zeros((count, len(skeleton), 3)), keys=np.ones(count, dtype=bool),
    )  # fmt: skip
    window = Window.chunk(max(min(length, count + 2 * halo), 2 * halo + 1), halo=halo)
    return DataLoader(ClipDataset([track], skeleton, size, window, box_scale, clip_box=clip_box))


def _checked(boxes: ArrayLike | None, count: int) -> Float64:
    if boxes is None:
        return np.full((count, 4), np.nan)
    rows = given_boxes(boxes)
    if rows.shape != (count, 4):
        raise UserError(f"boxes must be ({count}, 4), one xywh for each frame, not of shape {rows.shape}")
    return rows


def _check_frames(frames: object) -> None:
    """Refuses what holds no frames.

    Raises:
        UserError: It is one picture, a file's name, a generator and so on.
    """
    if isinstance(frames, str | Path):
        require_picture(frames)
    wanted = "predict takes frames (T, H, W, 3) uint8 RGB, or a list of such pictures (H, W, 3), not"
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4:
            hint = ": give a list of this one" * (frames.ndim == 3)
            raise UserError(f"{wanted} {frames.dtype} of shape {frames.shape}{hint}")
    elif isinstance(frames, Mapping | bytes) or not (hasattr(frames, "__len__") and hasattr(frames, "__getitem__")):
        raise UserError(f"{wanted} a {type(frames).__name__}")


@torch.no_grad()
def predict_windows(module: Any, windows: DataLoader[dict[str, Any]]) -> dict[str, Tensor]:
    """Runs a method's ``predict_step`` on windows, in evaluation mode, and joins their rows on the CPU.

    Args:
        module: The method; its parts' modes are put back afterwards.
        windows: Batches of :func:`person_windows`.
    """
    with evaluating(module):
        found = [module.predict_step(moved(batch, module), number) for number, batch in enumerate(windows)]
    return {name: torch.cat([rows[name].cpu() for rows in found]) for name in found[0]}

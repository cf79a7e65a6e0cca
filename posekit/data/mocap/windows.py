"""Windows of motion: the data set of a ``MotionBatch``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posekit.arrays import Float32, Int64
from posekit.data.crops import Key, split_key
from posekit.data.mocap.sequence import MotionTrack
from posekit.data.transforms import augmentation_rng

STARTS = 10**6  # sample ids are this times the track's number, plus the window's first frame


class MotionDataset(Dataset[dict[str, Tensor]]):
    """Samples of a ``MotionBatch``, by ``(epoch, index)`` keys.

    Args:
        tracks: Gapless pieces of recordings.
        frames: Length T of a window.
        stride: Frames between the starts of neighbouring windows.
        rotate: Turn each window about the vertical axis by an angle of its own, another one in every epoch.
        seed: Of these angles.
    """

    def __init__(
        self, tracks: Sequence[MotionTrack], frames: int, stride: int, rotate: bool = False, seed: int = 0
    ) -> None:
        self.tracks = list(tracks)
        self.frames = frames
        self.rotate = rotate
        self.seed = seed
        self.windows = _windows(self.tracks, frames, stride)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """Returns a window.

        Raises:
            IndexError: The index is out of range.
        """
        epoch, index = split_key(key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, start = self.windows[index].tolist()
        track = self.tracks[number]
        points = track.points[start : start + self.frames]
        if self.rotate:
            points = turned(points, float(augmentation_rng(self.seed, epoch, index).uniform(0, 2 * np.pi)))
        return {
            "joints3d": torch.from_numpy(np.array(points, dtype=np.float32)),
            "weight": torch.from_numpy(np.broadcast_to(track.weight, points.shape[:2]).copy()),
            "sample_id": torch.tensor(number * STARTS + start),
        }


def turned(points: Float32, angle: float) -> Float32:
    """Turns points (…, 3) about the vertical axis z by ``angle`` radians, counter-clockwise seen from above."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], -1)


def _windows(tracks: Sequence[MotionTrack], frames: int, stride: int) -> Int64:
    """Returns track number and first frame (W, 2) of all windows."""
    starts = [np.arange(0, len(track.points) - frames + 1, stride) for track in tracks]
    rows = [np.stack([np.full(len(s), number), s], 1) for number, s in enumerate(starts)]
    return np.concatenate([np.zeros((0, 2), dtype=np.int64), *rows])

"""Windows of recorded motion for clips: which recording, from where, and poses at any moment in between frames."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from posekit.data.synthetic.motion import FrameSampler, MotionClip, load_continuous_motion
from posekit.errors import UserError
from posekit.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

Float = NDArray[np.float32]
Float64 = NDArray[np.float64]


class WindowSampler:
    """Draws windows of a split so that rare actions are seen, as ``FrameSampler`` draws frames.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        span: Recorded frames from a window's first to its last.

    Raises:
        UserError: No recording of the split is that long.
    """

    def __init__(self, split: str, span: int) -> None:
        recordings = load_continuous_motion(split)
        self.clips = tuple(clip for clip in recordings if len(clip.rotations) > span)
        if not self.clips:
            longest = max(len(clip.rotations) for clip in recordings)
            raise UserError(
                f"SyntheticPeople: (frames - 1) * frame_step is {span}, but the longest recording of {split} has "
                f"{longest} frames: lower frames or frame_step"
            )
        starts = np.array([len(clip.rotations) - span for clip in self.clips], dtype=float)
        actions = [clip.action for clip in self.clips]
        totals = {a: sum(s for s, other in zip(starts, actions, strict=True) if other == a) for a in actions}
        weights = np.array([s / np.sqrt(totals[a]) for s, a in zip(starts, actions, strict=True)])
        self._edges = np.cumsum(weights / weights.sum())
        self._starts = starts.astype(int)

    def draw(self, rng: np.random.Generator) -> tuple[MotionClip, int]:
        """Draws a recording and a window's first frame."""
        index = min(int(np.searchsorted(self._edges, rng.random())), len(self.clips) - 1)
        return self.clips[index], int(rng.integers(self._starts[index]))


@lru_cache(maxsize=3)
def frame_sampler(split: str) -> FrameSampler:
    """Returns a split's motion, loaded once per process."""
    return FrameSampler(split)


@lru_cache(maxsize=8)
def window_sampler(split: str, span: int) -> WindowSampler:
    """Returns a split's windows, listed once per process."""
    return WindowSampler(split, span)


def poses_at(recording: MotionClip, frames: Float64) -> tuple[Float, Float]:
    """Interpolates a recording.

    Joints turn at a constant rate between two recorded frames, and the root moves on a straight line. Times before the
    first or after the last frame take that frame.

    Args:
        recording: The motion.
        frames: (N,) frame numbers, not necessarily whole.

    Returns:
        Local rotations (N, 24, 3, 3) and root positions (N, 3), metres, y up.
    """
    last = len(recording.rotations) - 1
    place = np.clip(frames, 0, last)
    before = np.minimum(np.floor(place).astype(int), max(last - 1, 0))
    after = np.minimum(before + 1, last)
    share = (place - before).astype(np.float32)
    first = axis_angle_to_matrix(recording.rotations[before])
    step = matrix_to_axis_angle(first.swapaxes(-1, -2) @ axis_angle_to_matrix(recording.rotations[after]))
    rotations = first @ axis_angle_to_matrix(step * share[:, None, None])
    root = recording.root[before] + share[:, None] * (recording.root[after] - recording.root[before])
    return rotations, root.astype(np.float32)

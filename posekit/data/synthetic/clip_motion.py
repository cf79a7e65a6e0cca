"""Windows of recorded motion for clips: which recording, from where, and poses at any moment in between frames."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from posekit.arrays import Float32, Float64
from posekit.body import load_builtin_body, rigid_transforms
from posekit.data.synthetic.motion import FRAME_RATE, FrameSampler, MotionClip, load_continuous_motion
from posekit.errors import UserError
from posekit.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posekit.skeletons import SMPL24

_LIMBS = tuple(SMPL24.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("wrist", "ankle", "elbow"))


class WindowSampler:
    """Draws windows of a split so that rare actions are seen, as ``FrameSampler`` draws frames.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        span: Recorded frames from a window's first to its last.
        key: Recorded frames from a window's first to its key frame.
        fast: How much fast motion is preferred: a window's probability grows with this power of the speed of the
            fastest limb at the key frame, relative to the pelvis.

    Raises:
        UserError: No recording of the split is that long.
    """

    def __init__(self, split: str, span: int, key: int = 0, fast: float = 0.0) -> None:
        recordings = load_continuous_motion(split)
        self.clips = tuple(clip for clip in recordings if len(clip.rotations) > span)
        if not self.clips:
            longest = max(len(clip.rotations) for clip in recordings)
            raise UserError(
                f"SyntheticPeople: (frames - 1) * frame_step is {span}, but the longest recording of {split} has "
                f"{longest} frames: lower frames or frame_step"
            )
        starts = [len(clip.rotations) - span for clip in self.clips]
        actions = [clip.action for clip in self.clips]
        totals = {a: sum(s for s, other in zip(starts, actions, strict=True) if other == a) for a in actions}
        weights = [np.full(s, 1 / np.sqrt(totals[a])) for s, a in zip(starts, actions, strict=True)]
        if fast > 0:
            weights = [w * _limb_speed(c)[key:][: len(w)] ** fast for w, c in zip(weights, self.clips, strict=True)]
        self._edges = np.cumsum(np.concatenate(weights))
        self._first = np.cumsum([0, *starts])

    def draw(self, rng: np.random.Generator) -> tuple[MotionClip, int]:
        """Draws a recording and a window's first frame."""
        place = int(np.searchsorted(self._edges, rng.random() * self._edges[-1]))
        place = min(place, len(self._edges) - 1)
        index = int(np.searchsorted(self._first, place, side="right")) - 1
        return self.clips[index], place - int(self._first[index])


def _limb_speed(clip: MotionClip) -> Float64:
    """Returns (L,) metres a second of the fastest of wrists, elbows and ankles, relative to the pelvis."""
    body = load_builtin_body()
    rest = np.broadcast_to(body.rest(np.zeros(10, np.float32))[1], (len(clip.rotations), 24, 3))
    _, joints = rigid_transforms(axis_angle_to_matrix(clip.rotations), rest, body.parents)
    limbs = joints[:, list(_LIMBS)]
    speed = np.linalg.norm(np.gradient(limbs, axis=0), axis=-1).max(-1) if len(limbs) > 1 else np.zeros(len(limbs))
    return np.asarray(speed * FRAME_RATE, dtype=np.float64)


@lru_cache(maxsize=3)
def frame_sampler(split: str) -> FrameSampler:
    """Returns a split's motion, loaded once per process."""
    return FrameSampler(split)


@lru_cache(maxsize=8)
def window_sampler(split: str, span: int, key: int, fast: float) -> WindowSampler:
    """Returns a split's windows, listed once per process."""
    return WindowSampler(split, span, key, fast)


def poses_at(recording: MotionClip, frames: Float64) -> tuple[Float32, Float32]:
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

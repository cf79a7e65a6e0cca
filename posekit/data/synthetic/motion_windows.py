"""Recorded motion as joint positions: windows of a split's recordings, moved through the built-in body's mean shape."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from posekit.arrays import Float32
from posekit.body import load_builtin_body, rigid_transforms, skin
from posekit.data.synthetic.motion import load_continuous_motion
from posekit.errors import UserError
from posekit.geometry.rotations import axis_angle_to_matrix


@lru_cache(maxsize=6)
def recorded_joints(split: str, skeleton: str) -> tuple[Float32, ...]:
    """Returns each recording's joints (L, K, 3), metres, at 30 frames a second; cut at recording errors.

    The world has z up and is right-handed; x is the recording's x, so the azimuth is arbitrary. The origin is the
    pelvis' place in the first frame.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        skeleton: Joint set.
    """
    body = load_builtin_body()
    regressor = body.regressor(skeleton)
    # Few vertices carry a joint: only those are skinned.
    used = np.flatnonzero(np.abs(regressor).max(0) > 0)
    vertices, rest = body.rest(np.zeros(10, dtype=np.float32))
    result = []
    for clip in load_continuous_motion(split):
        rotations = axis_angle_to_matrix(clip.rotations)
        count = len(rotations)
        world, posed = rigid_transforms(rotations, np.broadcast_to(rest, (count, 24, 3)), body.parents)
        chosen = np.broadcast_to(vertices[used], (count, len(used), 3))
        points = skin(chosen, body.weights[used], world, posed, rest) - rest[0] + clip.root[:, None]
        joints = regressor[:, used] @ points
        result.append(np.stack([joints[..., 0], -joints[..., 2], joints[..., 1]], -1).astype(np.float32))
    return tuple(result)


class MotionWindows:
    """All windows of a split, in the order of the recordings and of time.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        skeleton: Joint set.
        frames: Frames of a window.
        frame_step: Recorded frames from one to the next.
        stride: Recorded frames between the starts of two windows.

    Raises:
        UserError: No recording of the split holds a window.
    """

    def __init__(self, split: str, skeleton: str, frames: int, frame_step: int, stride: int) -> None:
        self.recordings = recorded_joints(split, skeleton)
        self.frames, self.frame_step = frames, frame_step
        span = (frames - 1) * frame_step
        self.starts = [
            (row, start) for row, joints in enumerate(self.recordings) for start in range(0, len(joints) - span, stride)
        ]
        if not self.starts:
            longest = max(map(len, self.recordings))
            raise UserError(
                f"SyntheticPeople: (frames - 1) * frame_step is {span}, but the longest recording of {split} has "
                f"{longest} frames: lower frames or frame_step"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Float32:
        """Returns a window's joints (T, K, 3)."""
        row, start = self.starts[index]
        return self.recordings[row][start :: self.frame_step][: self.frames]

"""Real human motion that ships with the package: cuts of CMU sequences as SMPL-format rotations at 30 frames a second.

The file ``assets/cmu_motion.npz`` (written by ``docs/maintainers/build_motion.py``, acknowledgement beside it) holds
16-bit integers: the axis-angles of the 22 moving joints and the root's path, in units of ``QUANTUM`` (rad or m), coded
as differences from frame to frame, low and high bytes apart, which is what makes a zip archive of them small.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bytes, Float32, Int64
from posekit.geometry.rotations import axis_angle_to_matrix

QUANTUM = 1e-3
FRAME_RATE = 30.0
STORED_JOINTS = tuple(range(22))  # the hands (22, 23) do not move against the wrists


def encode_deltas(values: NDArray[np.int16]) -> tuple[Bytes, Bytes]:
    """Codes values (T, D) as the low and high bytes of their differences along time; 16-bit overflow wraps round."""
    differences = np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))
    words = ((differences.astype(np.int32) << 1) ^ (differences.astype(np.int32) >> 15)).astype(
        np.uint16
    )  # small -> small bytes
    words = np.ascontiguousarray(words.T)
    return (words & 255).astype(np.uint8), (words >> 8).astype(np.uint8)


def decode_deltas(low: Bytes, high: Bytes) -> NDArray[np.int16]:
    """Undoes :func:`encode_deltas`."""
    words = low.astype(np.int32) | (high.astype(np.int32) << 8)
    differences = (words >> 1) ^ -(words & 1)
    return np.cumsum(differences.T, axis=0).astype(np.int16)


@dataclass(frozen=True)
class MotionClip:
    """One continuous recording.

    Attributes:
        name: CMU action and number, e.g. ``"walking_13"``.
        action: The action alone, e.g. ``"walking"``.
        rotations: (T, 24, 3) axis-angle relative to the parent, radians; y up, row 0 = root in the recording's world.
        root: (T, 3) path of the root from its start, metres.
    """

    name: str
    action: str
    rotations: Float32
    root: Float32


@lru_cache(maxsize=1)
def _archive() -> dict[str, NDArray[Any]]:
    path_in_package = files("posekit.data.synthetic") / "assets" / "cmu_motion.npz"
    with as_file(path_in_package) as path, np.load(path) as archive:
        return dict(archive)


@lru_cache(maxsize=3)
def load_motion(split: str) -> tuple[MotionClip, ...]:
    """Loads a split's recordings; train, val and test share none.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    archive = _archive()
    values = decode_deltas(archive["low"], archive["high"]).astype(np.float32) * np.float32(QUANTUM)
    ends = np.cumsum(archive["lengths"])
    clips = []
    for name, label, end, length in zip(archive["names"], archive["splits"], ends, archive["lengths"], strict=True):
        if label != split:
            continue
        rows = values[end - length : end]
        rotations = np.zeros((length, 24, 3), dtype=np.float32)
        rotations[:, STORED_JOINTS] = rows[:, :-3].reshape(length, -1, 3)
        clips.append(MotionClip(str(name), str(name).rsplit("_", 1)[0], rotations, rows[:, -3:]))
    return tuple(clips)


# Some recordings hold a marker error: the body spins about within a few frames. Single frames show plausible poses all
# the same; motion is cut there. Faster than any person in the set turns: rad from one frame to the next.
_ROOT_TURN, _JOINT_TURN = 0.25, 1.2
_SOLID_JOINTS = tuple(j for j in STORED_JOINTS if j not in (0, 7, 8, 10, 11, 20, 21))  # feet and wrists may twitch


def _breaks(rotations: Float32) -> Int64:
    """Returns the frames of (T, 24, 3) at which something other than a moving person begins."""
    matrices = axis_angle_to_matrix(rotations)
    turn = matrices[:-1].swapaxes(-1, -2) @ matrices[1:]
    angle = np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    jumps = (angle[:, 0] > _ROOT_TURN) | (angle[:, list(_SOLID_JOINTS)] > _JOINT_TURN).any(1)
    return np.flatnonzero(jumps) + 1


@lru_cache(maxsize=3)
def load_continuous_motion(split: str) -> tuple[MotionClip, ...]:
    """Loads a split's recordings, cut at recording errors; pieces keep the recording's name.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    pieces = []
    for clip in load_motion(split):
        ends = [0, *_breaks(clip.rotations).tolist(), len(clip.rotations)]
        for start, stop in itertools.pairwise(ends):
            rows = slice(start, stop)
            pieces.append(MotionClip(clip.name, clip.action, clip.rotations[rows], clip.root[rows] - clip.root[start]))
    return tuple(pieces)


class FrameSampler:
    """Draws frames of a split so that rare actions are seen: an action's probability grows with the root of its frames.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
    """

    def __init__(self, split: str) -> None:
        self.clips = load_motion(split)
        actions = sorted({clip.action for clip in self.clips})
        frames = {a: sum(len(c.rotations) for c in self.clips if c.action == a) for a in actions}
        weights = np.array([len(c.rotations) / np.sqrt(frames[c.action]) for c in self.clips])
        self._edges = np.cumsum(weights / weights.sum())

    def clip_index(self, rng: np.random.Generator) -> int:
        """Draws a recording."""
        return min(int(np.searchsorted(self._edges, rng.random())), len(self.clips) - 1)

    def frame(self, rng: np.random.Generator) -> Float32:
        """Draws one frame's local rotations (24, 3, 3), the root's heading taken out (it faces +z on average)."""
        clip = self.clips[self.clip_index(rng)]
        return without_heading(axis_angle_to_matrix(clip.rotations[int(rng.integers(len(clip.rotations)))]))


def without_heading(rotations: Float32) -> Float32:
    """Turns the root (…, 24, 3, 3) about the vertical until the body's front shows along +z."""
    forward = rotations[..., 0, :, 2]
    norm = np.maximum(np.hypot(forward[..., 0], forward[..., 2]), 1e-6)
    sine, cosine = forward[..., 0] / norm, forward[..., 2] / norm
    turn = np.zeros((*sine.shape, 3, 3), dtype=np.float32)
    turn[..., 0, 0] = turn[..., 2, 2] = cosine
    turn[..., 0, 2], turn[..., 2, 0], turn[..., 1, 1] = -sine, sine, 1
    result = rotations.copy()
    result[..., 0, :, :] = turn @ rotations[..., 0, :, :]
    return result

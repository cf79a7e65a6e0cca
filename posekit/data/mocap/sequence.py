"""Recordings of motion capture, and what makes windows of them: cuts at gaps, and another frame rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.arrays import Float32, Float64
from posekit.data.joint_maps import JointSource
from posekit.skeletons import Skeleton

FAR = 1e6  # metres or radians: what is larger is as good as no number
RATES = (1.0, 1000.0)  # frames per second that a recording can have


@dataclass(frozen=True)
class MotionSequence:
    """One recording.

    Attributes:
        name: Of the recording, unique in its data set.
        points: (T, J, 3) metres, world frame with z up, right-handed.
        joints: What the J points are.
        fps: Frames per second.
        nameable: The file's joints, where the option ``joints`` can say which is which.
    """

    name: str
    points: Float64
    joints: JointSource
    fps: float
    nameable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class MotionTrack:
    """A gapless piece of a recording, in a joint set and at a frame rate of one's own.

    Attributes:
        name: Of the recording.
        points: (T, K, 3) float32, metres, z up; zeros where the weight is 0.
        weight: (K,) float32, 0 for joints that the recording lacks.
    """

    name: str
    points: Float32
    weight: Float32


def z_up(points: Float64) -> Float64:
    """Turns points (…, 3) of a world with y up into one with z up: (x, y, z) -> (x, -z, y), a rotation."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def near(values: Float64) -> Float64:
    """Returns values with NaN in place of those that are infinite or absurdly large."""
    return np.where(np.abs(values) < FAR, values, np.nan)


def check_rate(fps: float, fps_wanted: float) -> str | None:
    """Returns what is wrong with a recording's frame rate, or None."""
    if not np.isfinite(fps) or not RATES[0] <= fps <= RATES[1]:
        return f"has a frame rate of {fps:g} per second, which cannot be (expected {RATES[0]:g} to {RATES[1]:g})"
    if fps < 0.99 * fps_wanted:
        return f"has {fps:g} frames per second, fewer than the {fps_wanted:g} that are asked for (option fps)"
    return None


def gapless(points: Float64, fps: float, max_speed: float) -> list[slice]:
    """Cuts a recording where a point is no number or the body jumps.

    Args:
        points: (T, K, 3) metres.
        fps: Frames per second.
        max_speed: Metres per second of the points' mean, above which two neighbours do not belong together.

    Returns:
        The pieces, in order.
    """
    good = np.asarray(np.isfinite(points).all((1, 2)))
    if not good.any():
        return []
    center = np.where(good[:, None], np.nan_to_num(points).mean(1), 0.0)
    jump = np.linalg.norm(np.diff(center, axis=0), axis=-1) * fps > max_speed
    edges = ~good[1:] | ~good[:-1] | jump
    starts = np.flatnonzero(np.r_[True, edges])
    ends = np.r_[starts[1:], len(points)]
    return [slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if good[a]]


def resample(points: Float64, fps: float, fps_wanted: float) -> Float64:
    """Brings points (T, …) to another frame rate: every so many frames, or between two of them by linear interpolation.

    The last frame is the last one that lies within the recording.
    """
    step = fps / fps_wanted
    count = int(np.floor((len(points) - 1) / step + 1e-6)) + 1 if len(points) else 0
    times = np.minimum(np.arange(count) * step, len(points) - 1)
    times = np.where(np.abs(times - np.rint(times)) < 1e-6, np.rint(times), times)
    before = np.floor(times).astype(np.int64)
    share = (times - before).reshape(-1, *[1] * (points.ndim - 1))
    after = np.minimum(before + 1, max(len(points) - 1, 0))
    return np.where(share > 0, (1 - share) * points[before] + share * points[after], points[before])


def to_tracks(
    sequence: MotionSequence, skeleton: Skeleton, fps: float, max_speed: float
) -> tuple[list[MotionTrack], int]:
    """Brings a recording to a joint set and a frame rate.

    Args:
        sequence: The recording.
        skeleton: The joint set; joints that the recording lacks get weight 0.
        fps: Frames per second wanted.
        max_speed: See :func:`gapless`.

    Returns:
        The pieces, and how many frames were dropped because a point is no number.
    """
    mapped = sequence.joints.map_to(skeleton)
    present = mapped.present
    given = near(sequence.points)
    # A joint that is no number spoils only the joints that are made of it.
    needed = np.einsum("kj,tjc->tkc", mapped.matrix != 0, ~np.isfinite(given)) > 0
    points = np.where(needed, np.nan, mapped.matrix @ np.nan_to_num(given))
    pieces = gapless(points[:, present], sequence.fps, max_speed)
    weight = present.astype(np.float32)
    tracks = [
        MotionTrack(sequence.name, resample(points[piece], sequence.fps, fps).astype(np.float32), weight)
        for piece in pieces
    ]
    return tracks, len(sequence) - sum(piece.stop - piece.start for piece in pieces)

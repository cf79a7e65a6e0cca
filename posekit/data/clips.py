"""Clips of people cut out of videos: tracks, windows over them, and the data set that crops the frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Track:
    """One person followed through one video: N rows in the order of time, gaps allowed.

    Attributes:
        name: Sequence and person, for messages.
        read: Returns a frame as RGB bytes (H, W, 3) by its image row.
        image_rows: (N,) what ``read`` is called with.
        frames: (N,) number of the frame in the video, increasing.
        image_ids: (N,)
        sample_ids: (N,) unique in the split; a window takes the one of its key row.
        boxes: (N, 4) xywh, original px.
        box_scores: (N,)
        joints: (N, K, 3) x, y, visible, original px, in the data module's joint set.
        keys: (N,) whether a row may be a key frame (labelled frames).
        joints3d: (N, K, 3) metres, camera frame; None where the data set has none.
        joints3d_weight: (N, K); None stands for ones.
        body_pose: (N, 24, 3) axis-angle, root in the camera's frame.
        body_shape: (N, 10)
        body_weight: (N,); None stands for ones where ``body_pose`` is given.
        body_translation: (N, 3) metres.
        camera: (N, 3, 3) pinhole intrinsics, original px.
        fps: Frames per second; None where the files do not say.
    """

    name: str
    read: Callable[[int], NDArray[np.uint8]]
    image_rows: Int
    frames: Int
    image_ids: Int
    sample_ids: Int
    boxes: Float
    box_scores: Float
    joints: Float
    keys: NDArray[np.bool_]
    joints3d: Float | None = None
    joints3d_weight: Float | None = None
    body_pose: Float | None = None
    body_shape: Float | None = None
    body_weight: Float | None = None
    body_translation: Float | None = None
    camera: Float | None = None
    fps: float | None = None

"""Frames of a recording: a folder of pictures or a video, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from posekit.arrays import Bytes, Int64
from posekit.data.images import read_image
from posekit.data.video import VideoReader, open_capture
from posekit.errors import UserError
from posekit.files import is_there

FrameReader = Callable[[int], Bytes]


class MediaError(UserError):
    """Pictures or a video are absent or broken; the option ``on_broken_image`` says what then."""


class FrameFolder:
    """Gives the pictures of a folder by number.

    Args:
        folder: The folder.
        pattern: File name with one ``%d`` for the number, e.g. ``"image_%05d.jpg"``.
        offset: What to add to a row to get its number: 1 where files count from 1.
    """

    def __init__(self, folder: Path, pattern: str, offset: int = 0) -> None:
        self.folder = folder
        self.pattern = pattern
        self.offset = offset

    def __call__(self, row: int) -> Bytes:
        """Reads a picture.

        Raises:
            UserError: It is absent or broken.
        """
        return read_image(self.folder / self.name(row))

    def name(self, row: int) -> str:
        """Returns a row's file name."""
        return self.pattern % (row + self.offset)

    def absent(self, rows: Int64) -> Int64:
        """Returns the rows whose files are not there."""
        try:
            there = {entry.name for entry in os.scandir(self.folder)}
        except OSError:
            there = set()
        return np.array([row for row in rows.tolist() if self.name(row) not in there], dtype=np.int64)


class LazyVideo(VideoReader):
    """A video that is not looked at before its first frame is wanted.

    Frames are decoded from the start, so that numbers are exact; reading in order is fast, jumping in a long video is
    not. Pictures in a folder are better for training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        self.count = 0


def video_fault(path: Path, frames: int = 1) -> str | None:
    """Looks at a video's head, which takes milliseconds.

    Args:
        path: The file.
        frames: How many frames the labels speak of.

    Returns:
        What is wrong, or None. Damage behind the head only shows when frames are decoded.
    """
    if not is_there(path):
        return "does not exist"
    if not path.stat().st_size:
        return "is empty (0 bytes)"
    capture = open_capture(path)
    try:
        if not capture.isOpened() or not capture.grab():
            return "has no frame that can be decoded"
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return f"has {count} frames, but labels for {frames}" if 0 < count < frames else None
    finally:
        capture.release()


def open_frames(
    name: str,
    rows: Int64,
    folders: Iterable[tuple[Path, Sequence[str]]],
    video: Path | None = None,
    offset: int = 0,
    verify: bool = True,
) -> FrameReader:
    """Finds a recording's pictures: the first folder that is there, else the video.

    Args:
        name: Of the recording, for messages.
        rows: (N,) rows that will be read, from 0.
        folders: Folders to look in, and the file patterns to try in each.
        video: The video.
        offset: Number of row 0's picture.
        verify: Look whether all pictures are there, or at the video's head.

    Raises:
        MediaError: There is neither, or some are absent or broken.
    """
    looked = []
    for folder, patterns in folders:
        for pattern in patterns:
            reader = FrameFolder(folder, pattern, offset)
            looked.append(folder / pattern)
            if not len(rows) or not is_there(folder / reader.name(int(rows[0]))):
                continue
            absent = reader.absent(rows) if verify else rows[:0]
            if len(absent):
                first = folder / reader.name(int(absent[0]))
                raise MediaError(f"{name}: {len(absent)} of {len(rows)} pictures do not exist, e.g. {first}")
            return reader
    if video is None or (not is_there(video) and looked):
        places = ", ".join(str(path) for path in [*looked, *([video] if video else [])])
        raise MediaError(f"{name} has no pictures: none of {places} is there")
    reason = video_fault(video, int(rows.max()) + 1 if len(rows) else 1) if verify or not is_there(video) else None
    if reason is not None:
        raise MediaError(f"{name}: video {video} {reason}")
    return LazyVideo(video)

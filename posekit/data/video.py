"""Frames of a video by number, exact and without surprises from seeking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError

# FFmpeg's own remarks stay off; what is wrong is said below. OpenCV looks at this once, when it first needs FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def open_capture(path: Path) -> cv2.VideoCapture:
    """Opens a video without remarks of OpenCV; whether that worked, ``isOpened`` tells."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # Of OpenCV's readers FFmpeg's alone: another one takes "img_01.jpg" for a numbered sequence.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    return capture


class VideoReader:
    """Gives the frames of a video: RGB bytes (H, W, 3) by frame number.

    Frames are counted by decoding from the start: the number in a file's header is often wrong, and so is seeking in
    many formats. Going forward skips frames without converting them; going back starts over. Turned as the file says.

    Args:
        path: The file.

    Raises:
        UserError: OpenCV finds no frame in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        capture = self._open()
        self.fps: float | None = float(capture.get(cv2.CAP_PROP_FPS)) or None
        self.count = 0
        while capture.grab():
            self.count += 1
        capture.release()
        if not self.count:
            raise UserError(f"video {self.path} has no frame that can be decoded")
        self._state: tuple[int, cv2.VideoCapture, int] | None = None  # process, capture, number of the next frame
        self._last: tuple[int, NDArray[np.uint8]] | None = None
        self._size: tuple[int, int] | None = None

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self.path)
        if not capture.isOpened():
            raise UserError(f"{self.path} is neither a picture nor a video that OpenCV can read")
        return capture

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Reads a frame.

        Raises:
            UserError: It cannot be decoded.
        """
        if self._last is None or self._last[0] != row:
            self._last = (row, self._read(row))
        return self._last[1]

    def size(self, _: int = 0) -> tuple[int, int]:
        """Returns W, H in px, which all frames have.

        Raises:
            UserError: The first frame cannot be decoded.
        """
        if self._size is None:
            capture = self._open()  # of its own, so that reading goes on from where it was
            done, pixels = capture.read()
            capture.release()
            if not done or pixels is None:
                raise UserError(f"video {self.path}: frame 0 cannot be decoded")
            self._size = (pixels.shape[1], pixels.shape[0])
        return self._size

    def _read(self, row: int) -> NDArray[np.uint8]:
        # A forked loader process must not share its parent's position in the file.
        if self._state is None or self._state[0] != os.getpid() or self._state[2] > row:
            self._state = (os.getpid(), self._open(), 0)
        process, capture, position = self._state
        while position < row and capture.grab():
            position += 1
        done, pixels = capture.read() if position == row else (False, None)
        if not done or pixels is None:
            self._state = None
            raise UserError(f"video {self.path}: frame {row} cannot be decoded")
        self._state = (process, capture, row + 1)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what cannot travel to another process."""
        return self.__dict__ | {"_state": None, "_last": None}

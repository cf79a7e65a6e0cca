"""Frames of a video by number, exact and without surprises from seeking."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from threading import RLock
from typing import Any

import cv2
import numpy as np

from posekit.arrays import Bytes
from posekit.data.opencv_log import set_opencv_log, silence_opencv
from posekit.data.recent import Recent
from posekit.errors import UserError

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
)  # fmt: skip
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # of MP4, MOV and 3GP files

log = logging.getLogger(__name__)

# FFmpeg's own remarks stay off; what is wrong is said below. OpenCV looks at this once, when it first needs FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_OPEN = Recent()
_LOCK = RLock()


def _before_fork() -> None:
    # An inherited capture can be neither read nor closed: both wait for decoder threads that the child does not have.
    _LOCK.acquire()
    _OPEN.close_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


def open_capture(path: Path) -> cv2.VideoCapture:
    """Opens a video without remarks of OpenCV; whether that worked, ``isOpened`` tells."""
    level = silence_opencv()
    # Of OpenCV's readers FFmpeg's alone: another one takes "img_01.jpg" for a numbered sequence.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    set_opencv_log(level)
    return capture


def _ends_early(path: Path) -> bool:
    """Tells whether a file is shorter than the sizes in it say, as far as AVI, MP4, MOV and 3GP tell."""
    at, length = 0, path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] == b"RIFF":
            return length < 8 + int.from_bytes(head[4:8], "little") < 2**32  # all ones: not known
        boxes = head[4:8] in _FIRST_BOXES
        while boxes and at < length:
            file.seek(at)
            head = file.read(16)
            size = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
            boxes = size >= 8  # 0: up to the file's end
            at += size
    return boxes and at > length


class VideoReader:
    """Gives the frames of a video: RGB bytes (H, W, 3) by frame number.

    Frames are counted by decoding from the start: the number in a file's header is often wrong, and so is seeking in
    many formats. Going forward skips frames without converting them; going back starts over. Turned as the file says.
    The last frame is kept. A process has few videos open at a time; one that gives way to others starts over, too.

    Args:
        path: The file.

    Raises:
        UserError: OpenCV finds no frame in it.
    """

    _state: tuple[cv2.VideoCapture, int] | None = None  # the capture, and the number of its next frame
    _last: tuple[int, Bytes] | None = None
    _size: tuple[int, int] | None = None

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        capture = self._open()
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps: float | None = float(capture.get(cv2.CAP_PROP_FPS)) or None
        self.count = 0
        while capture.grab():
            self.count += 1
        capture.release()
        if not self.count:
            raise UserError(f"video {self.path} has no frame that can be decoded")
        if promised - self.count > max(5, promised // 20):  # a header is often wrong by a few
            # Intact films are short of their header, too: frames outside an edit list are not shown, and the header
            # of a film of variable rate counts at the highest one.
            text = "video %s has %d frames; its header says %d, as trimmed or variable-rate films do, or it is cut off"
            if _ends_early(self.path):
                text = "video %s is damaged: %d frames can be decoded of the %d that its header promises"
            log.warning(text, self.path, self.count, promised)

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self.path)
        if not capture.isOpened():
            try:
                self.path.open("rb").close()
            except OSError as error:
                raise UserError(f"video {self.path} cannot be opened ({error.strerror})") from None
            raise UserError(f"{self.path} is neither a picture nor a video that OpenCV can read")
        return capture

    def __call__(self, row: int) -> Bytes:
        """Reads a frame.

        Raises:
            UserError: It cannot be decoded.
        """
        with _LOCK:
            if self._last is None or self._last[0] != row:
                self._last = (row, self._read(row))
            return self._last[1]

    def close(self) -> None:
        """Closes the file and forgets the last frame; reading opens it again."""
        if self._state is not None:
            self._state[0].release()
        self._state = self._last = None

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

    def _read(self, row: int) -> Bytes:
        _OPEN.use(self)  # others give way before this one opens
        if self._state is None or self._state[1] > row:
            self.close()
            self._state = (self._open(), 0)
        capture, position = self._state
        while position < row and capture.grab():
            position += 1
        done, pixels = capture.read() if position == row else (False, None)
        if not done or pixels is None:
            self.close()
            raise UserError(f"video {self.path}: frame {row} cannot be decoded")
        self._state = (capture, row + 1)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what cannot travel to another process."""
        return self.__dict__ | {"_state": None, "_last": None}

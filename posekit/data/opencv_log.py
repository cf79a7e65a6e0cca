"""What OpenCV prints of its own accord: nothing, since the errors raised here say what is wrong with a file."""

from __future__ import annotations

import cv2

_SILENT = 0


def silence_opencv() -> int:
    """Turns off OpenCV's remarks, and returns the level that was set before."""
    return set_opencv_log(_SILENT)


def set_opencv_log(level: int) -> int:
    """Sets the level of OpenCV's remarks (0: none, 6: all), and returns the one before.

    OpenCV 5 has the function in ``cv2.utils.logging``, OpenCV 4 in ``cv2``.
    """
    owner = getattr(cv2.utils, "logging", cv2)
    return int(owner.setLogLevel(level))

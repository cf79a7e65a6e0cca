"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2

from posekit.arrays import Bytes
from posekit.files import atomic_write_bytes

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]


def write_picture(path: Path, image: Bytes) -> None:
    """Writes a picture, whole or not at all; its folder is made if need be.

    Args:
        path: The file, ``.jpg`` or ``.png``.
        image: (H, W, 3) uint8 RGB.

    Raises:
        OSError: It cannot be written.
    """
    options = _QUALITY if path.suffix == ".jpg" else []
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    atomic_write_bytes(path, encoded.tobytes())

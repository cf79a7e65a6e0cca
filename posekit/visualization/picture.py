"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2

from posekit.arrays import Bytes
from posekit.errors import one_of
from posekit.files import atomic_write_bytes
from posekit.visualization.draw import drawable

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
_OPTIONS: dict[str, list[int]] = {".jpg": _QUALITY, ".jpeg": _QUALITY, ".png": []}


def write_picture(path: str | Path, image: Bytes) -> None:
    """Writes a picture, whole or not at all; its folder is made if need be.

    Args:
        path: The file, ``.jpg``, ``.jpeg`` or ``.png``.
        image: (H, W, 3) uint8 RGB.

    Raises:
        UserError: The name ends otherwise, or the picture is of another type or shape.
        OSError: It cannot be written.
    """
    suffix = one_of("kind of picture file", Path(path).suffix.lower(), _OPTIONS)
    picture = cv2.cvtColor(drawable(image, "write_picture"), cv2.COLOR_RGB2BGR)
    atomic_write_bytes(path, cv2.imencode(suffix, picture, _OPTIONS[suffix])[1].tobytes())

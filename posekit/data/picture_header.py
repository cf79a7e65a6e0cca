"""Size and orientation of pictures, read from the heads of their files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from posekit.arrays import Bytes

JPEG, PNG, TIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments that hold a JPEG's size
_APP1, _SCAN = 0xE1, 0xDA
_ORIENTATION = 0x0112
_FLIPS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # steps along rows and columns, of orientations 1 to 4 and 5 to 8


class PictureHeader(NamedTuple):
    """What the head of a file says.

    Attributes:
        size: W, H in px as stored.
        orientation: Of its EXIF: 1 to 8, 1 if nothing is said; from 5 on rows and columns are exchanged.
    """

    size: tuple[int, int]
    orientation: int

    def size_as_read(self, apply_exif: bool) -> tuple[int, int]:
        """Returns W, H in px of the picture, turned as its orientation says or as stored."""
        return self.size[::-1] if apply_exif and self.orientation > 4 else self.size


def read_header(file: BinaryIO) -> PictureHeader | None:
    """Returns what the head of a JPEG or PNG says; None for other and broken files."""
    file.seek(0)
    start = file.read(8)
    if start.startswith(JPEG):
        return _read_jpeg(file)
    return _read_png(file) if start == PNG else None


def orientation_of(path: Path) -> int:
    """Returns the EXIF orientation of a JPEG, PNG or TIFF file; 1 where there is none, or no such file."""
    try:
        with path.open("rb") as file:
            if file.read(4) in TIFF:
                file.seek(0)
                return tiff_orientation(file.read())
            header = read_header(file)
    except (OSError, ValueError):
        return 1
    return header.orientation if header else 1


def tiff_orientation(content: bytes) -> int:
    """Returns the orientation that a TIFF says, which EXIF data are too; 1 if nothing is said."""
    if not content.startswith(TIFF):
        return 1
    order: Literal["little", "big"] = "little" if content[:1] == b"I" else "big"
    start = int.from_bytes(content[4:8], order)
    count = int.from_bytes(content[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * count, len(content)), 12):
        if int.from_bytes(content[at : at + 2], order) == _ORIENTATION:
            value = int.from_bytes(content[at + 8 : at + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def turned_back(image: Bytes, orientation: int) -> Bytes:
    """Returns a picture (H, W, C), or (W, H, C) from 5 on, as it was before it was turned by an orientation."""
    rows, columns = _FLIPS[(orientation - 1) % 4]
    image = image[::rows, ::columns]
    return np.ascontiguousarray(image.swapaxes(0, 1) if orientation > 4 else image)


def _read_jpeg(file: BinaryIO) -> PictureHeader | None:
    file.seek(2)
    orientation: int | None = None
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:], "big") - 2
        if marker == 0xFF:  # a fill byte
            file.seek(-3, 1)
            continue
        if length < 0 or marker == _SCAN:
            return None
        if marker in _FRAMES:
            frame = file.read(5)
            height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            return PictureHeader((width, height), orientation or 1) if width and height else None
        if marker == _APP1 and orientation is None:
            body = file.read(length)
            orientation = tiff_orientation(body[6:]) if body.startswith(b"Exif\0\0") else None
        else:
            file.seek(length, 1)
    return None


def _read_png(file: BinaryIO) -> PictureHeader | None:
    size: tuple[int, int] | None = None
    orientation = 1
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IHDR":
            body = file.read(length)
            size = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        elif kind == b"eXIf":
            orientation = tiff_orientation(file.read(length))
        else:
            file.seek(length, 1)
        file.seek(4, 1)  # the chunk's checksum
    return PictureHeader(size, orientation) if size and all(size) else None

"""Reading pictures: one clear error for whatever is wrong with the file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from posekit.arrays import Bytes
from posekit.data.opencv_log import silence_opencv
from posekit.data.picture_header import (
    JPEG,
    PNG,
    TIFF,
    orientation_of,
    read_header,
    tiff_orientation,
    turned_back,
)
from posekit.errors import UserError, listed

log = logging.getLogger(__name__)

# What OpenCV prints of a broken file is said by the errors below.
silence_opencv()

_OTHERS = (b"BM", b"GIF8", b"RIFF", *TIFF)
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", 0xDA


def read_image(path: str | Path, apply_exif: bool = False) -> Bytes:
    """Reads a picture as RGB bytes (H, W, 3); grey, CMYK, 16-bit and transparent ones are converted.

    Args:
        path: The file.
        apply_exif: Turn the picture as its EXIF orientation says. Annotations of COCO count pixels as they are stored,
            so data sets leave it off; pictures of a camera need it. JPEG, PNG, TIFF and, by OpenCV 5, WebP.

    Raises:
        UserError: The file is absent, empty, cut short or no picture.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"image {path}: {_why(path, error)}") from None
    reason = _fault(content)
    if reason is not None:
        raise UserError(f"image {path}: {reason}")
    return _decode(path, content, apply_exif)


def require_picture(picture: object) -> None:
    """Refuses what ``predict`` of a method cannot take for a picture in memory.

    Raises:
        UserError: It is no (H, W, 3) uint8 array.
    """
    if isinstance(picture, str | Path):
        raise UserError(
            f"predict takes uint8 RGB pictures (H, W, 3), not the file name {str(picture)!r}: read it by "
            "posekit.data.images.read_image"
        )
    if not isinstance(picture, np.ndarray):
        raise UserError(f"predict takes uint8 RGB pictures (H, W, 3), not a {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise UserError(f"predict takes uint8 RGB pictures (H, W, 3), not {picture.dtype} of shape {picture.shape}")


def _decode(path: Path, content: bytes, apply_exif: bool) -> Bytes:
    flags = cv2.IMREAD_COLOR | (0 if apply_exif else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # e.g. more pixels than OpenCV's limit
        raise UserError(f"image {path}: cannot be decoded ({str(error.err).strip()})") from None
    if pixels is None:
        known = content.startswith((JPEG, PNG, *_OTHERS))
        reason = "cannot be decoded: its data are broken, cut short or of a kind unknown to OpenCV"
        raise UserError(f"image {path}: {reason if known else 'is no picture that OpenCV can read'}")
    image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    # OpenCV turns a TIFF in any case.
    return image if apply_exif or not content.startswith(TIFF) else turned_back(image, tiff_orientation(content))


def check_image_files(
    paths: Iterable[Path], sizes: Iterable[Sequence[int]] | None = None, apply_exif: bool = False
) -> dict[Path, str]:
    """Looks at the head and the tail of picture files, which takes well under a millisecond each.

    Args:
        paths: The files.
        sizes: W, H in px that the annotations say of each, 0 where they do not. JPEG and PNG files are compared with
            them; the heads of other files do not say their size.
        apply_exif: Compare the sizes of pictures turned as their EXIF orientation says.

    Returns:
        Reasons by path for the files that are absent, empty, cut short, no picture or of another size. Damage in
        between only shows when a file is decoded.
    """
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        files = list(paths)
        reasons = pool.map(_check_file, files, repeat((0, 0)) if sizes is None else sizes, repeat(apply_exif))
        return {path: reason for path, reason in zip(files, reasons, strict=True) if reason}


def size_fault(path: Path, size: Sequence[int], wanted: Sequence[int], apply_exif: bool = False) -> str | None:
    """Returns that a picture has another size than its annotations say, or None.

    Args:
        path: The file, whose orientation tells whether the other choice of ``apply_exif`` would mend it.
        size: W, H in px as it is read.
        wanted: W, H in px of the annotations; 0 where they do not say.
        apply_exif: How it is read.
    """
    (width, height), (w, h) = size, wanted
    if not (w and h) or (width, height) == (w, h):
        return None
    reason = f"is {width} x {height} px, the annotations say {w} x {h}"
    if (height, width) == (w, h) and orientation_of(path) > 4:
        turned = "it is stored as" if apply_exif else "its EXIF orientation turns it to"
        reason += f"; {turned} {w} x {h}: --data.apply_exif {str(not apply_exif).lower()}"
    return reason


def report_broken(owner: str, broken: Mapping[Path, str], total: int, on_broken_image: str, where: str = "") -> None:
    """Refuses pictures that cannot be read, or warns that they are left out: counted, and the first ones named.

    Args:
        owner: Class of the data module.
        broken: Reasons by path.
        total: Pictures that were looked at.
        on_broken_image: ``"error"`` or ``"skip"``.
        where: Which pictures they are, e.g. ``" of split train"``.

    Raises:
        UserError: There are broken pictures and they are not to be skipped, or nothing else is left.
    """
    if not broken:
        return
    first = listed([f"{path} {reason}" for path, reason in broken.items()])
    if total == 1:
        raise UserError(f"{owner}: image {first}")
    count = f"{len(broken)} of {total} images{where}"
    if on_broken_image == "error" or len(broken) == total:
        hint = "" if len(broken) == total else ". --data.on_broken_image=skip leaves them out."
        raise UserError(f"{owner}: {count} are absent or broken: {first}{hint}")
    log.warning("%s: left out %s, which are absent or broken: %s", owner, count, first)


def _check_file(path: Path, wanted: Sequence[int], apply_exif: bool) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if head.startswith((JPEG, PNG)):
                return _check_known(path, file, head.startswith(PNG), wanted, apply_exif)
    except (OSError, UnicodeEncodeError) as error:
        return _why(path, error)
    if not head:
        return "is empty (0 bytes)"
    return None if opencv_reads(path) else "is no picture that OpenCV can read"


def opencv_reads(path: Path) -> bool:
    """Tells whether OpenCV takes a file for a picture, by its first bytes."""
    return opencv_takes_name(path) and cv2.haveImageReader(str(path))


def opencv_takes_name(path: Path) -> bool:
    """Tells whether a file's name is text: OpenCV crashes on the names of others."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_known(path: Path, file: BinaryIO, is_png: bool, wanted: Sequence[int], apply_exif: bool) -> str | None:
    """Returns what is wrong with a JPEG or PNG file as far as head and tail tell."""
    if is_png:  # its end may be anywhere, as may its orientation
        file.seek(0)
        file = BytesIO(file.read())
    header = read_header(file) if all(wanted) else None  # before the tail: the head is still in the buffer
    file.seek(-2, 2)
    if is_png or file.read(2) != _JPEG_END:
        file.seek(0)
        reason = _fault(file.read())
        if reason is not None:
            return reason
    return None if header is None else size_fault(path, header.size_as_read(apply_exif), wanted, apply_exif)


def _why(path: Path, error: OSError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "has a name that no file can have"
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return "is a folder" if isinstance(error, IsADirectoryError) else f"cannot be read ({error.strerror})"


def _fault(content: bytes) -> str | None:
    """Returns what is wrong with a file's bytes as far as its frame tells. OpenCV decodes cut JPEGs without a word."""
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(JPEG) and content.find(_JPEG_END, _scan_start(content)) < 0:
        return f"is cut short: its {len(content)} bytes end in the middle of the picture"
    if content.startswith(PNG) and b"IEND" not in content:
        return f"is cut short: its {len(content)} bytes end in the middle of the picture"
    return None


def _scan_start(content: bytes) -> int:
    """Returns where a JPEG's picture data begin; thumbnails in the segments before have end marks of their own."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _JPEG_SCAN:
            return at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return min(at, len(content))
